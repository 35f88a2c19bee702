import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// A change to a network whose two evaluations must agree.
struct NetworkVariant: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let alter: @Sendable (inout Network) -> Void

  init(_ name: String, _ alter: @escaping @Sendable (inout Network) -> Void) {
    testDescription = name
    self.alter = alter
  }

  static let activations: [NetworkVariant] = [
    Activation.geluTanh, .geluErf, .relu, .reluSquared, .leakyReLU(negativeSlope: 0.3), .silu,
  ].map { activation in
    NetworkVariant("\(activation)") { network in
      network.setActivations(activation)
    }
  }

  private static func norms(_ name: String, _ alter: @escaping @Sendable (Path, inout Norm) -> Void) -> NetworkVariant {
    NetworkVariant(name) { $0.changeNorms(alter) }
  }

  /// Different in each feature: 0.5, 0.75, 1, 1.25, and again.
  private static let perFeature = Parameter.concatenating(
    (0..<32).map { .constant(0.5 + 0.25 * Double($0 % 4), shape: [1]) }, axis: 0)

  static let norms: [NetworkVariant] = [
    norms("computed") { _, _ in },
    norms("computed, large epsilon") { $1.deviation = .computed(epsilon: 4) },
    norms("computed rms") { $1.kind = .rms },
    norms("computed crms") { $1.kind = .crms },
    norms("fixed") { $1.deviation = .fixed(.constant(0.5, shape: [32])) },
    norms("fixed per feature") { $1.deviation = .fixed(perFeature) },
    norms("fixed rms") { ($1.kind, $1.deviation) = (.rms, .fixed(perFeature)) },
    norms("no norm bias") { $1.bias = nil },
    NetworkVariant("values fixed, queries and keys computed") { network in
      for block in 0..<network.blockCount {
        network[norm: network.splitValueNorm(ofBlock: block)]?.deviation = .fixed(.constant(0.5, shape: [32]))
      }
    },
    NetworkVariant("no norms") { network in for (path, _) in network.norms { network[norm: path] = nil } },
    NetworkVariant("no positions") { $0.remove("embedding") },
    NetworkVariant("no biases") { network in
      for block in 0..<network.blockCount {
        network[linear: "blocks.\(block).attention.query"]?.bias = nil
        network[linear: "blocks.\(block).mlp.output"]?.bias = nil
      }
    },
    NetworkVariant("a bias of the unembedding") {
      $0[linear: "unembedding"]?.bias = .concatenating((0..<2).map { .constant(Double($0), shape: [256]) }, axis: 0)
    },
  ]

  static let scales: [NetworkVariant] =
    [0, 0.1, 1].flatMap { scale in
      [false, true].map { byBlock in
        NetworkVariant("attention scale \(scale)\(byBlock ? " over the number of the block" : "")") { network in
          network.changeAttentions { path, attention in
            attention.scale = scale / (byBlock ? Double((path.block ?? 0) + 1) : 1)
          }
        }
      }
    } + [
      NetworkVariant("eight heads") { network in
        network.changeAttentions { ($1.headCount, $1.keyValueHeadCount) = (8, 8) }
      }
    ]

  static let shapes: [NetworkVariant] = [
    NetworkVariant("rotary positions") { $0.rotateHeads(Rotary(base: 10, width: 16)) },
    NetworkVariant("rotary positions of a quarter of each head") { $0.rotateHeads(Rotary(base: 10, width: 4)) },
    NetworkVariant("two heads that share keys and values") { $0.groupKeysAndValues(by: 2) },
    NetworkVariant("both") { network in
      network.groupKeysAndValues(by: 2)
      network.rotateHeads(Rotary(base: 10_000, width: 16))
    },
    NetworkVariant("gates") { $0.addGates() },
    NetworkVariant("scaled norms and branches") { network in
      for (path, _) in network.norms { network.multiply(path, by: 0.75) }
      network.multiply("blocks.0.attention.output", by: 0.5)
      network.multiply("blocks.1.mlp.output", by: -2)
    },
    NetworkVariant("branches times vectors") { network in
      network.multiplyFeatures(of: "blocks.0.attention.output", by: perFeature)
      network.multiplyFeatures(of: "blocks.1.mlp.output", by: perFeature)
    },
  ]
}

@Suite struct BackendTests {
  private static let probes = [
    Probe(name: "a", tokens: [3, 1, 4, 1, 5]), Probe(name: "b", tokens: [511]), Probe(name: "c", tokens: [0, 0, 2]),
    Probe(name: "d", tokens: [7, 8, 9], positions: [2, 40, 63]),
  ]

  @Test(
    "The fast pass over several probes at once is the plain pass over each",
    arguments:
      NetworkVariant.activations + NetworkVariant.norms + NetworkVariant.scales + NetworkVariant.shapes)
  func againstReference(_ variant: NetworkVariant) throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    variant.alter(&network)
    var expected: [Double] = []
    for probe in Self.probes {
      var reference = PlainBackend(tokens: probe.tokens, positions: probe.positions)
      expected += try network.evaluate(on: &reference).flatMap { $0 }
    }
    func relative<Scalar: ArithmeticScalar>(_: Scalar.Type) throws -> Double {
      return relativeDifference(try network.logits(on: FastBackend<Scalar>(probes: Self.probes)).all().array, expected)
    }
    // Another order of the same sums, through two blocks: some hundred units in the last place of either precision.
    #expect(try relative(Double.self) <= 1e-13)
    #expect(try relative(Float.self) <= 1e-5)
  }

  @Test("A variant is another network: the tests above compare more than one thing")
  func variantsDiffer() throws {
    let plain = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let logits = try plain.logits(on: FastBackend<Double>(probes: Self.probes)).all().array
    let variants =
      NetworkVariant.activations.dropFirst() + NetworkVariant.norms.dropFirst() + NetworkVariant.scales
      + NetworkVariant.shapes
    for variant in variants {
      var network = plain
      variant.alter(&network)
      let other = try network.logits(on: FastBackend<Double>(probes: Self.probes)).all().array
      #expect(zip(logits, other).contains { abs($0 - $1) > 1e-6 }, "\(variant.testDescription)")
    }
  }

  @Test("A deviation that depends on position or token is refused, not evaluated as something else")
  func notEvaluated() throws {
    var network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    network[norm: "blocks.1.mlp.norm"]?.deviation = .perPosition(.constant(1, shape: [64]))
    let refusal = #expect(throws: Refusal.self) { _ = try network.logits(on: FastBackend<Double>(probes: Self.probes)) }
    #expect(
      refusal?.description
        == "'transformer.h.1.ln_2': a deviation that depends on the position or the token is not evaluated")
  }

  @Test(
    "What a later token does cannot be seen by an earlier one, be it infinite", arguments: [Double.infinity, .nan, 7])
  func causality(_ value: Double) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/vanilla") {
      $0.tensors.change("transformer.wte.weight") { $0[9 * 32 + 3] = Float(value) }
    }
    let probes = [Probe(name: "with", tokens: [5, 6, 9, 7])]
    func logits(_ network: Network) throws -> [[Double]] {
      let all = try network.logits(on: FastBackend<Double>(probes: probes)).all().array
      return (0..<4).map { Array(all[$0 * 512..<($0 + 1) * 512]) }
    }
    var untied = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let expected = try logits(untied)
    untied[table: "embedding.tokens"] = try Model(opening: altered.path).network[table: "embedding.tokens"]
    let found = try logits(untied)
    // Rows are computed alone where a value is not finite, and OpenBLAS sums one row in another order than several.
    for row in 0..<2 { #expect(relativeDifference(found[row], expected[row]) <= 1e-13) }
    #expect(found[2] != expected[2])
    #expect(found[3] != expected[3])
    #expect(found[2].allSatisfy { $0.isFinite == value.isFinite })
  }

  @Test("Logits asked for by ranges of the vocabulary are those of the whole")
  func ranges() throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let pending = try network.logits(on: FastBackend<Double>(probes: Self.probes))
    let all = pending.all().array
    for range in [0..<1, 511..<512, 100..<357] {
      let part = pending.logits(of: range).array
      for token in 0..<9 {
        for (index, entry) in range.enumerated() {
          #expect(abs(part[token * range.count + index] - all[token * 512 + entry]) <= 1e-12)
        }
      }
    }
  }

  @Test(
    "Rounding costs what storing in the type costs, be the values stored in it already",
    arguments: [
      (ElementType.bf16, 0x1p-9), (.f16, 0x1p-12),
    ])
  func rounding(_ type: ElementType, unit: Double) throws {
    let stored = try AlteredCheckpoint(of: "tiny-2x32/vanilla") {
      for name in $0.tensors.names where $0.tensors.entry(name).shape.count == 2 {
        $0.tensors.change(name) { entry in
          let values = (0..<entry.shape[0] * entry.shape[1]).map { Double(entry[$0]) }
          entry = .init(values, shape: entry.shape, type: type)
        }
      }
    }
    func logits(_ path: String, rounding: ElementType? = nil) throws -> [Double] {
      return try Model(opening: path).network.logits(
        on: FastBackend<Double>(probes: Self.probes, rounding: rounding.map { Storage($0).ofFoldedWeights })
      ).all().array
    }
    func rootMeanSquare(_ a: [Double], _ b: [Double]) -> Double {
      (zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Double(a.count)).squareRoot()
    }
    let plain = Fixtures.path("tiny-2x32/vanilla")
    let cost = rootMeanSquare(try logits(plain), try logits(stored.path))
    for path in [plain, stored.path] {
      // The same kind of noise, drawn once more: half to twice as much over four thousand logits.
      let found = rootMeanSquare(try logits(path), try logits(path, rounding: type))
      #expect(found > cost / 2 && found < cost * 2, "\(found), storing costs \(cost)")
    }
    // And not another type's: they are a factor of eight apart.
    let size = rootMeanSquare(try logits(plain), [Double](repeating: 0, count: 9 * 512))
    #expect(cost / size > unit / 4 && cost / size < unit * 8)
  }

  @Test("Rounding takes in token and position embeddings, and nothing without it")
  func roundedEmbeddings() throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    func stream(_ network: Network, _ rounding: ElementType?) throws -> [Double] {
      let backend = FastBackend<Double>(probes: Self.probes, rounding: rounding.map { Storage($0).ofFoldedWeights })
      var execution = Execution(network, on: backend)
      try execution.run(stage: 0)
      return execution.stream(atDepth: 0).array
    }
    var positionsOnly = network
    let shape = try #require(network.tokenEmbedding).shape
    positionsOnly[table: "embedding.tokens"] = .constant(0, shape: shape)
    #expect(try stream(positionsOnly, .bf16) != stream(positionsOnly, nil))
    var tokensOnly = network
    tokensOnly.remove("embedding")
    #expect(try stream(tokensOnly, .bf16) != stream(tokensOnly, nil))
  }
}
