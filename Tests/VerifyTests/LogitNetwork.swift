import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// A network without blocks whose logits are what a test says: the embedding of each token is a unit vector, the
/// unembedding a table of logits.
struct LogitNetwork {
  let network: Network

  /// - Parameters:
  ///   - logits: of each of `tokens`, one row as wide as the vocabulary.
  ///   - embeddings: other factors than 1 for the logits of some tokens, NaN or so large that they overflow.
  init(_ logits: [[Double]], of tokens: [Int], factors: [Int: Double] = [:]) throws {
    let (width, vocabularySize) = (tokens.count, logits[0].count)
    var embedding = [Double](repeating: 0, count: vocabularySize * width)
    for (index, token) in tokens.enumerated() { embedding[token * width + index] = factors[token] ?? 1 }
    var tensors = EditableTensors()
    tensors["embedding"] = .init(embedding, shape: [vocabularySize, width], type: .f64)
    tensors["unembedding"] = .init(logits.flatMap { $0 }, shape: [width, vocabularySize], type: .f64)
    // The mapping outlives the file.
    let directory = try TemporaryDirectory()
    try tensors.write(to: directory / "x.safetensors")
    let file = try Checkpoint(safetensors: directory / "x.safetensors")
    var network = Network(contextLength: 1_000)
    network.append(.embed(.stored(try #require(file["embedding"])), by: .token), at: "embedding.tokens")
    let unembedding = LinearMap(weight: .stored(try #require(file["unembedding"])), bias: nil)
    network.append(.linear(unembedding), to: "embedding.tokens", at: "unembedding")
    self.network = network
  }

  var candidate: Comparison.Candidate { .init(name: "logits", network: network, precision: .double) }
}

/// The same numbers on every machine.
struct TestGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ (state >> 29)
  }

  mutating func values(_ count: Int, in range: ClosedRange<Double>) -> [Double] {
    (0..<count).map { _ in Double.random(in: range, using: &self) }
  }
}
