/// A way to store the elements of a tensor: the element types of safetensors and PyTorch, and the block types of ggml.
///
/// Elements come in blocks of `elementsPerBlock` that take `bitsPerBlock` bits; for everything but the ggml types a
/// block is one element.
///
///     conversion.type = .bf16
public enum ElementType: String, Sendable, Encodable, CaseIterable {
  case bool
  case f4e2m1, f6e2m3, f6e3m2
  case f8e4m3, f8e5m2, f8e8m0, f8e4m3fnuz, f8e5m2fnuz
  case i8, i16, i32, i64
  case u8, u16, u32, u64
  case f16, bf16, f32, f64
  case c64
  // ggml's own spelling: q4_0 and q40 would be two things.
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q4_0, q4_1, q5_0, q5_1, q8_0, q8_1
  case q2K, q3K, q4K, q5K, q6K, q8K
  case iq1S, iq1M, iq2XXS, iq2XS, iq2S, iq3XXS, iq3S, iq4NL, iq4XS
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case tq1_0, tq2_0, mxfp4, nvfp4, q1_0, q2_0

  package var elementsPerBlock: Int {
    switch self {
    case .bool, .f4e2m1, .f6e2m3, .f6e3m2, .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz,
      .i8, .i16, .i32, .i64, .u8, .u16, .u32, .u64, .f16, .bf16, .f32, .f64, .c64:
      1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q8_1, .iq4NL, .mxfp4: 32
    case .nvfp4, .q2_0: 64
    case .q1_0: 128
    case .q2K, .q3K, .q4K, .q5K, .q6K, .q8K, .iq1S, .iq1M, .iq2XXS, .iq2XS, .iq2S, .iq3XXS, .iq3S, .iq4XS,
      .tq1_0, .tq2_0:
      256
    }
  }

  package var bitsPerBlock: Int {
    switch self {
    case .f4e2m1: 4
    case .f6e2m3, .f6e3m2: 6
    case .bool, .f8e4m3, .f8e5m2, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .i8, .u8: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .i64, .u64, .f64, .c64: 64
    case .q4_0, .iq4NL, .q1_0, .q2_0: 18 * 8
    case .q4_1: 20 * 8
    case .q5_0: 22 * 8
    case .q5_1: 24 * 8
    case .q8_0: 34 * 8
    case .q8_1: 36 * 8
    case .mxfp4: 17 * 8
    case .nvfp4: 36 * 8
    case .q2K: 84 * 8
    case .q3K, .iq3S: 110 * 8
    case .q4K: 144 * 8
    case .q5K: 176 * 8
    case .q6K: 210 * 8
    case .q8K: 292 * 8
    case .iq1S: 50 * 8
    case .iq1M: 56 * 8
    case .iq2XXS: 66 * 8
    case .iq2XS: 74 * 8
    case .iq2S: 82 * 8
    case .iq3XXS: 98 * 8
    case .iq4XS: 136 * 8
    case .tq1_0: 54 * 8
    case .tq2_0: 66 * 8
    }
  }

  /// The bytes that `elementCount` elements take, or nil where the count overflows or does not end on a whole byte
  /// and a whole block.
  package func byteCount(ofElements elementCount: Int) -> Int? {
    guard elementCount >= 0, elementCount % elementsPerBlock == 0 else { return nil }
    let (bits, overflow) = (elementCount / elementsPerBlock).multipliedReportingOverflow(by: bitsPerBlock)
    return overflow || bits % 8 != 0 ? nil : bits / 8
  }

  /// The name of the type as people write it: `F32`, `BF16`, `Q8_0`, `Q4_K`.
  package var displayName: String {
    switch self {
    case .q2K, .q3K, .q4K, .q5K, .q6K, .q8K: rawValue.dropLast().uppercased() + "_K"
    case .iq1S, .iq1M, .iq2S, .iq3S: rawValue.dropLast().uppercased() + "_" + rawValue.suffix(1)
    case .iq2XS, .iq4NL, .iq4XS: rawValue.dropLast(2).uppercased() + "_" + rawValue.suffix(2)
    case .iq2XXS, .iq3XXS: rawValue.dropLast(3).uppercased() + "_" + rawValue.suffix(3)
    case .f4e2m1: "F4"
    case .f6e2m3: "F6_E2M3"
    case .f6e3m2: "F6_E3M2"
    case .f8e4m3: "F8_E4M3"
    case .f8e5m2: "F8_E5M2"
    case .f8e8m0: "F8_E8M0"
    case .f8e4m3fnuz: "F8_E4M3FNUZ"
    case .f8e5m2fnuz: "F8_E5M2FNUZ"
    default: rawValue.uppercased()
    }
  }
}
