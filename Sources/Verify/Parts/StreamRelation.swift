import NormFoldFormats
import NormFoldNetworks
import Synchronization

/// The relation of the residual streams of two networks, as read off their tables and output maps.
///
/// With P, which subtracts the mean over the features, and a state x of the reference's stream, the candidate's is x, Px, or
/// Px without its last feature; or the other way round.
struct StreamRelation: Sendable {
  let relation: PartsClaim.Stream

  /// Is true if one stream has a feature more than the other.
  var changesWidth: Bool { relation == .compressed || relation == .expanded }

  /// Is true if readers of the reference's stream may be held to what they do with Px: the states of that stream have
  /// the mean zero already.
  var projectsReferenceInput: Bool { relation == .uncentred || relation == .expanded }
  /// Is true if readers of the candidate's stream may be held to what they do with Px: the states of that stream are Px
  /// already.
  var projectsCandidateInput: Bool { relation == .centred || relation == .compressed }

  /// A pair of flags for the reference and the candidate: true if the writers of that network are compared without the
  /// mean of each row.
  var centredOutputs: (Bool, Bool) {
    switch relation {
    case .same: (false, false)
    case .centred, .compressed: (true, false)
    case .uncentred, .expanded: (false, true)
    case .upToMean: (true, true)
    }
  }

  /// Looks at some rows of everything that writes into the stream, and chooses the relation that most of them obey.
  ///
  /// - Parameter widths: of the streams of reference and candidate.
  init(_ groups: [GroupPair], widths: (Int, Int), allowance: Allowance, workers: Workers) {
    guard widths.0 == widths.1 else {
      relation = widths.0 > widths.1 ? .compressed : .expanded
      return
    }
    let writers = groups.filter { $0.writesStream && $0.reference.weight != nil && $0.candidate.weight != nil }
    let candidates: [PartsClaim.Stream] = [.same, .centred, .uncentred, .upToMean]
    let found = Mutex(candidates.map { _ in 0 })
    workers.forEach(writers.count * candidates.count) { task in
      let (writer, index) = (writers[task / candidates.count], task % candidates.count)
      let rowCount = min(writer.reference.weight?.rowCount ?? 0, writer.candidate.weight?.rowCount ?? 0)
      // Whole blocks, where the type has some: they may run along the inputs.
      let width = writer.candidate.weight?.storageError?.type.elementsPerBlock ?? 1
      let step = max(width, rowCount / 8 / width * width)
      let rows = stride(from: 0, to: rowCount, by: step).map { $0..<min($0 + width, rowCount) }
      let (mine, theirs) = StreamRelation(candidates[index]).centredOutputs
      guard let a = writer.reference.numbers(.init(output: mine)),
        let b = writer.candidate.numbers(.init(output: theirs)),
        a.weight.columnCount == b.weight.columnCount
      else { return }
      let comparison = MapComparison(a, b, allowance: allowance, readsFewInputs: true)
      let count = rows.count { row in
        comparison.tile(inputs: row, outputs: 0..<b.weight.columnCount) { !$0.holds }.difference.holds
      }
      found.withLock { $0[index] += count }
    }
    let counts = found.withLock(\.self)
    let most = counts.max() ?? 0
    relation = zip(candidates, counts).first { $0.1 == most }?.0 ?? .same
  }

  init(_ relation: PartsClaim.Stream) { self.relation = relation }
}
