import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@Suite struct IntegerTests {
  private static let probes = [
    Probe(name: "a", tokens: [3, 1, 4, 1, 5]), Probe(name: "b", tokens: [511]),
    Probe(name: "c", tokens: [7, 8, 9], positions: [2, 40, 63]),
  ]

  private static let variants =
    NetworkVariant.activations + NetworkVariant.norms + NetworkVariant.scales + NetworkVariant.shapes

  private static func network(_ variant: NetworkVariant) throws -> Network {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    variant.alter(&network)
    return network
  }

  /// Norms of each head, angles with a magnitude, padding on both sides, tokens of two texts, a pooler.
  private static let others = ["decoders/qwen3", "yarn", "encoders/bert-model", "encoders/roberta-sequence"]

  private static func opened(_ name: String) throws -> (Network, [Probe]) {
    guard name.hasPrefix("encoders") else {
      let network = try DecoderLogitsTests.opened(name == "yarn" ? name : "qwen3").network
      return (network, [Probe(name: "a", tokens: [3, 1, 4, 1, 5]), Probe(name: "b", tokens: [2, 7])])
    }
    let network = try Model(opening: Fixtures.path(name)).network
    let types = network.tokenTypeEmbedding.map { [0, 0, 0, $0.rowCount - 1] }
    return (
      network,
      [
        Probe(name: "a", tokens: [5, 6, 7, 8], types: types, isVisible: [false, true, true, true]),
        Probe(name: "b", tokens: [9, 4, 5], isVisible: [true, true, false]),
      ]
    )
  }

  @Test(
    "Dynamic fixed point is, bit for bit, what plain loops over 64-bit integers make of the same operands",
    arguments: variants.map { ($0, 8, 12) } + variants.map { ($0, 8, 8) }
      + [(variants[0], 16, 16), (variants[0], 4, 5)])
  func dynamic(_ variant: NetworkVariant, weightBits: Int, activationBits: Int) throws {
    try Self.compareDynamic(try Self.network(variant), Self.probes, weightBits, activationBits)
  }

  @Test("So it is in networks of other kinds", arguments: others)
  func otherDynamic(_ name: String) throws {
    let (network, probes) = try Self.opened(name)
    try Self.compareDynamic(network, probes, 8, 12)
    try Self.compareDynamic(network, probes, 8, 8)
  }

  @Test(
    "Fixed point is, bit for bit, what plain loops over 128-bit integers make of the same operands",
    arguments: variants.map { ($0, 64, 16) } + [(variants[0], 64, 24), (variants[0], 24, 8)])
  func fixed(_ variant: NetworkVariant, bits: Int, fraction: Int) throws {
    let overflows = try Self.compareFixed(try Self.network(variant), Self.probes, bits, fraction)
    // Weights and activations of this network are below 2^7.
    if (bits, fraction) == (64, 16) { #expect(overflows.isEmpty) }
  }

  @Test("So it is in networks of other kinds, too", arguments: others)
  func otherFixed(_ name: String) throws {
    let (network, probes) = try Self.opened(name)
    _ = try Self.compareFixed(network, probes, 64, 16)
  }

  /// Compares every operation alone: its operands are what the backend itself computed.
  private static func compareDynamic(
    _ network: Network, _ probes: [Probe], _ weightBits: Int, _ activationBits: Int
  ) throws {
    for (scales, includesAttention) in [(IntegerArithmetic.Scales.tensor, true), (.channel, false)] {
      let plain = PlainDynamic(
        probes: probes, weightBits: weightBits, activationBits: activationBits, isByChannel: scales == .channel)
      var execution = Execution(
        network,
        on: DynamicBackend<Double>(
          probes: probes, weightBits: weightBits, activationBits: activationBits, scales: scales,
          includesAttention: includesAttention))
      var compared = 0
      for stage in 0..<execution.stageCount {
        try execution.run(stage: stage) { node, operands, result in
          guard let expected = plain.evaluate(node.operation, operands.map(\.array), includesAttention) else { return }
          compared += 1
          #expect(expected == result.array, "\(node.path)")
        }
      }
      #expect(compared > 10)
    }
  }

  /// - Returns: what did not fit.
  private static func compareFixed(
    _ network: Network, _ probes: [Probe], _ bits: Int, _ fraction: Int
  ) throws -> [IntegerOverflow] {
    let plain = PlainFixed(probes: probes, bits: bits, fraction: fraction)
    var execution = Execution(network, on: FixedPointBackend(probes: probes, bits: bits, fraction: fraction))
    for stage in 0..<execution.stageCount {
      try execution.run(stage: stage) { node, operands, result in
        #expect(plain.evaluate(node.operation, operands.map(\.values)) == result.values, "\(node.path)")
      }
    }
    return execution.backend.overflows
  }

  @Test("Among these networks are all operations that have a form in integers, in all their kinds")
  func coverage() throws {
    let networks = try Self.variants.map { try Self.network($0) } + Self.others.map { try Self.opened($0).0 }
    func name(_ value: Any) -> String { "\(value)".split(separator: "(").first.map(String.init) ?? "" }
    let found = networks.flatMap(\.nodes).map { node in
      switch node.operation {
      case .embed(_, let index): "embed by \(name(index))"
      case .linear(let map): map.bias == nil ? "linear" : "linear with bias"
      case .norm(let norm): "\(norm.kind) norm, \(name(norm.deviation))\(norm.headCount > 1 ? ", of heads" : "")"
      case .attend(let attention):
        "attend \(attention.mask.name)\(attention.headCount != attention.keyValueHeadCount ? ", shared keys" : "")"
      case .activate(let activation): name(activation)
      default: name(node.operation)
      }
    }
    let expected: Set = [
      "embed by token", "embed by position", "embed by unpaddedPosition", "embed by tokenType", "linear",
      "linear with bias", "layer norm, computed", "layer norm, fixed", "rms norm, computed", "rms norm, fixed",
      "crms norm, computed", "rms norm, computed, of heads", "attend causal", "attend causal, shared keys",
      "attend bidirectional", "geluTanh", "geluErf", "relu", "reluSquared", "leakyReLU", "silu", "tanh", "rotate",
      "scale", "scaleFeatures", "add", "multiply", "select",
    ]
    #expect(expected.subtracting(found) == [], "of \(Set(found).sorted())")
  }

  @Test(
    "A network without an unembedding is run whole, and held against itself", arguments: ["int:8,12", "fixed:64,16"])
  func hiddenStates(_ arithmetic: String) throws {
    let (network, probes) = try Self.opened("encoders/bert-model")
    let drift = try IntegerDrift(of: [("a", network)], in: IntegerArithmetic(parsing: arithmetic), on: probes)
    let difference = drift.networks[0].difference.logits
    #expect(difference.tokenCount == 7 && difference.nonFiniteTokenCount == 0)
    #expect(difference.relative > 1e-6)
  }

  @Test("Logits of any part of the vocabulary are those of the whole", arguments: [8, 12])
  func partsOfLogits(_ bits: Int) throws {
    for name in ["tiny-2x32/vanilla", "gpt-neox/parallel"] {
      let network = try Model(opening: Fixtures.path(name)).network
      let known = IntegerWeights()
      func logits(_ range: Range<Int>) throws -> [[Double]] {
        let run = IntegerArithmetic(.dynamic(weightBits: bits, activationBits: bits)).run(
          network, probes: Self.probes, precision: .double, known: known)
        try run.embed()
        for block in 0..<run.blockCount { try run.run(block: block) }
        try run.finish()
        let rows = run.logits(of: range)
        return (0..<9).map { row in
          withUnsafeTemporaryAllocation(of: Double.self, capacity: range.count) { room in
            withExtendedLifetime(rows) { Array(rows.row(row, room: room)) }
          }
        }
      }
      let whole = try logits(0..<network.vocabularySize)
      for range in [0..<1, 5..<16, 5..<17, 16..<40, 33..<network.vocabularySize] {
        #expect(try logits(range) == whole.map { Array($0[range]) }, "\(range)")
      }
    }
  }

  /// Bytes have no NaN: such a tensor is multiplied in Doubles.
  @Test("What is not finite stays so in every width", arguments: [8, 12])
  func nonFinite(_ bits: Int) throws {
    func isFinite(_ logits: [[Double]], _ factors: [Int: Double]) throws -> [[Bool]] {
      let network = try LogitNetwork(logits, of: [0, 1], factors: factors).network
      let run = IntegerArithmetic(.dynamic(weightBits: bits, activationBits: bits)).run(
        network, probes: [Probe(name: "two", tokens: [0, 1])], precision: .double)
      try run.embed()
      try run.finish()
      let rows = run.logits(of: 0..<3)
      return (0..<2).map { row in
        withUnsafeTemporaryAllocation(of: Double.self, capacity: 3) { room in
          withExtendedLifetime(rows) { rows.row(row, room: room).map(\.isFinite) }
        }
      }
    }
    #expect(try isFinite([[1, 3, -2], [4, 5, 6]], [0: 2]) == [[true, true, true], [true, true, true]])
    // 0 · NaN is NaN.
    #expect(try isFinite([[1, .nan, -2], [4, 5, 6]], [:]) == [[true, false, true], [true, false, true]])
    #expect(try isFinite([[1, 3, -2], [4, 5, 6]], [0: .infinity]) == [[false, false, false], [true, true, true]])
  }

  /// By hand, from the definition of the format: 3.999 = 0.99975 · 2², so that the exponent is 2 − 7.
  @Test("A tensor's numbers are integers with the exponent of the largest of them")
  func mapping() throws {
    let x = [0.75, -1.5, 0.011, 3.999, -0.3]
    func rounded(_ bits: Int) throws -> [Double] {
      let network = try LogitNetwork([x], of: [0]).network
      let run = IntegerArithmetic(.dynamic(weightBits: bits, activationBits: 24)).run(
        network, probes: [Probe(name: "one", tokens: [0])], precision: .double)
      try run.embed()
      try run.finish()
      let logits = run.logits(of: 0..<5)
      return withUnsafeTemporaryAllocation(of: Double.self, capacity: 5) { room in
        withExtendedLifetime(logits) { Array(logits.row(0, room: room)) }
      }
    }
    // The embedding is 1, which is exact in any width.
    #expect(try rounded(8) == [24, -48, 0, 127, -10].map { $0 * 0x1p-5 })
    #expect(try rounded(16) == [6_144, -12_288, 90, 32_760, -2_458].map { $0 * 0x1p-13 })
  }

  @Test("Numbers that do not fit into the ring are counted where they arise")
  func overflows() throws {
    let network = try LogitNetwork([[1, 300, -2]], of: [0], factors: [0: 200]).network
    let drift = try IntegerDrift(
      of: [("a", network)], in: IntegerArithmetic(.fixed(bits: 24, fraction: 8)),
      on: [Probe(name: "one", tokens: [0])])
    // 300 · 200 · 2^16 is beyond 2^23, and so are 200 · 2^16 and −400 · 2^16; all of the embedding and the table fit.
    #expect(drift.networks[0].overflows == [IntegerOverflow(path: "unembedding", count: 3)])
    let wide = try IntegerDrift(
      of: [("a", network)], in: IntegerArithmetic(.fixed(bits: 48, fraction: 8)),
      on: [Probe(name: "one", tokens: [0])])
    #expect(wide.networks[0].overflows.isEmpty)
    #expect(wide.networks[0].difference.logits.largest == 0)
  }

  @Test(
    "Text is read, or refused with what is wrong",
    arguments: [
      ("int:8,12", nil), ("fixed:64,16", nil),
      ("int:1,8", "'int:1,8': 1 bits: expected 2 to 24, the sign among them"),
      (
        "fixed:16,8",
        "'fixed:16,8': 8 bits behind the point: expected 1 to 7, so that a product of two numbers has room in 16 bits"
      ),
      ("fixed:65,8", "'fixed:65,8': 65 bits: expected 8 to 64, the sign among them"),
      (
        "int8",
        "'int8': is no arithmetic on integers; give int:W,A, the bits of weights and of activations, or fixed:K,F, all bits and those behind the point, as in int:8,12 or fixed:64,16"
      ),
    ] as [(String, String?)])
  func parsing(_ text: String, _ refusal: String?) {
    do throws(Refusal) {
      let arithmetic = try IntegerArithmetic(parsing: text)
      #expect(refusal == nil)
      #expect(arithmetic.name == text)
    } catch { #expect(error.description == refusal) }
  }

  @Test("Widths whose sums could need more bits than there are are refused with the operation")
  func accumulators() throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let refusal = #expect(throws: Refusal.self) {
      try IntegerArithmetic(.dynamic(weightBits: 24, activationBits: 24)).requireForm(of: network)
    }
    #expect(
      refusal?.description
        == "'blocks.0.attention.norm': a sum of 33 products of integers may need 54 bits under int:24,24, and there are 53; "
        + "give narrower integers")
    try IntegerArithmetic(.dynamic(weightBits: 16, activationBits: 16)).requireForm(of: network)
  }

  @Test("With 24 bits, integers do what single precision does; each bit less costs more")
  func widths() throws {
    let network = try Model(opening: Fixtures.path("shakespeare-4x128/lnfree")).network
    var generator = TestGenerator(state: 5)
    let probe = Probe(
      name: "random", tokens: (0..<48).map { _ in Int.random(in: 0..<network.vocabularySize, using: &generator) })
    let divergences = try [16, 12, 10, 8].map { bits in
      try IntegerDrift(
        of: [("a", network)], in: IntegerArithmetic(.dynamic(weightBits: bits, activationBits: bits)), on: [probe]
      ).networks[0].difference.logits.meanDivergence
    }
    #expect(divergences == divergences.sorted())
    #expect(divergences[0] < 1e-5)
    #expect(divergences[3] > 1e-4)
  }
}
