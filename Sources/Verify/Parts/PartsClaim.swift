import NormFoldFormats
import NormFoldNetworks

/// The claim that every part of a candidate computes what the same part of a reference computes, whatever enters it.
///
/// No token is run and none is left out: each matrix, with the fixed norm, gain, bias and scales around it, is one map of
/// the residual stream, and is compared element by element; so are the tables, row by row, the biases, the norms that are
/// computed, the activations and how attention is divided into heads. Networks whose parts are equal are equal for every
/// input. How far an element may be off follows from the type that it is stored in (``StorageError``); nothing is picked.
package struct PartsClaim: Sendable, Codable {
  /// One part, and how far it is off.
  package struct Part: Sendable, Codable {
    /// The place of the part in the network: `blocks.3.attention.query.weight`.
    package var path: String
    /// The largest |difference| over its bound: at most 1 where the part holds.
    package var ratio: Double
    /// The place of the largest ratio: the input and the output feature, or the row and the feature of a table.
    package var input: Int?
    package var output: Int?
    package var expected: Double?
    package var found: Double?
    /// The number of elements beyond their bounds.
    package var beyondCount = 0
    /// The first and the last row and column that hold one of them.
    package var inputs: [Int]?
    package var outputs: [Int]?
    /// A description of what differs, where that is no number of a matrix: `ε is 1e-06, expected 1e-05`.
    package var problem: String?
    /// Is true if the part is what a program computes between its matrices, compared on random states and not for every
    /// input.
    package var isSampled = false

    package var holds: Bool { ratio <= 1 && problem == nil }
    var isBias: Bool { path.hasSuffix(".bias") }
    package var block: Int? { Path(path).block }
  }

  /// The change that the candidate made to the residual stream.
  package enum Stream: String, Sendable, Codable {
    /// The candidate's stream is the reference's.
    case same
    /// The candidate subtracts the mean over the features.
    case centred
    /// The reference subtracts the mean, and the candidate does not.
    case uncentred
    /// Only one of the two or neither subtracts the mean everywhere, and no reader sees it.
    case upToMean = "up-to-mean"
    /// The candidate subtracts the mean and leaves the last feature out.
    case compressed
    /// The candidate has the last feature that the reference leaves out.
    case expanded
  }

  package var parts: [Part]
  package var stream: Stream
  /// The number of elements of the candidate's weights that were compared.
  package var elementCount: Int
  /// Why parts were not compared; empty where all were.
  package var notCompared: [String]
  /// Notes on what was allowed to differ, and by how much.
  package var notes: [String]

  /// Is true if every part of both networks was compared.
  package var isComplete: Bool { notCompared.isEmpty }
  /// Is true if parts were compared on random states.
  package var isSampled: Bool { parts.contains(where: \.isSampled) }
  package var holds: Bool { parts.allSatisfy(\.holds) }
  package var failures: [Part] { parts.filter { !$0.holds } }
  /// The part that is closest to its bound, or farthest beyond.
  package var worst: Part? { parts.worst }
}

extension [PartsClaim.Part] {
  /// The part that is closest to its bound, or farthest beyond.
  package var worst: PartsClaim.Part? {
    filter { !$0.holds }.max { $0.ratio < $1.ratio } ?? self.max { $0.ratio < $1.ratio }
  }
}

extension PartsClaim {
  private enum EncodedKeys: String, CodingKey { case parts, stream, elementCount, complete, notCompared, notes }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: EncodedKeys.self)
    try container.encode(parts, forKey: .parts)
    try container.encode(stream, forKey: .stream)
    try container.encode(elementCount, forKey: .elementCount)
    try container.encode(isComplete, forKey: .complete)
    try container.encode(notCompared, forKey: .notCompared)
    try container.encode(notes, forKey: .notes)
  }

  /// Compares two networks.
  ///
  /// - Parameters:
  ///   - candidate: as it was read from its file.
  ///   - allowance: what is allowed besides the rounding of the candidate's weights.
  ///   - approximation: an activation that the candidate may have in place of the reference's.
  ///   - isUpToShift: whether all logits of a position may be off by one constant.
  package init(
    of candidate: Network, against reference: Network, allowance: Allowance, approximation: Activation? = nil,
    isUpToShift: Bool = false, workers: Workers = .all
  ) {
    self = PartsComparison(
      reference: reference, candidate: candidate, allowance: allowance, approximation: approximation,
      isUpToShift: isUpToShift, workers: workers
    ).claim()
  }
}
