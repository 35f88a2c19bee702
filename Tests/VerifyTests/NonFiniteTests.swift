import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// NaN and infinity: nothing that is not a number may pass for agreement.
@Suite struct NonFiniteTests {
  private static let tokens = [0, 1, 2]
  private static let probes = [Probe(name: "p", tokens: [0, 1, 2, 1])]
  private static let logits: [[Double]] = [[1, 2, 3], [3, -2, 1], [0, 0, 5]]

  private static func network(_ factors: [Int: Double] = [:]) throws -> Network {
    try LogitNetwork(logits, of: tokens, factors: factors).network
  }

  private static func compare(_ candidate: Network, with reference: Network) throws -> Comparison {
    try Comparison(
      of: [.init(name: "candidate", network: candidate, precision: .double)],
      with: .init(name: "reference", network: reference, precision: .double), on: probes)
  }

  /// NaN, ∞, and a number whose products overflow.
  private static let wrong = [Double.nan, .infinity, -.infinity, .greatestFiniteMagnitude]

  @Test("A candidate that gives no number on one token agrees with nothing", arguments: wrong)
  func candidate(_ factor: Double) throws {
    let found = try Self.compare(try Self.network([2: factor]), with: try Self.network()).outcomes[0].logits
    #expect(found.nonFiniteTokenCount == 1)
    #expect(found.tokenCount == 3)
    // The others do agree, which must not help.
    #expect(found.largest == 0)
    #expect(!found.isWithin(1))
    #expect(!found.isWithin(.infinity))
  }

  @Test("A candidate that gives no number anywhere agrees with nothing", arguments: wrong)
  func wholeCandidate(_ factor: Double) throws {
    let found = try Self.compare(try Self.network([0: factor, 1: factor, 2: factor]), with: try Self.network())
      .outcomes[0].logits
    #expect(found.tokenCount == 0)
    #expect(found.nonFiniteTokenCount == 4)
    #expect(
      found.largest.isNaN && found.relative.isNaN && found.largestDivergence.isNaN && found.largestLogProbability.isNaN)
    #expect(!found.isWithin(.infinity))
  }

  @Test("Tokens on which the reference overflows are named and not judged", arguments: wrong)
  func reference(_ factor: Double) throws {
    let comparison = try Self.compare(try Self.network(), with: try Self.network([1: factor]))
    #expect(comparison.overflows.map(\.description) == ["p, position 1", "p, position 3"])
    let found = comparison.outcomes[0].logits
    #expect(found.tokenCount == 2)
    #expect(found.nonFiniteTokenCount == 0)
    #expect(found.isWithin(0))
    #expect(comparison.largestLogit == 5)
    // The next token of position 0 still counts.
    #expect(found.loss != nil)
  }

  @Test("An overflow is named by the position of its token, not by its place in the probe")
  func position() throws {
    let probe = Probe(name: "p", tokens: [0, 1, 2], positions: [0, 500, 999])
    let comparison = try Comparison(
      of: [], with: .init(name: "reference", network: try Self.network([1: .nan]), precision: .double), on: [probe])
    #expect(comparison.overflows.map(\.description) == ["p, position 500"])
  }

  /// A program that gives the same logits as the network, whatever it is run on.
  private struct Program: LogitProgram {
    let outputWidth = 3

    func storing(_ network: Network) -> Network? { nil }

    func logits(
      of probe: Probe, product: @escaping MatrixProduct
    ) throws(Refusal) -> [Double] {
      probe.tokens.flatMap { NonFiniteTests.logits[$0] }
    }
  }

  @Test("A program is judged on the tokens of its probe that the source can compute; with none there is nothing to say")
  func program() throws {
    func verification(_ factors: [Int: Double], on probes: [Probe]) throws -> Verification {
      let source = try Self.network(factors)
      return try Verification(
        source: source, literal: nil,
        written: [.init(name: "t", exact: source, model: .program(Program()), type: .f32)],
        probes: ProbeSet(precise: probes))
    }
    // The one that goes farthest.
    let probes = [Probe(name: "short", tokens: [1, 2]), Probe(name: "far", tokens: [0, 1, 2], positions: [0, 5, 9])]
    let all = try verification([:], on: probes).targets[0]
    #expect(all.judgement.single.logits.tokenCount == 3)
    // What may differ is measured on the same tokens: of few, one that changes is a larger share.
    #expect(all.judgement.noise.logits.tokenCount == 3)
    let found = try verification([1: .infinity], on: probes)
    #expect(found.targets[0].judgement.single.logits.tokenCount == 2)
    #expect(found.overflows == ["short, position 0", "far, position 5"])
    #expect(found.holds)
    // On the short one there would be something to say, but not of the program.
    #expect(throws: Refusal.self) {
      try verification(
        [0: .nan], on: [Probe(name: "short", tokens: [1]), Probe(name: "far", tokens: [0, 0], positions: [0, 9])])
    }
  }

  @Test("A long probe is cut for a program, from its first position to its last")
  func cutForProgram() throws {
    let source = try Self.network()
    let verification = try Verification(
      source: source, literal: nil,
      written: [.init(name: "t", exact: source, model: .program(Program()), type: .f32)],
      probes: ProbeSet(precise: [Probe(name: "long", tokens: (0..<301).map { $0 % 3 })]))
    #expect(verification.probes == ["long (301)", "long, in steps (16)"])
    #expect(verification.targets[0].judgement.single.logits.tokenCount == 16)
    #expect(verification.holds)
  }

  @Test("No limit holds that is not a number, and none on no tokens")
  func limits() throws {
    var found = try Self.compare(try Self.network(), with: try Self.network()).outcomes[0].logits
    #expect(found.isWithin(0))
    #expect(!found.isWithin(.nan))
    #expect(!found.isWithin(-1))
    found.largest = .nan
    #expect(!found.isWithin(.infinity))
    found.largest = 0
    found.tokenCount = 0
    #expect(!found.isWithin(1))
  }

  @Test("A source that overflows everywhere is refused: there is nothing to hold a conversion against")
  func everythingOverflows() throws {
    let source = try Self.network([0: .nan, 1: .infinity, 2: .nan])
    let refusal = #expect(throws: Refusal.self) {
      _ = try Verification(
        source: source, literal: nil,
        written: [
          .init(
            name: "t", exact: try Self.network(), model: .network(try Self.network(), meant: try Self.network()),
            type: .f32)
        ],
        probes: ProbeSet(precise: Self.probes))
    }
    #expect(refusal?.category == .nonFinite)
    #expect(
      refusal?.description
        == "the logits of the source are themselves NaN or infinite on every probe, in double or single precision, so there "
        + "is nothing to hold another network against; check the weights")
  }

  @Test("Neither claim holds where the written network gives no numbers, or the folded one", arguments: [true, false])
  func claims(foldedIsWrong: Bool) throws {
    let (good, bad) = (try Self.network(), try Self.network([2: .nan]))
    let verification = try Verification(
      source: good, literal: nil,
      written: [
        .init(
          name: "t", exact: foldedIsWrong ? bad : good,
          model: .network(foldedIsWrong ? good : bad, meant: foldedIsWrong ? good : bad), type: .f32)
      ],
      probes: ProbeSet(precise: Self.probes))
    #expect(verification.targets[0].algebraHolds == !foldedIsWrong)
    #expect(verification.targets[0].arithmeticHolds == foldedIsWrong)
    #expect(!verification.holds)
  }

  @Test("Of no targets nothing holds")
  func noTargets() throws {
    let verification = try Verification(
      source: try Self.network(), literal: nil, written: [], probes: ProbeSet(precise: Self.probes))
    #expect(!verification.holds)
  }

  @Test("A residual stream with NaN does not look like agreement", arguments: [Double.nan, .infinity])
  func residuals(_ value: Double) throws {
    let residual = try Self.compare(try Self.network([2: value]), with: try Self.network()).outcomes[0].residuals
    #expect(residual.count == 1)
    #expect(!(residual[0].relative <= 1e9))
    #expect(!(residual[0].largest <= 1e9))
  }

  @Test("Where the reference's residual stream is not finite, the rest of it is still compared")
  func residualsOfOverflow() throws {
    let residual = try Self.compare(try Self.network([0: 1.5]), with: try Self.network([2: .infinity])).outcomes[0]
      .residuals
    #expect(residual[0].largest == 0.5)
    #expect(residual[0].relative == 0.5)
  }
}
