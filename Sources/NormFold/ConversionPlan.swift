import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldTargets

/// The decisions of a conversion: what it would write, without a number computed.
///
///     var conversion = Conversion(source: "gpt2-lnfree", destination: "out", targets: ["gpt2"])
///     conversion.requiredNorms = ["blocks.0.mlp.norm"]
///     print(try ConversionPlan(of: conversion))
public struct ConversionPlan: Sendable, Encodable {
  /// A norm and the maps that absorb it.
  public struct Step: Sendable, Encodable {
    public let norm: String
    /// The path of the norm in the network.
    public let path: String
    /// The maps that absorb it, by their paths.
    public let readers: [String]
    /// The part of the norm that the readers absorb: `whole`, `gain-and-bias` where the norm's deviation is still
    /// computed, or `bias` alone.
    public let absorbed: String

    /// The maps without the block that all of them are in: `block 3: attention.query, attention.key`.
    public let summary: String

    init(_ step: FoldingPlan.Step) {
      norm = step.norm
      path = step.path.description
      readers = step.readers.map(\.description)
      absorbed = step.absorbed.rawValue
      let blocks = Set(step.readers.map(\.block))
      if blocks.count == 1, let block = blocks.first, let block {
        summary =
          "block \(block): " + readers.map { String($0.dropFirst("blocks.\(block).".count)) }.joined(separator: ", ")
      } else {
        summary = readers.joined(separator: ", ")
      }
    }

    /// The name of what is folded, for the terminal: the norm, or its bias alone.
    package var printableSubject: String {
      absorbed == FoldingPlan.Step.Absorbed.bias.rawValue ? "the bias of \(norm.printable)" : norm.printable
    }

    private enum CodingKeys: String, CodingKey {
      case norm, path, readers, absorbed
    }
  }

  /// A norm that stays.
  public struct Kept: Sendable, Encodable {
    public let norm: String
    /// The path of the norm in the network.
    public let path: String
    /// The path of the reader that is no linear map; nil where the norm stays for another reason.
    public let reader: String?
    /// Why it stays.
    public let reason: String

    init(_ kept: FoldingPlan.Kept) {
      norm = kept.norm
      path = kept.path.description
      if case .reader(let reader, _) = kept.reason { self.reader = reader.description } else { reader = nil }
      reason = kept.reason.description
    }
  }

  public struct Tensor: Sendable, Encodable {
    public let name: String
    public let type: String
    public let shape: [Int]
    public let formula: String
  }

  /// The targets with a line on each, for `--help`.
  public static let targetSummaries = Targets.all.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n")

  /// The types that some target can store matrices in.
  package static let types = Targets.types

  public let source: String
  public let target: String
  public let steps: [Step]
  public let kept: [Kept]
  /// The rules that are applied besides, in this order.
  public let rules: [FoldingRule]
  /// The form that the norms get that stay.
  public let normForm: NormForm?
  public let tensors: [Tensor]
  public let byteCount: Int
  public let warnings: [Message]

  /// Decides what a conversion would write for the first of its targets.
  ///
  /// - Throws: what reading, folding and the target refuse.
  public init(of conversion: Conversion) throws(Refusal) {
    let target = try conversion.chosenTargets()[0]
    let model = try Model(opening: conversion.source, options: conversion.readingOptions)
      .shortened(to: conversion.onnxLength)
    let (plan, output) = try conversion.planned(target, of: model, from: TargetSource(model))
    source = conversion.source
    self.target = target.name
    steps = plan.steps.map(Step.init)
    kept = plan.kept.map(Kept.init)
    rules = plan.rules
    normForm = plan.normForm
    tensors = output.parameters.map {
      Tensor(name: $0.info.name, type: $0.info.type.displayName, shape: $0.info.shape, formula: $0.value.description)
    }
    byteCount = output.byteCount
    warnings = model.warnings
  }
}

extension ConversionPlan: CustomStringConvertible {
  /// Every decision, a line each: which norm folds into what, which stays and why, and the formula of every tensor.
  public var description: String {
    let folded = steps.map { "  \($0.printableSubject) folds into \($0.summary.printable)" }
    return (["\(source.printable) for \(target)"] + folded + linesBelowSteps).joined(separator: "\n")
  }

  /// The lines of a plan below the norms that fold.
  package var linesBelowSteps: [String] {
    var lines = kept.isEmpty ? [] : [""]
    lines += kept.map { "  stays a norm: \($0.norm), since \($0.reason)" }
    if !rules.isEmpty || normForm != nil { lines.append("") }
    lines += rules.map { "  \($0.rawValue): \($0.summary)" }
    if let normForm { lines.append("  to-norm \(normForm.rawValue): \(normForm.summary)") }
    lines.append("\n  \(tensors.count) tensors, \(Quantity.bytes(byteCount))")
    for tensor in tensors {
      let formula = tensor.formula == tensor.name ? "" : " = \(tensor.formula.printable)"
      lines.append("  \(tensor.name.printable) \(tensor.shape) \(tensor.type)\(formula)")
    }
    return lines
  }
}
