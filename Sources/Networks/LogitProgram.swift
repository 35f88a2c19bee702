import Formats

/// Something that was written and computes logits by itself, without being read as a network: a graph. It is held
/// against the network that it was made from.
package protocol LogitProgram: Sendable {
  var vocabularySize: Int { get }

  /// The logits [tokens, vocabulary] of one sequence, row-major.
  /// - Throws: `.malformed` for a program that cannot be computed; `.mismatch` where it contradicts itself.
  func logits(tokens: [Int]) throws(Refusal) -> [Double]
}

/// A model that was written, opened again.
package enum WrittenModel: Sendable {
  /// As its runtime will compute it.
  case network(Network)
  /// A graph that is computed node by node.
  case program(any LogitProgram)
}
