import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldVerify
import TestSupport

extension ONNXGraph {
  /// Writes both files, each weight rounded once to its type.
  func write(to directory: String) throws {
    let writer = try TensorWriter(onnx: self, in: directory)
    for (info, value) in externalInitializers {
      try ParameterReader(value).forEachBlock { _, block in
        switch info.type {
        case .f16: try block.map { Float16($0) }.withUnsafeBytes { try writer.append($0) }
        default: try block.map { Float($0) }.withUnsafeBytes { try writer.append($0) }
        }
      }
    }
    try writer.finish()
  }

  /// The graph of a fixture: folded where all its norms are fixed, else as it is.
  init(fixture: String, type: ElementType = .f32, isFolded: Bool = true, form: Form = .cached)
    throws
  {
    let model = try Model(opening: Fixtures.path(fixture)).shortened(to: form.length)
    let network = isFolded ? try FoldingPlan(folding: model.network).folded : model.network
    try self.init(of: network, type: type, endOfText: model.endOfText, form: form)
  }
}

/// What the defining program computed: see `fixtures/README.md`.
struct RecordedLogits {
  let sequences: [[Int]]
  let positions: [Int]
  let vocabularySize: Int
  /// [sequences, positions, vocabulary], in double precision.
  let logits: [Double]

  struct MissingTensor: Error {}

  init(_ path: String, prefix: String) throws {
    let file = try Checkpoint(safetensors: Fixtures.path(path))
    guard let tokens = file["tokens"], let positions = file["positions"], let logits = file[prefix + "logits.f64"]
    else {
      throw MissingTensor()
    }
    let flat = tokens.decoded(as: Double.self).map { Int($0) }
    let length = tokens.shape[1]
    sequences = stride(from: 0, to: flat.count, by: length).map { Array(flat[$0..<$0 + length]) }
    self.positions = positions.decoded(as: Double.self).map { Int($0) }
    vocabularySize = logits.shape[2]
    self.logits = logits.decoded()
  }

  /// The recorded positions of all logits [length, vocabulary] of one sequence.
  func select(_ all: [Double]) -> [Double] {
    positions.flatMap { all[$0 * vocabularySize..<($0 + 1) * vocabularySize] }
  }

  func logits(ofSequence index: Int) -> [Double] {
    let count = positions.count * vocabularySize
    return Array(logits[index * count..<(index + 1) * count])
  }
}

/// The products of the verifier, so that the tests are quick.
let blasProduct: MatrixProduct = { m, n, k, a, strideA, b, strideB, isTransposed, c, strideC in
  Double.multiply(
    rows: m, columns: n, inner: k, a, strideA: strideA, b, strideB: strideB, isTransposed: isTransposed, factor: 1,
    beta: 1, into: c, strideC: strideC)
}

extension Network {
  /// The logits [tokens, vocabulary] by the arithmetic of the verifier.
  func logits(tokens: [Int]) throws -> [Double] {
    try logits(on: FastBackend<Double>(probes: [Probe(name: "test", tokens: tokens)])).all().array
  }
}
