extension ElementType {
  /// The types that a safetensors header can name, in the reference implementation's order of alignment, which
  /// decides the order of tensors in a file.
  static let safetensorsOrder: [ElementType] = [
    .bool, .f4e2m1, .f6e2m3, .f6e3m2, .u8, .i8, .f8e5m2, .f8e4m3, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz,
    .i16, .u16, .f16, .bf16, .i32, .u32, .f32, .c64, .f64, .i64, .u64,
  ]

  private static let bySafetensorsName: [String: ElementType] = .init(
    uniqueKeysWithValues: safetensorsOrder.map { ($0.displayName, $0) })

  private static let safetensorsRanks: [ElementType: Int] = .init(
    uniqueKeysWithValues: safetensorsOrder.enumerated().map { ($1, $0) })

  /// `F32`, `BF16`, …: case matters.
  init?(safetensorsName name: String) {
    guard let type = Self.bySafetensorsName[name] else { return nil }
    self = type
  }

  /// The position in ``safetensorsOrder``; nil for types that safetensors cannot hold.
  var safetensorsRank: Int? { Self.safetensorsRanks[self] }
}
