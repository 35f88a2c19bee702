import NormFoldArithmetic
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// Norms that something other than a linear map reads: one network for each kind of reader.
struct NormReader: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let reader: Path
  /// The operation, as a message calls it.
  let kind: String
  /// Whether its bias moves all the same: everything that reads it is a linear map or a sum with one.
  let losesBias: Bool
  /// Appends what reads the norm "norm" of the stream "embedding", and ends in the value to unembed.
  let append: @Sendable (inout Network) -> Path

  private init(
    _ name: String, at reader: Path, _ kind: String, losesBias: Bool = false,
    _ append: @escaping @Sendable (inout Network) -> Path
  ) {
    self.losesBias = losesBias
    testDescription = name
    self.reader = reader
    self.kind = kind
    self.append = append
  }

  static let all: [NormReader] = [
    NormReader("a sum: a norm behind a branch", at: "sum", "a sum") {
      $0.append(.add, to: "embedding", "norm", at: "sum")
    },
    NormReader("a product of two values", at: "product", "a product of two values") {
      $0.append(.multiply, to: "embedding", "norm", at: "product")
    },
    NormReader("an activation", at: "activation", "an activation") {
      $0.append(.activate(.relu), to: "norm", at: "activation")
    },
    NormReader("another norm", at: "second", "a norm") {
      $0.append(.norm(KeptNormTests.norm("second")), to: "norm", at: "second")
    },
    NormReader("attention: a norm of queries", at: "mixed", "attention") {
      $0.append(
        .attend(Attention(headCount: 1, keyValueHeadCount: 1, scale: 0.5)), to: "norm", "embedding", "embedding",
        at: "mixed")
    },
    NormReader("a rotation: a norm of queries before their positions", at: "rotated", "a rotation by the position") {
      $0.append(.rotate(Rotary(base: 10, width: 4), headCount: 1), to: "norm", at: "rotated")
    },
    NormReader("a linear map and a sum", at: "sum", "a sum", losesBias: true) {
      $0.append(.linear(KeptNormTests.map(4)), to: "norm", at: "map")
      return $0.append(.add, to: "norm", "map", at: "sum")
    },
  ]

  var network: Network {
    var network = KeptNormTests.stem
    let last = append(&network)
    network.append(.linear(KeptNormTests.map(7)), to: last, at: "unembedding")
    return network
  }
}

@Suite struct KeptNormTests {
  static func norm(_ name: String) -> Norm {
    Norm(
      name: name, kind: .layer, gain: .constant(3, shape: [4]), bias: .constant(0.5, shape: [4]),
      deviation: .computed(epsilon: 1e-5))
  }

  static func map(_ width: Int) -> LinearMap { LinearMap(weight: .constant(0.25, shape: [4, width]), bias: nil) }

  /// An embedding and a norm of it.
  static var stem: Network {
    var network = Network(contextLength: 8)
    network.append(.embed(.constant(1, shape: [7, 4]), by: .token), at: "embedding")
    network.append(.norm(norm("stored.norm")), to: "embedding", at: "norm")
    return network
  }

  @Test("A form leaves gain and bias of the norm, and the plan names path and reader", arguments: NormReader.all)
  func kept(_ given: NormReader) throws {
    let network = given.network
    let plan = try FoldingPlan(folding: network, options: .init(normForm: .unit))
    let kept = try #require(plan.kept.first { $0.path == "norm" })
    guard case .reader(let reader, let kind) = kept.reason else {
      Issue.record("kept since \(kept.reason)")
      return
    }
    #expect(kept.norm == "stored.norm" && reader == given.reader && kind == given.kind)
    try expectKept(given, plan)
  }

  /// The norm is what it was, or where its bias moved, without it: (x ⊙ γ + β)W + x ⊙ γ + β has the bias βW + β.
  private func expectKept(_ given: NormReader, _ plan: FoldingPlan) throws {
    var expected = try #require(given.network[norm: "norm"])
    expected.deviation = try #require(plan.source[norm: "norm"]).deviation
    if given.losesBias {
      expected.bias = nil
      let map = try #require(plan.folded[linear: "map"])
      #expect(ParameterReader(try #require(map.bias)).values() == [1, 1, 1, 1])
      #expect(map.weight == given.network[linear: "map"]?.weight)
    }
    #expect(plan.folded[norm: "norm"] == expected)
    #expect(plan.steps.filter { $0.path == "norm" }.map(\.absorbed) == (given.losesBias ? [.bias] : []))
  }

  @Test("Fixed, it stays as well: no map can take its deviation", arguments: NormReader.all)
  func fixed(_ given: NormReader) throws {
    var network = given.network
    network[norm: "norm"]?.deviation = .fixed(.constant(2, shape: [4]))
    let plan = try FoldingPlan(folding: network, options: .init(allowsPartial: true))
    #expect(plan.kept.contains { $0.path == "norm" })
    try expectKept(given, plan)
  }

  @Test("Without leave to keep it, it is refused by name and reader", arguments: NormReader.all)
  func refused(_ given: NormReader) {
    let refusal = #expect(throws: Refusal.self) { _ = try FoldingPlan(folding: given.network) }
    #expect(refusal?.category == .notFoldable)
    let reason = "stored.norm: it is read by \(given.reader), \(given.kind), which is no linear map"
    #expect(refusal?.description.contains(reason) == true, "\(refusal?.description ?? "")")
  }

  @Test("A fold that is asked for by path is refused by name, whatever may stay", arguments: NormReader.all)
  func required(_ given: NormReader) {
    let options = FoldingPlan.Options(requiredNorms: ["norm"], allowsPartial: true)
    let refusal = #expect(throws: Refusal.self) { _ = try FoldingPlan(folding: given.network, options: options) }
    #expect(refusal?.category == .notFoldable)
    #expect(refusal?.description.contains("stored.norm") == true)
  }

  @Test("A norm that is the output stays")
  func output() throws {
    let plan = try FoldingPlan(folding: Self.stem, options: .init(normForm: .unit))
    #expect(plan.kept.map(\.path) == ["norm"])
    guard case .output? = plan.kept.first?.reason else {
      Issue.record("kept since \(plan.kept)")
      return
    }
    let refusal = #expect(throws: Refusal.self) { _ = try FoldingPlan(folding: Self.stem) }
    #expect(refusal?.description.contains("stored.norm: it is the output of the network") == true)
  }

  @Test("A norm whose readers are linear maps alone loses gain and bias to all of them")
  func maps() throws {
    var network = Self.stem
    network.append(.linear(Self.map(4)), to: "norm", at: "one")
    network.append(.linear(Self.map(4)), to: "norm", at: "other")
    let sum = network.append(.add, to: "one", "other", at: "sum")
    network.append(.linear(Self.map(7)), to: sum, at: "unembedding")
    let plan = try FoldingPlan(folding: network, options: .init(normForm: .unit))
    #expect(plan.steps.map(\.readers) == [["one", "other"]])
    #expect(plan.folded[norm: "norm"]?.gain.constantValue == 1 && plan.folded[norm: "norm"]?.bias == nil)
    guard case .isComputed? = plan.kept.first?.reason else {
      Issue.record("kept since \(plan.kept)")
      return
    }
  }

  @Test("A norm that the target has no place to fold is kept for that reason")
  func target() throws {
    let source = try Model(opening: Fixtures.path("tiny-2x32/vanilla")).network
    let plan = try FoldingPlan(folding: source, options: .init(keptNorms: ["final.norm"], normForm: .unit))
    let last = try #require(plan.kept.last)
    #expect(last.path == "final.norm")
    guard case .target = last.reason else {
      Issue.record("kept since \(last.reason)")
      return
    }
    #expect(plan.folded[norm: "final.norm"] == source[norm: "final.norm"])
  }
}

/// Qwen3 norms each head of queries and keys by itself, behind the map and before the rotation.
@Suite struct HeadNormTests {
  private func network(_ alter: (inout Norm) -> Void) throws -> Network {
    var network = try Model(opening: Fixtures.path("decoders/qwen3")).network
    for (path, norm) in network.norms {
      var norm = norm
      norm.deviation = .fixed(.constant(0.5, shape: norm.gain.shape))
      alter(&norm)
      network[norm: path] = norm
    }
    return network
  }

  @Test("A fixed norm of each head folds into the map before it, and the parts know it")
  func folded() throws {
    let source = try network { _ in }
    let folded = try FoldingPlan(folding: source).folded
    #expect(folded.norms.isEmpty)
    func logits(_ network: Network) throws -> [Double] {
      try network.logits(on: FastBackend<Double>(probes: [Probe(name: "a", tokens: [3, 1, 4, 1, 5])])).all().array
    }
    #expect(relativeDifference(try logits(folded), try logits(source)) <= 1e-12)
    let claim = PartsClaim(of: folded, against: source, allowance: .conversion)
    #expect(claim.holds && claim.isComplete)
    // Another gain of one head.
    var broken = source
    broken[norm: "blocks.0.attention.query.norm"]?.gain = .constant(3, shape: [12])
    #expect(!PartsClaim(of: folded, against: broken, allowance: .conversion).holds)
  }

  @Test("One that centres each head is in no map, and is kept by its reader")
  func centred() throws {
    let source = try network { if $0.headCount > 1 { $0.kind = .layer } }
    let refusal = #expect(throws: Refusal.self) { try FoldingPlan(folding: source) }
    #expect(refusal?.description.contains("a rotation by the position") == true)
    let plan = try FoldingPlan(folding: source, options: .init(allowsPartial: true))
    #expect(plan.folded.norms.allSatisfy { $0.norm.headCount > 1 } && !plan.folded.norms.isEmpty)
  }
}
