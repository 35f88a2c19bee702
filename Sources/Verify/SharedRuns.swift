import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks

/// The forward passes that some comparisons need. Networks in the same precision that differ in nothing but their norms
/// share one run, each with its own tokens: every weight is read, and where it must be computed is computed, once for all of
/// them.
struct SharedRuns {
  /// The place of a candidate's activations.
  struct RunSlice {
    let run: Int
    /// Rows of the run.
    let rows: Range<Int>
    /// The tokens of the request that the candidate is run on.
    let tokens: Range<Int>
  }

  /// Rows of a run that have norms of their own.
  private struct Slice {
    /// The norms that stand in place of the run's, by path.
    let norms: [Path: Norm]
    let probes: [Probe]
    let rows: Range<Int>
  }

  private struct Run {
    let candidate: Comparison.Candidate
    var slices: [Slice]
    var rowCount: Int { slices.last?.rows.upperBound ?? 0 }
  }

  private var runs: [Run] = []

  /// Reserves rows for a candidate.
  ///
  /// - Parameter all: the probes of the request, of which the candidate may be run on one only.
  mutating func reserve(_ candidate: Comparison.Candidate, on all: [Probe]) -> RunSlice {
    let first = candidate.onlyProbe.map { all[..<$0].tokenCount } ?? 0
    let probes = candidate.onlyProbe.map { [all[$0]] } ?? all
    let tokens = first..<first + probes[...].tokenCount
    if case .network(let network, let precision, let rounding) = candidate.kind {
      for index in runs.indices {
        guard case .network(let other, precision, rounding) = runs[index].candidate.kind,
          let norms = other.norms(in: network)
        else { continue }
        if let slice = runs[index].slices.first(where: { $0.norms == norms && $0.probes == probes }) {
          return RunSlice(run: index, rows: slice.rows, tokens: tokens)
        }
        let end = runs[index].rowCount
        let slice = Slice(norms: norms, probes: probes, rows: end..<end + tokens.count)
        runs[index].slices.append(slice)
        return RunSlice(run: index, rows: slice.rows, tokens: tokens)
      }
    }
    runs.append(
      Run(candidate: candidate, slices: [Slice(norms: [:], probes: probes, rows: 0..<tokens.count)]))
    return RunSlice(run: runs.count - 1, rows: 0..<tokens.count, tokens: tokens)
  }

  func networkRuns(workers: Workers) -> [any NetworkRun] {
    runs.map { run in
      let others = run.slices.filter { !$0.norms.isEmpty }.map { NormsOfRows(rows: $0.rows, norms: $0.norms) }
      return run.candidate.run(on: run.slices.flatMap(\.probes), otherNorms: others, workers: workers)
    }
  }
}

extension ArraySlice<Probe> {
  var tokenCount: Int { reduce(0) { $0 + $1.tokens.count } }
}

extension Network {
  /// The norms that stand in `other` where this network has others, by path; nil unless that is all that tells the two apart.
  fileprivate func norms(in other: Network) -> [Path: Norm]? {
    guard nodes.count == other.nodes.count, output == other.output, contextLength == other.contextLength else {
      return nil
    }
    var result: [Path: Norm] = [:]
    for (mine, theirs) in zip(nodes, other.nodes) where mine != theirs {
      guard mine.path == theirs.path, mine.operands == theirs.operands, case .norm = mine.operation,
        case .norm(let norm) = theirs.operation
      else { return nil }
      result[theirs.path] = norm
    }
    return result
  }
}
