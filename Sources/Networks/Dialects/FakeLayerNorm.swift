import NormFoldFormats

/// The buffers that the FakeLayerNorm module of submarat/removing-layer-norm keeps beside each norm, under all the
/// names that its history knows.
///
/// The module divides by `average_std_buffer` where `is_fake`; of a norm before attention, the path into the values
/// follows `attn_v_is_fake`, and divides by `bos_std_buffer` at the end-of-text token. A buffer as long as the width is
/// applied feature by feature, one as long as the context position by position. `real_average_std` and `real_bos_std`
/// are moving averages that no forward pass reads; the config's epsilon belongs to the norms that are still computed.
package struct FakeLayerNorm {
  /// The token that the reference gives deviations of its own: GPT-2's end of text, by number.
  static let endOfText = 50_256

  private static let averageNames = ["average_std_buffer", "average_std"]
  private static let endOfTextNames = ["bos_std_buffer", "bos_std"]
  private static let fixedNames = ["is_fake", "mode_buffer"]
  private static let valueFixedNames = ["attn_v_is_fake", "attn_v_mode_buffer"]
  private static let unreadNames = [
    "bos_special_treatment", "real_average_std", "real_bos_std", "grad_acc_steps", "global_step", "synced_step",
    "momentum",
  ]

  /// Returns whether any tensor is a buffer that says what a deviation is fixed at.
  static func isPresent(in tensors: NamedTensors) -> Bool { tensors.names.contains(where: isBuffer) }

  /// Returns whether a tensor of this name says what a deviation is fixed at.
  package static func isBuffer(_ name: String) -> Bool { averageNames.contains { name.hasSuffix("." + $0) } }

  /// Is true of the name of a buffer of such a module, one that no forward pass reads included.
  static func isOwn(_ name: String) -> Bool {
    (averageNames + endOfTextNames + fixedNames + valueFixedNames + unreadNames).contains { name.hasSuffix("." + $0) }
  }

  private let average: Norm.Deviation
  private let endOfText: Parameter?
  private let isFixed: Bool
  private let isValueFixed: Bool
  private let epsilon: Double
  private let vocabularySize: Int
  private let assumesEndOfTextDisabled: Bool

  /// Takes the buffers of one norm.
  ///
  /// - Parameter name: of the norm, without prefixes: `h.0.ln_1`.
  /// - Throws: `.malformed` where a buffer is missing or has an impossible shape; `.unsupported` where a buffer's
  ///   length fits features and positions and its entries differ.
  init(
    taking name: String, from tensors: inout NamedTensors, sizes: Hyperparameters, options: ReadingOptions
  ) throws(Refusal) {
    let file = tensors.checkpoint.path
    func take(_ names: [String]) throws(Refusal) -> Tensor {
      for suffix in names {
        guard let tensor = tensors.take("\(name).\(suffix)") else { continue }
        try tensor.requireNumbers(in: file)
        return tensor
      }
      throw Refusal(
        .malformed, file: file, subject: "\(name).\(names[0])", "this buffer of a FakeLayerNorm is missing",
        advice: "without it nothing says what the norm computes")
    }
    func flag(_ names: [String]) throws(Refusal) -> Bool {
      let tensor = try take(names)
      guard tensor.info.elementCount == 1 else {
        throw Refusal(.malformed, file: file, subject: tensor.name, "expected one number, found shape \(tensor.shape)")
      }
      return tensor.decoded(as: Double.self)[0] != 0
    }
    let averageTensor = try take(Self.averageNames)
    let endOfTextTensor = try take(Self.endOfTextNames)
    isFixed = try flag(Self.fixedNames)
    isValueFixed = try flag(Self.valueFixedNames)
    for suffix in Self.unreadNames { tensors.drop("\(name).\(suffix)", rule: "training state of a FakeLayerNorm") }
    average = try Self.deviation(averageTensor, sizes: sizes, options: options)
    let isSame = averageTensor.decoded(as: Double.self) == endOfTextTensor.decoded(as: Double.self)
    if isSame {
      endOfText = nil
    } else if case .fixed(let vector) = try Self.deviation(endOfTextTensor, sizes: sizes, options: options) {
      endOfText = vector
    } else {
      endOfText = nil
    }
    epsilon = sizes.epsilon
    vocabularySize = sizes[.vocabulary]
    assumesEndOfTextDisabled = options.assumesEndOfTextDisabled
  }

  /// Returns the deviation that the norm divides by where an operation reads it: the path into the values of an
  /// attention has a switch of its own.
  func deviation(readBy reader: Path) -> Norm.Deviation {
    guard reader.lastComponent == "value" else { return isFixed ? average : .computed(epsilon: epsilon) }
    guard isValueFixed else { return .computed(epsilon: epsilon) }
    guard case .fixed(let usual) = average, let endOfText, vocabularySize > Self.endOfText, !assumesEndOfTextDisabled
    else { return average }
    return .perToken(usual: usual, endOfText: endOfText)
  }

  private static func deviation(
    _ tensor: Tensor, sizes: Hyperparameters, options: ReadingOptions
  ) throws(Refusal) -> Norm.Deviation {
    let (width, context) = (sizes.dModel, sizes.contextLength)
    guard tensor.shape.count <= 1, [1, width, context].contains(tensor.info.elementCount) else {
      throw Refusal(
        .malformed, file: tensor.file.path, subject: tensor.name,
        "expected \(width) features or \(context) positions, found shape \(tensor.shape)")
    }
    let values = tensor.decoded(as: Double.self)
    // The same everywhere: features and positions do not matter. A single number is, be it NaN.
    if values.dropFirst().allSatisfy({ $0 == values[0] }) { return .fixed(.constant(values[0], shape: [width])) }
    let axis: ReadingOptions.DeviationAxis
    if width != context {
      axis = values.count == width ? .feature : .position
    } else if let said = options.deviationAxis {
      axis = said
    } else {
      throw Refusal(
        .unsupported, file: tensor.file.path, subject: tensor.name,
        "its \(values.count) entries differ, and could be features or positions, since the width is the context length",
        advice:
          "say which: \(.deviationAxis, ReadingOptions.DeviationAxis.feature) or \(.deviationAxis, ReadingOptions.DeviationAxis.position)"
      )
    }
    return axis == .feature ? .fixed(.stored(tensor)) : .perPosition(.stored(tensor))
  }
}

extension Dialect {
  /// A training checkpoint of removal: buffers beside each norm say what is fixed, and at what.
  static func fakeLayerNorm(_ reading: inout DialectReading) throws(Refusal) -> Dialect? {
    guard reading.hasFakeNorms else { return nil }
    try reading.refuseDeviationFile(because: "the checkpoint holds its own deviations")
    var norms: [Path: FakeLayerNorm] = [:]
    for (path, name) in reading.norms {
      norms[path] = try FakeLayerNorm(
        taking: name, from: &reading.tensors, sizes: reading.hyperparameters, options: reading.options)
    }
    var dialect = Dialect(
      displayName: "FakeLayerNorm training checkpoint" + (reading.parameters.hasAdapters ? " with LoRA adapters" : ""))
    let epsilon = reading.hyperparameters.epsilon
    dialect.interpret = { [norms] (network) throws(Refusal) in
      try network.settingDeviations { (path, reader) throws(Refusal) in
        norms[path]?.deviation(readBy: reader) ?? .computed(epsilon: epsilon)
      }
    }
    if reading.options.assumesEndOfTextDisabled {
      dialect.notes.append("assumed, as told: the end-of-text token is treated like any other")
    }
    return dialect
  }
}
