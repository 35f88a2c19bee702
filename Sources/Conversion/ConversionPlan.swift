import Folding
import Formats
import Networks
import Targets

/// What a conversion would write: decided, not computed.
public struct ConversionPlan: Sendable, Encodable {
  public struct Step: Sendable, Encodable {
    public let norm: String
    /// The maps that absorb it, in the network's words.
    public let readers: [String]

    init(_ step: FoldingPlan.Step) {
      norm = step.norm
      readers = step.readers.map(\.description)
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

  public let source: String
  public let target: String
  public let steps: [Step]
  public let kept: [String]
  /// What is done besides, in this order.
  public let rules: [FoldingRule]
  /// What becomes of the norms that stay.
  public let normForm: NormForm?
  public let tensors: [Tensor]
  public let byteCount: Int
  public let warnings: [String]

  /// - Throws: what reading, folding and the target refuse.
  package init(
    source: String, target name: String, options: ReadingOptions = .init(), type: ElementType = .f32,
    allowsPartial: Bool = false, rules: [FoldingRule] = [], normForm: NormForm? = nil,
    allowsApproximateActivation: Bool = false
  ) throws(Refusal) {
    let target = try Targets.require(name)
    try target.require(type)
    if let normForm { try target.require(normForm.kind) }
    let model = try Model(opening: source, options: options)
    let plan = try FoldingPlan(
      folding: model.network,
      options: .init(
        keptSites: target.keptSites(of: model.network, type: type), allowsPartial: allowsPartial, rules: rules,
        normForm: normForm))
    let output = try target.output(
      of: plan.folded, from: model, options: .init(type: type, allowsApproximateActivation: allowsApproximateActivation)
    )
    self.source = source
    self.target = name
    steps = plan.steps.map(Step.init)
    kept = plan.kept
    self.rules = plan.rules
    self.normForm = plan.normForm
    tensors = output.parameters.map {
      Tensor(name: $0.info.name, type: $0.info.type.displayName, shape: $0.info.shape, formula: $0.value.description)
    }
    byteCount = output.byteCount
    warnings = model.warnings
  }
}
