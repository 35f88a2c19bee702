import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@testable import NormFoldVerify

/// Networks that go through one run, held against runs of their own.
@Suite struct SharedRunsTests {
  private let model: Model
  private let meant: Network
  private let stored: Network
  private let probes: [Probe]
  private let others: [Probe]

  init() throws {
    // Its runtime computes norms with an epsilon, the network that is meant has fixed ones.
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
    self.model = model
    meant = model.network
    stored = try #require(model.literalNetwork)
    probes = ProbeSet.standard(for: meant, endOfText: 0).precise
    others = [Probe(name: "other", tokens: [5, 4, 3, 2, 1])]
  }

  private func candidate(_ network: Network, _ precision: Precision = .double)
    -> Comparison.Candidate
  {
    .init(name: "network", network: network, precision: precision)
  }

  private var tokenCount: Int { probes.reduce(0) { $0 + $1.tokens.count } }

  /// Norms that are not close to those that are meant.
  private var altered: Network {
    var network = meant
    for (path, _) in network.norms { network[norm: path]?.deviation = .computed(epsilon: 1e-5) }
    return network
  }

  @Test("Networks that differ in their norms share a run, each with rows of its own")
  func norms() {
    var shared = SharedRuns()
    let slices = [meant, stored, altered, meant].map { shared.reserve(candidate($0), on: probes) }
    #expect(slices.map(\.run) == [0, 0, 0, 0])
    #expect(slices.map(\.rows) == [0, 1, 2, 0].map { $0 * tokenCount..<($0 + 1) * tokenCount })
    #expect(shared.reserve(candidate(meant), on: others).rows == 3 * tokenCount..<3 * tokenCount + 5)
    #expect(shared.networkRuns(workers: .all).count == 1)
  }

  @Test("Another precision, another rounding or any other weight makes another run")
  func apart() {
    var shared = SharedRuns()
    var other = meant
    other[linear: "blocks.1.mlp.output"]?.bias = nil
    var activated = meant
    activated.replaceOperation(at: "blocks.0.mlp.activation", by: .activate(.relu))
    var bare = meant
    bare[norm: "final.norm"] = nil
    var scaled = meant
    scaled.multiply("blocks.0.mlp.norm", by: 2)
    let candidates = [
      candidate(meant), candidate(meant, .single), candidate(other), candidate(activated), candidate(bare),
      candidate(scaled),
      .init(name: "rounded", network: meant, precision: .single, rounding: Storage(.f16)),
    ]
    #expect(candidates.map { shared.reserve($0, on: probes).run } == Array(0..<7))
  }

  @Test("A candidate that sees one probe has the rows of that one")
  func oneProbe() {
    var shared = SharedRuns()
    _ = shared.reserve(candidate(meant), on: probes)
    var short = candidate(stored)
    short.onlyProbe = 2
    let slice = shared.reserve(short, on: probes)
    let first = probes[0].tokens.count + probes[1].tokens.count
    #expect(slice.tokens == first..<first + probes[2].tokens.count)
    #expect(slice.rows == tokenCount..<tokenCount + probes[2].tokens.count)
  }

  @Test("Outcomes are those of runs of their own", arguments: [1, 2])
  func outcomes(workerCount: Int) throws {
    var short = candidate(altered)
    short.onlyProbe = 1
    let requests = [
      Comparison.Request(
        of: [candidate(stored), candidate(meant, .single), short], with: candidate(meant), on: probes),
      Comparison.Request(of: [candidate(altered, .single)], with: candidate(meant, .single), on: others),
    ]
    let results = try Comparison.results(of: requests, workers: Workers(count: workerCount))
    for (request, result) in zip(requests, results) {
      for (candidate, found) in zip(request.candidates, result.outcomes) {
        // Nothing to share with: the weights of another mapping are other weights.
        let again = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
        let network =
          switch candidate.kind {
          case .network(let network, _, _): network.withWeights(of: again.network)
          case .program, .integers: again.network
          }
        let precision: Precision = candidate.isSingle ? .single : .double
        var own = Comparison.Candidate(name: "own", network: network, precision: precision)
        own.onlyProbe = candidate.onlyProbe
        let alone = try Comparison(of: [own], with: request.reference, on: request.probes).outcomes[0]
        // More rows in a product may have it summed in another order: some sixty units in the last place, over the whole
        // network, of what is compared.
        let rounding = 64 * (candidate.isSingle ? Double(Float.ulpOfOne) : Double.ulpOfOne)
        // The logits of a network with other norms may be a million times as large as the reference's.
        let largest = result.largestLogit + alone.logits.largest
        #expect(abs(found.logits.largest - alone.logits.largest) <= rounding * largest)
        #expect(found.logits.tokenCount == alone.logits.tokenCount)
        #expect(found.logits.top1Agreement == alone.logits.top1Agreement)
        #expect(found.residuals.map(\.depth) == alone.residuals.map(\.depth))
        for (one, other) in zip(found.residuals, alone.residuals) {
          #expect(abs(one.relative - other.relative) <= rounding * max(1, other.relative))
        }
      }
    }
    // What differs does differ.
    #expect(results[0].outcomes[2].logits.relative > 1e-3)
    #expect(results[1].outcomes[0].logits.relative > 1e-3)
  }
}

extension Network {
  /// The same norms over another network's weights.
  fileprivate func withWeights(of other: Network) -> Network {
    var result = other
    for (path, norm) in norms where norm.isComputed { result[norm: path]?.deviation = norm.deviation }
    return result
  }
}
