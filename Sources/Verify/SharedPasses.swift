import Formats
import Networks

/// The forward passes that some comparisons need. Networks in the same precision that differ in nothing but their norms
/// go through one pass, each with its own tokens: every weight is read, and where it must be computed computed, once for
/// all of them.
struct SharedPasses {
  /// Where a contender's activations are.
  struct Seat {
    let pass: Int
    /// Of the pass, one after the other.
    let rows: Range<Int>
    /// Of the tokens that were asked about: those that the contender sees.
    let tokens: Range<Int>
  }

  /// Some rows of a pass.
  private struct Part {
    /// What stands in place of the pass's norms.
    let norms: [Norm: Norm]
    let probes: [Probe]
    let rows: Range<Int>
  }

  private struct Pass {
    let contender: Comparison.Contender
    var parts: [Part]
    var rowCount: Int { parts.last?.rows.upperBound ?? 0 }
  }

  private var passes: [Pass] = []

  /// Makes room for a contender.
  /// - Parameter all: what was asked about, of which it may see one probe only.
  mutating func seat(_ contender: Comparison.Contender, on all: [Probe]) -> Seat {
    let first = contender.onlyProbe.map { all[..<$0].tokenCount } ?? 0
    let probes = contender.onlyProbe.map { [all[$0]] } ?? all
    let tokens = first..<first + probes[...].tokenCount
    if case .network(let network, let precision, let rounding) = contender.kind {
      for index in passes.indices {
        guard case .network(let other, precision, rounding) = passes[index].contender.kind,
          let norms = other.norms(in: network)
        else { continue }
        if let part = passes[index].parts.first(where: { $0.norms == norms && $0.probes == probes }) {
          return Seat(pass: index, rows: part.rows, tokens: tokens)
        }
        let end = passes[index].rowCount
        let part = Part(norms: norms, probes: probes, rows: end..<end + tokens.count)
        passes[index].parts.append(part)
        return Seat(pass: index, rows: part.rows, tokens: tokens)
      }
    }
    passes.append(
      Pass(contender: contender, parts: [Part(norms: [:], probes: probes, rows: 0..<tokens.count)]))
    return Seat(pass: passes.count - 1, rows: 0..<tokens.count, tokens: tokens)
  }

  func runs(workers: Workers) -> [any NetworkRun] {
    passes.map { pass in
      let others = pass.parts.filter { !$0.norms.isEmpty }.map { NormsOfRows(rows: $0.rows, norms: $0.norms) }
      return pass.contender.run(on: pass.parts.flatMap(\.probes), otherNorms: others, workers: workers)
    }
  }
}

/// What the norms of a network are for some of the tokens that go through it.
package struct NormsOfRows: Sendable {
  let rows: Range<Int>
  let norms: [Norm: Norm]
}

extension ArraySlice<Probe> {
  fileprivate var tokenCount: Int { reduce(0) { $0 + $1.tokens.count } }
}

extension Network {
  /// Which norms stand in `other` where this network has others; nil unless that is all that tells them apart.
  fileprivate func norms(in other: Network) -> [Norm: Norm]? {
    guard dimensions == other.dimensions, tokenEmbedding == other.tokenEmbedding,
      positionEmbedding == other.positionEmbedding, unembedding == other.unembedding,
      blocks.count == other.blocks.count
    else { return nil }
    var withOurs = other
    var result: [Norm: Norm] = [:]
    for site in sites {
      withOurs[site] = self[site]
      guard let norm = self[site], let replacement = other[site] else {
        if self[site] == nil, other[site] == nil { continue }
        return nil
      }
      // The pass itself multiplies by the scale, and asks for a norm by what it is.
      guard norm.outputScale == replacement.outputScale, result[norm] ?? replacement == replacement else { return nil }
      result[norm] = replacement
    }
    return withOurs.blocks == blocks ? result.filter { $0.key != $0.value } : nil
  }
}
