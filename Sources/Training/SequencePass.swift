import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// One sequence on its way through the network and back. Of the values that the forward pass computes only those are kept
/// that are dear to compute; the others are computed again when a pullback asks for them.
///
/// Used by one thread at a time.
final class SequencePass<Scalar: ArithmeticScalar>: @unchecked Sendable {
  let network: Network
  let tokens: [Int]
  private let workers: Workers
  private let backend: TrainingBackend<Scalar>
  /// Computes linear maps, embeddings and norms in integers, where those of the step do.
  var integers: DynamicBackend<Scalar>? { backend.integers }
  /// nil where everything is in floating point.
  private let arithmetic: TrainingIntegers?
  /// The number of the sequence within the step.
  private let number: Int
  /// Rotates by the negative angles.
  private let mirrored: FastBackend<Scalar>
  /// The values that were kept, and those that were computed again and are still needed.
  private var values: [Path: Matrix<Scalar>] = [:]
  /// Derivatives of the loss by values whose pullback is still to come.
  private var derivatives: [Path: Matrix<Scalar>] = [:]
  /// The derivatives that the pullback that has just run found for the parameters of its operation.
  private(set) var found = ParameterDerivatives<Scalar>()

  /// - Parameter number: the number of the sequence within the step.
  init(
    _ network: Network, tokens: [Int], workers: Workers, integers arithmetic: TrainingIntegers? = nil, number: Int = 0
  ) {
    self.network = network
    self.tokens = tokens
    self.workers = workers
    self.arithmetic = arithmetic
    self.number = number
    let probe = Probe(name: "text", tokens: tokens)
    backend = TrainingBackend(
      float: FastBackend(probes: [probe], workers: workers),
      integers: arithmetic.map { $0.backend(for: probe, workers: workers) })
    mirrored = FastBackend(
      probes: [Probe(name: "text", tokens: tokens, positions: probe.positions.map { -$0 })], workers: workers)
  }

  /// Runs the network up to the values that the output is computed from.
  ///
  /// - Parameters:
  ///   - kept: the values to keep.
  ///   - observe: sees what each norm reads.
  func run(
    keeping kept: Set<Path>, observe: @escaping (Path, Norm, Matrix<Scalar>) -> Void
  ) throws(Refusal) {
    var execution = Execution(network, on: backend)
    for stage in 0..<execution.stageCount {
      try execution.run(stage: stage, skipsOutput: true) { node, operands, result in
        if case .norm(let norm) = node.operation { observe(node.path, norm, operands[0]) }
        if kept.contains(node.path) { self.values[node.path] = result }
      }
    }
  }

  /// A value, computed again where it was not kept.
  func value(at path: Path) throws(Refusal) -> Matrix<Scalar> {
    if let value = values[path] { return value }
    guard let node = network.node(at: path) else { preconditionFailure("nothing at \(path)") }
    var operands: [Matrix<Scalar>] = []
    for operand in node.operands { operands.append(try value(at: operand)) }
    let result = try backend.evaluate(node, operands)
    values[path] = result
    return result
  }

  /// Adds to the derivative of the loss by a value.
  func add(_ derivative: Matrix<Scalar>, at path: Path) {
    if let sum = takeOwnDerivative(at: path) {
      Pullback.add(sum, derivative, into: sum, workers: workers)
      derivatives[path] = sum
    } else if let other = derivatives[path] {
      let sum = Matrix<Scalar>(rows: other.rowCount, columns: other.columnCount)
      Pullback.add(other, derivative, into: sum, workers: workers)
      derivatives[path] = sum
    } else {
      derivatives[path] = derivative
    }
  }

  /// Gives away the derivative by a value, to be added to in its place; nil where there is none, or something else holds it, too.
  private func takeOwnDerivative(at path: Path) -> Matrix<Scalar>? {
    guard var sum = derivatives.removeValue(forKey: path) else { return nil }
    if isKnownUniquelyReferenced(&sum) { return sum }
    derivatives[path] = sum
    return nil
  }

  /// The integers of the derivative by a value, or by some of its rows.
  func rounded(_ upper: Matrix<Scalar>, at path: Path, row: Int = 0) -> IntegerMatrix? {
    guard let integers, let arithmetic else { return nil }
    return integers.derivative(
      upper, rounding: CountedRandom(step: arithmetic.step, sequence: number, path: path, row: row))
  }

  /// Runs the pullback of an operation: from the derivative by its value to those by the values that it reads. What it
  /// finds for the operation's parameters is in ``found``.
  func pullBack(
    _ node: Network.Node, parameters: TrainedParameters<Scalar>
  ) throws(Refusal) {
    found = ParameterDerivatives()
    defer { values[node.path] = nil }
    guard let upper = derivatives.removeValue(forKey: node.path) else { return }
    func value(_ operand: Int) throws(Refusal) -> Matrix<Scalar> { try self.value(at: node.operands[operand]) }
    if case .attend(let attention) = node.operation, !attention.mask.isCausal {
      throw Refusal(.unsupported, subject: node.path.description, "attention to both sides is not trained yet")
    }
    if case .attend(let attention) = node.operation, let name = attention.peculiarity {
      throw Refusal(.unsupported, subject: node.path.description, "\(name) is not trained yet")
    }
    switch node.operation {
    case .patches, .features:
      throw Refusal(
        .unsupported, subject: node.path.description,
        "a network that reads images, or numbers of words, is not trained yet")
    case .select:
      throw Refusal(.unsupported, subject: node.path.description, "a network that selects tokens is not trained yet")
    case .scaleFeatures:
      throw Refusal(
        .unsupported, subject: node.path.description, "a network with scales of features is not trained yet")
    case .embed: (found.upper, found.integers) = (upper, rounded(upper, at: node.path))
    case .linear(let map):
      (found.upper, found.operand) = (upper, try value(0))
      if let integers, let integersOfUpper = rounded(upper, at: node.path) {
        found.integers = integersOfUpper
        found.integersOfOperand = integers.mapped(try value(0))
        add(integers.pullBack(integersOfUpper, through: map.weight, at: node.path), at: node.operands[0])
        break
      }
      let weight = parameters.entry(of: map.weight)
      let sum = takeOwnDerivative(at: node.operands[0])
      add(Pullback.linear(upper, through: weight, of: parameters, to: sum, workers: workers), at: node.operands[0])
    case .norm(let norm):
      let (derivative, gain, bias) =
        if let integers, let rounded = rounded(upper, at: node.path) {
          try integers.pullBack(rounded, of: value(0), by: norm)
        } else {
          try Pullback.norm(upper, of: value(0), by: norm, workers: workers)
        }
      (found.gain, found.bias) = (gain, bias)
      add(derivative, at: node.operands[0])
    case .rotate: add(try mirrored.evaluate(node, [upper]), at: node.operands[0])
    case .attend(let attention):
      let result = try Pullback.attention(
        upper, query: value(0), key: value(1), value: value(2), output: self.value(at: node.path), by: attention,
        workers: workers)
      for (operand, derivative) in zip(node.operands, [result.query, result.key, result.value]) {
        add(derivative, at: operand)
      }
    case .activate(let activation):
      add(Pullback.activation(upper, of: try value(0), by: activation, workers: workers), at: node.operands[0])
    case .scale: add(try backend.evaluate(node, [upper]), at: node.operands[0])
    case .add: for operand in node.operands { add(upper, at: operand) }
    case .multiply:
      let (a, b) = (try value(0), try value(1))
      add(try backend.evaluate(node, [upper, b]), at: node.operands[0])
      add(try backend.evaluate(node, [upper, a]), at: node.operands[1])
    }
  }
}

/// The integers that a step of training computes linear maps, embeddings and norms in.
struct TrainingIntegers: Sendable {
  private let weightBits: Int
  private let activationBits: Int
  /// The step's number, which the rounding of derivatives depends on.
  let step: Int
  /// The integers of the weights as they are in this step.
  private let known = IntegerWeights(keepingMatrices: true)

  /// nil for an arithmetic that is not trained in.
  init?(_ arithmetic: IntegerArithmetic, step: Int) {
    guard case .dynamic(let weights, let activations) = arithmetic.form else { return nil }
    (weightBits, activationBits, self.step) = (weights, activations, step)
  }

  func backend<Scalar: ArithmeticScalar>(for probe: Probe, workers: Workers) -> DynamicBackend<Scalar> {
    DynamicBackend(
      probes: [probe], weightBits: weightBits, activationBits: activationBits, known: known, workers: workers)
  }
}

/// The forward pass in floating point, or with some operations in integers.
struct TrainingBackend<Scalar: ArithmeticScalar>: Backend {
  let float: FastBackend<Scalar>
  let integers: DynamicBackend<Scalar>?

  func evaluate(_ node: Network.Node, _ operands: [Matrix<Scalar>]) throws(Refusal) -> Matrix<Scalar> {
    if let integers { return try integers.evaluate(node, operands) }
    return try float.evaluate(node, operands)
  }
}

/// The contribution of one sequence to the derivatives by the parameters of an operation, or what that is computed
/// from.
struct ParameterDerivatives<Scalar: ArithmeticScalar> {
  /// The derivative by the value of a map or an embedding: [T, width].
  var upper: Matrix<Scalar>?
  /// The value that a map read.
  var operand: Matrix<Scalar>?
  /// The integers of both, where products are in integers.
  var integers: IntegerMatrix?
  var integersOfOperand: IntegerMatrix?
  /// The derivatives by the gain and bias of a norm.
  var gain: [Double] = []
  var bias: [Double] = []
}

extension Network {
  /// The values that a training pass keeps: what pullbacks read, and where that is cheap to compute what it is computed
  /// from. For GPT-2 these are ten numbers a token and feature.
  ///
  /// - Parameter recomputesBlocks: whether only the residual stream between blocks is kept, and each block runs a second
  ///   time on the way back.
  func keptValues(recomputesBlocks: Bool) -> Set<Path> {
    if recomputesBlocks { return Set((0...blockCount).map { stream(atDepth: $0) }) }
    var kept: Set<Path> = []
    func keep(_ path: Path) {
      guard let node = node(at: path), !kept.contains(path) else { return }
      switch node.operation {
      case .norm, .rotate, .activate, .scale, .scaleFeatures, .multiply, .select: node.operands.forEach(keep)
      case .embed, .patches, .features, .linear, .attend, .add: kept.insert(path)
      }
    }
    for node in nodes {
      switch node.operation {
      case .linear, .norm, .activate, .multiply: node.operands.forEach(keep)
      case .attend:
        keep(node.path)
        node.operands.forEach(keep)
      case .embed, .patches, .features, .rotate, .scale, .scaleFeatures, .add, .select: continue
      }
    }
    return kept
  }

  /// Returns how many numbers a training pass keeps for each token.
  package func keptWidth(recomputesBlocks: Bool) -> Int {
    keptValues(recomputesBlocks: recomputesBlocks).reduce(0) { $0 + width(of: $1) }
  }
}
