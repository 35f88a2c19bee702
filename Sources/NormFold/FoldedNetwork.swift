import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks

/// A checkpoint's network with its norms folded, for a program that looks into it: nothing is written.
///
///     var options = FoldedNetwork.Options()
///     options.requiredNorms = ["blocks.0.mlp.norm"]
///     options.rules = [.foldValueBiases]
///     let network = try FoldedNetwork(of: "gpt2-lnfree", options: options)
///     print(network.steps.map(\.summary), network.kept.map(\.reason))
///     let weights = try network.values(of: "blocks.0.mlp.input.weight")
///     let logits = try network.logits(of: [1, 2, 3])
///     print(weights.count, logits.count)
public struct FoldedNetwork: Sendable {
  /// Options say what is to be folded, and what is done to the weights besides.
  public struct Options: Sendable {
    /// The paths of norms that must be folded: where one of them cannot be, folding is refused with its name.
    public var requiredNorms: [String] = []
    /// Is true if norms that cannot be removed may stay.
    public var allowsPartial = false
    /// The rules that are applied to the weights besides.
    public var rules: [FoldingRule] = []
    /// The form that norms get whose deviation is still computed; nil to refuse or, where they may stay, to leave them.
    public var normForm: NormForm?

    public init() {}
  }

  /// A weight or a bias, as a recipe over the tensors of the checkpoint.
  public struct Parameter: Sendable, Encodable {
    /// The path of the operation that it belongs to, and `weight` or `bias`: `blocks.0.mlp.input.weight`.
    public let name: String
    /// Weights of linear maps are [in, out], embeddings [vocabulary, width].
    public let shape: [Int]
    /// The recipe, as a plan prints it.
    public let formula: String
  }

  /// The norms that were folded, in the order of computation.
  public let steps: [ConversionPlan.Step]
  /// The norms that stay, be it without gain and bias, in the order of computation.
  public let kept: [ConversionPlan.Kept]
  private let network: Network
  private let checkpoint: Checkpoint

  /// Opens a checkpoint and folds its norms. No weight is read.
  ///
  /// - Throws: what reading the checkpoint throws; `.notFoldable` with every norm that cannot be folded, and why; `.usage` for
  ///   a path at which there is no norm.
  public init(
    of path: String, options: Options = .init(), reading: ReadingOptions = .init()
  ) throws(Refusal) {
    let model = try Model(opening: path, options: reading)
    let plan = try FoldingPlan(
      folding: model.network,
      options: .init(
        requiredNorms: model.network.requireNorms(at: options.requiredNorms), allowsPartial: options.allowsPartial,
        rules: options.rules, normForm: options.normForm, networkName: model.architecture.name))
    steps = plan.steps.map(ConversionPlan.Step.init)
    kept = plan.kept.map(ConversionPlan.Kept.init)
    network = plan.folded
    checkpoint = model.checkpoint
  }

  /// Every weight and bias, in the order of computation.
  public var parameters: [Parameter] {
    network.nodes.flatMap { node in
      ["weight", "bias"].compactMap { suffix in
        let name = "\(node.path).\(suffix)"
        return network.parameter(named: name).map { Parameter(name: name, shape: $0.shape, formula: "\($0)") }
      }
    }
  }

  /// Returns the numbers of a parameter, row by row, in double precision.
  ///
  /// - Throws: `.usage` for a name that is not one of ``parameters``; `.malformed` where the file was damaged meanwhile.
  public func values(of name: String) throws(Refusal) -> [Double] {
    guard let parameter = network.parameter(named: name) else {
      throw Refusal(.usage, subject: name, "there is no parameter of this name in the folded network")
    }
    let values = ParameterReader(parameter).values()
    try checkpoint.requireIntact()
    return values
  }

  /// Returns the logits behind each token of a text, [token][vocabulary], computed in double precision; of a network that
  /// gives something else, such as hidden states, that.
  ///
  /// - Throws: `.usage` for tokens that the network cannot be run on; what the arithmetic throws.
  public func logits(of tokens: [Int]) throws(Refusal) -> [[Double]] {
    guard tokens.count <= network.contextLength else {
      throw Refusal(
        .usage, "expected at most \(network.contextLength) tokens, the model's context, found \(tokens.count)")
    }
    for token in tokens where token < 0 || token >= network.vocabularySize {
      throw Refusal(.usage, "token \(token) is not in the model's vocabulary of \(network.vocabularySize)")
    }
    let pending = try network.logits(on: FastBackend<Double>(probes: [Probe(name: "text", tokens: tokens)]))
    let width = network.outputWidth
    let logits = pending.logits(of: 0..<width).array
    try checkpoint.requireIntact()
    return tokens.indices.map { Array(logits[$0 * width..<($0 + 1) * width]) }
  }
}

extension Network {
  /// Returns the paths as such.
  ///
  /// - Throws: `.usage` for a path at which there is no norm, with those that there are.
  func requireNorms(at paths: [String]) throws(Refusal) -> Set<Path> {
    let known = Set(norms.map(\.path))
    for path in paths where !known.contains(Path(path)) {
      let names = norms.prefix(8).map(\.path.description).joined(separator: ", ")
      throw Refusal(
        .usage, subject: path, "there is no norm at this path",
        advice: norms.isEmpty ? "the network has none" : "known are \(names)\(norms.count > 8 ? ", …" : "")")
    }
    return Set(paths.map { Path($0) })
  }
}
