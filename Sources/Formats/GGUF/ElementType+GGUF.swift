extension ElementType {
  /// The type number in a GGUF file (`enum ggml_type`); nil for types that GGUF cannot hold.
  package var ggmlNumber: Int32? {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q4_0: 2
    case .q4_1: 3
    case .q5_0: 6
    case .q5_1: 7
    case .q8_0: 8
    case .q8_1: 9
    case .q2K: 10
    case .q3K: 11
    case .q4K: 12
    case .q5K: 13
    case .q6K: 14
    case .q8K: 15
    case .iq2XXS: 16
    case .iq2XS: 17
    case .iq3XXS: 18
    case .iq1S: 19
    case .iq4NL: 20
    case .iq3S: 21
    case .iq2S: 22
    case .iq4XS: 23
    case .i8: 24
    case .i16: 25
    case .i32: 26
    case .i64: 27
    case .f64: 28
    case .iq1M: 29
    case .bf16: 30
    case .tq1_0: 34
    case .tq2_0: 35
    case .mxfp4: 39
    case .nvfp4: 40
    case .q1_0: 41
    case .q2_0: 42
    case .bool, .f4e2m1, .f6e2m3, .f6e3m2, .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .u8, .u16, .u32,
      .u64, .c64:
      nil
    }
  }

  private static let byGGMLNumber: [Int32: ElementType] = .init(
    uniqueKeysWithValues: allCases.compactMap { type in type.ggmlNumber.map { ($0, type) } })

  init?(ggmlNumber number: Int32) {
    guard let type = Self.byGGMLNumber[number] else { return nil }
    self = type
  }

  static let largestGGMLNumber: Int32 = 42

  /// The names of numbers that ggml no longer uses: two early types, and types repacked for one processor each.
  static func removedGGMLName(ofNumber number: Int32) -> String? {
    switch number {
    case 4: "Q4_2"
    case 5: "Q4_3"
    case 31: "Q4_0_4_4"
    case 32: "Q4_0_4_8"
    case 33: "Q4_0_8_8"
    case 36: "IQ4_NL_4_4"
    case 37: "IQ4_NL_4_8"
    case 38: "IQ4_NL_8_8"
    default: nil
    }
  }
}
