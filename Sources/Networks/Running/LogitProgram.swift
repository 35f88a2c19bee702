import Formats

/// C += A·B on row-major matrices, A [m, k], B [k, n] or, if `isTransposed`, stored as [n, k].
package typealias MatrixProduct =
  @Sendable (
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Double>, _ strideA: Int, _ b: UnsafePointer<Double>,
    _ strideB: Int, _ isTransposed: Bool, _ c: UnsafeMutablePointer<Double>, _ strideC: Int
  ) -> Void

/// Something that was written and computes logits by itself, without being read as a network: a graph. It is held
/// against the network that it was made from.
package protocol LogitProgram: Sendable {
  /// The number of numbers that it gives for each token.
  var outputWidth: Int { get }

  /// Whether its tokens stand at positions 0, 1, 2 … whatever a probe says.
  var countsFromZero: Bool { get }

  /// The network with the numbers that the program multiplies by in the places of its parameters; nil where the program
  /// does not say which of its numbers are which.
  ///
  /// - Parameter network: what the program was made from.
  func storing(_ network: Network) -> Network?

  /// The logits [tokens, vocabulary] of one sequence, row-major.
  ///
  /// - Parameter product: what multiplies its matrices.
  /// - Throws: `.malformed` for a program that cannot be computed.
  func logits(
    of probe: Probe, product: @escaping MatrixProduct
  ) throws(Refusal) -> [Double]
}

/// A model that was written, opened again.
package enum WrittenModel: Sendable {
  /// As its runtime will compute it, and as it is meant where that is not the same: norms whose epsilon makes them nearly
  /// linear are meant to be linear.
  case network(Network, meant: Network)
  /// A graph that is computed node by node.
  case program(any LogitProgram)
}
