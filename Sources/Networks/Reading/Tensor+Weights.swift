import NormFoldFormats

extension Tensor {
  /// The refusal of the first element that is no finite number; nil where all are.
  package func nonFiniteRefusal() -> Refusal? {
    for (index, value) in decoded(as: Double.self).enumerated() where !value.isFinite {
      // What F16 cannot hold becomes infinity when it is saved.
      if info.type == .f16, value.isInfinite {
        return Refusal(
          .nonFinite, file: file.path, subject: name, "element \(index) is \(value), and F16 ends at 65504",
          advice: "if the number was larger before it was saved so, save the checkpoint in F32 or BF16")
      }
      return Refusal(
        .nonFinite, file: file.path, subject: name, "element \(index) is \(value)",
        advice: "the training run that wrote it may have diverged")
    }
    return nil
  }

  /// - Throws: `.unsupported` for elements that cannot be decoded.
  func requireNumbers(in file: String) throws(Refusal) {
    guard !info.type.isDecodable else { return }
    throw Refusal(
      .unsupported, file: file, subject: name,
      "elements of type \(info.type.displayName) cannot be read as numbers",
      advice: "save the checkpoint in F32, BF16 or F16")
  }

  /// - Throws: `.unsupported` for elements that cannot be decoded, and for integers: weights that were rounded to them need
  ///   scales, which every quantiser keeps elsewhere.
  package func requireWeights(in file: String) throws(Refusal) {
    try requireNumbers(in: file)
    switch info.type {
    case .bool, .i8, .i16, .i32, .i64, .u8, .u16, .u32, .u64:
      throw Refusal(
        .unsupported, file: file, subject: name, "elements of type \(info.type.displayName) are no weights",
        advice: "if the checkpoint is quantised, save it in F32, BF16 or F16")
    default: return
    }
  }
}
