import Formats
import Networks
import TestSupport
import Testing

@testable import Verify

/// Networks that go through one pass, held against passes of their own.
@Suite struct SharedPassesTests {
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

  private func contender(_ network: Network, _ precision: Comparison.Contender.Precision = .double)
    -> Comparison.Contender
  {
    .init(name: "network", network: network, precision: precision)
  }

  private var tokenCount: Int { probes.reduce(0) { $0 + $1.tokens.count } }

  /// Norms that are not close to those that are meant.
  private var altered: Network {
    var network = meant
    for site in network.sites { network[site]?.deviation = .computed(epsilon: 1e-5) }
    return network
  }

  @Test("Networks that differ in their norms share a pass, each with rows of its own")
  func norms() {
    var passes = SharedPasses()
    let seats = [meant, stored, altered, meant].map { passes.seat(contender($0), on: probes) }
    #expect(seats.map(\.pass) == [0, 0, 0, 0])
    #expect(seats.map(\.rows) == [0, 1, 2, 0].map { $0 * tokenCount..<($0 + 1) * tokenCount })
    #expect(passes.seat(contender(meant), on: others).rows == 3 * tokenCount..<3 * tokenCount + 5)
    #expect(passes.runs(workers: .all).count == 1)
  }

  @Test("Another precision, another rounding or any other weight makes another pass")
  func apart() {
    var passes = SharedPasses()
    var other = meant
    other.blocks[1].mlp.output.bias = nil
    var activated = meant
    activated.blocks[0].mlp.activation = .relu
    var bare = meant
    bare.finalNorm = nil
    var scaled = meant
    scaled.blocks[0].mlp.norm?.outputScale = 2
    let contenders = [
      contender(meant), contender(meant, .single), contender(other), contender(activated), contender(bare),
      contender(scaled),
      .init(name: "rounded", network: meant, precision: .single, rounding: Storage(.f16)),
    ]
    #expect(contenders.map { passes.seat($0, on: probes).pass } == Array(0..<7))
  }

  @Test("A contender that sees one probe has the rows of that one")
  func oneProbe() {
    var passes = SharedPasses()
    _ = passes.seat(contender(meant), on: probes)
    var short = contender(stored)
    short.onlyProbe = 2
    let seat = passes.seat(short, on: probes)
    let first = probes[0].tokens.count + probes[1].tokens.count
    #expect(seat.tokens == first..<first + probes[2].tokens.count)
    #expect(seat.rows == tokenCount..<tokenCount + probes[2].tokens.count)
  }

  @Test("Outcomes are those of passes of their own", arguments: [1, 2])
  func outcomes(workerCount: Int) throws {
    var short = contender(altered)
    short.onlyProbe = 1
    let questions = [
      Comparison.Question(
        of: [contender(stored), contender(meant, .single), short], with: contender(meant), on: probes),
      Comparison.Question(of: [contender(altered, .single)], with: contender(meant, .single), on: others),
    ]
    let answers = try Comparison.answers(to: questions, workers: Workers(count: workerCount))
    for (question, answer) in zip(questions, answers) {
      for (contender, found) in zip(question.contenders, answer.outcomes) {
        // Nothing to share with: the weights of another mapping are other weights.
        let again = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
        let network =
          switch contender.kind {
          case .network(let network, _, _): network.withWeights(of: again.network)
          case .program: again.network
          }
        let precision: Comparison.Contender.Precision = contender.isSingle ? .single : .double
        var own = Comparison.Contender(name: "own", network: network, precision: precision)
        own.onlyProbe = contender.onlyProbe
        let alone = try Comparison(of: [own], with: question.reference, on: question.probes).outcomes[0]
        // More rows in a product may have it summed in another order: some sixty units in the last place, over the whole
        // network, of what is compared.
        let rounding = 64 * (contender.isSingle ? Double(Float.ulpOfOne) : Double.ulpOfOne)
        #expect(abs(found.logits.largest - alone.logits.largest) <= rounding * answer.largestLogit)
        #expect(found.logits.tokenCount == alone.logits.tokenCount)
        #expect(found.logits.topTokenAgreement == alone.logits.topTokenAgreement)
        #expect(found.residuals.map(\.depth) == alone.residuals.map(\.depth))
        for (one, other) in zip(found.residuals, alone.residuals) {
          #expect(abs(one.relative - other.relative) <= rounding)
        }
      }
    }
    // What differs does differ.
    #expect(answers[0].outcomes[2].logits.relative > 1e-3)
    #expect(answers[1].outcomes[0].logits.relative > 1e-3)
  }
}

extension Network {
  /// The same norms over another network's weights.
  fileprivate func withWeights(of other: Network) -> Network {
    var result = other
    for site in sites {
      if let deviation = self[site]?.deviation, case .computed = deviation { result[site]?.deviation = deviation }
    }
    return result
  }
}
