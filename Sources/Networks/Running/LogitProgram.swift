import NormFoldFormats

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

  /// The network with the numbers that the program multiplies by in the places of its parameters; nil where the program
  /// does not say which of its numbers are which.
  ///
  /// - Parameter network: what the program was made from.
  func storing(_ network: Network) -> Network?

  /// The numbers of tokens that a sequence may have.
  var sequenceLengths: ClosedRange<Int> { get }

  /// Is true if tokens may stand at other positions than 0, 1, 2 …, as a probe says.
  var takesPositions: Bool { get }

  /// Why it does not compute the network for every input, though its parts do; nil where it does.
  var limitation: String? { get }

  /// The logits [tokens, vocabulary] of one sequence, row-major.
  ///
  /// - Parameter product: what multiplies its matrices.
  /// - Throws: `.malformed` for a program that cannot be computed.
  func logits(
    of probe: Probe, product: @escaping MatrixProduct
  ) throws(Refusal) -> [Double]

  /// The first number of a sequence that the type which the program computes in cannot hold; nil where there is none.
  ///
  /// - Throws: what ``logits(of:product:)`` throws.
  func overflow(on probe: Probe, product: @escaping MatrixProduct) throws(Refusal) -> ProgramOverflow?
}

/// A number that is too large for the type that a program computes in.
///
///     if let overflow = report.judgement.overflow {
///       print("\(overflow.place) reaches \(overflow.value), and \(overflow.type) ends at \(overflow.largest)")
///     }
public struct ProgramOverflow: Sendable, Codable, Equatable {
  /// The name of the value that holds it: `blocks.2.attention.mixed.scores`.
  public var place: String
  public var value: Double
  /// The type, and the largest number that it holds.
  public var type: String
  public var largest: Double

  package init(place: String, value: Double, type: String, largest: Double) {
    (self.place, self.value, self.type, self.largest) = (place, value, type, largest)
  }
}

extension LogitProgram {
  package func overflow(on probe: Probe, product: @escaping MatrixProduct) throws(Refusal) -> ProgramOverflow? { nil }
  package var sequenceLengths: ClosedRange<Int> { 1 ... .max }
  package var takesPositions: Bool { true }
  package var limitation: String? { nil }
}

/// A program that can be run with given results of its products, so that what it computes between them is seen one stretch
/// at a time.
package protocol CuttableProgram: LogitProgram {
  /// The network that the program is held against, with the program's own numbers.
  var network: Network { get }
  /// The products that compute maps of the network.
  var products: [CutProduct] { get }
  /// The maps and tables of the network that the program does not have.
  var missing: [Path] { get }
  /// The gains and biases that the program does not have as they are, in whose places the network's own stand.
  var missingVectors: [Path] { get }
  /// The type of its numbers.
  var type: ElementType { get }

  /// - Throws: `.input` where a file of its numbers changed while it was read.
  func requireIntact() throws(Refusal)

  /// The number of rows that its products have for a probe: more than the probe has tokens where sequences are padded.
  func rowCount(of probe: Probe) -> Int

  /// Runs the program, and puts `results` in the places of what its products compute.
  ///
  /// - Parameter results: for each product [rows, width], without a bias.
  /// - Returns: what each product reads [rows, in], and the output [tokens, width].
  /// - Throws: `.malformed` for a program that cannot be computed.
  func run(_ probe: Probe, products results: [[Double]]) throws(Refusal) -> (inputs: [[Double]], output: [Double])
}

/// A product of a program, which computes one or more maps of a network.
package struct CutProduct: Sendable {
  package struct Map: Sendable {
    package var path: Path
    /// The columns of the product that are the map's outputs, in their order.
    package var columns: [Int]

    package init(path: Path, columns: [Int]) {
      (self.path, self.columns) = (path, columns)
    }
  }

  package var maps: [Map]
  package var width: Int
  /// The first token of a sequence that has a row: 1 where the one before it is no patch of an image.
  package var firstRow: Int

  package init(maps: [Map], width: Int, firstRow: Int = 0) {
    (self.maps, self.width, self.firstRow) = (maps, width, firstRow)
  }
}

/// A model that was written, opened again.
package enum WrittenModel: Sendable {
  /// A network as its runtime will compute it, and the network that is meant. The two differ where the epsilon of norms
  /// makes them nearly linear: such norms are meant to be linear.
  case network(Network, meant: Network)
  /// A graph that is computed node by node.
  case program(any LogitProgram)
}
