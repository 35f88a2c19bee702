import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@Suite struct ModelOpeningTests {
  /// The tiny network's weights as they were before an alteration that is to change nothing.
  private static func plain() throws -> Network { try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network }

  private func expectSameNumbers(_ network: Network, _ other: Network) throws {
    let mine = network.gpt2Tensors
    let theirs = other.gpt2Tensors
    try #require(mine.map(\.name) == theirs.map(\.name))
    for (a, b) in zip(mine, theirs) {
      #expect(ParameterReader(a.value).values() == ParameterReader(b.value).values(), "\(a.name)")
    }
  }

  @Test(
    "The dialect is what the epsilon says",
    arguments: [
      (1e12, "published LN-removed form (epsilon 1e+12)"), (1e6, "published LN-removed form (epsilon 1e+06)"),
      (1e-5, "ordinary: every norm is computed"), (999_999, "ordinary: every norm is computed"),
    ])
  func dialect(epsilon: Double, expected: String) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { $0.config["layer_norm_epsilon"] = .number(epsilon) }
    let model = try Model(opening: altered.path)
    #expect(model.dialect.displayName == expected)
    #expect(model.network.norms.count == 5)
    #expect(model.network.norms.allSatisfy { $0.norm.isFixed == (epsilon >= 1e6) })
    if epsilon >= 1e6 {
      #expect(model.network[norm: "final.norm"]?.deviation == .fixed(.constant(epsilon.squareRoot(), shape: [32])))
      #expect(model.literalNetwork?[norm: "final.norm"]?.deviation == .computed(epsilon: epsilon))
    } else {
      #expect(model.literalNetwork == nil)
    }
  }

  @Test(
    "An epsilon is the same number however it is written",
    arguments: ["1000000000000.0", "1000000000000", "1e12", "1E+12"])
  func epsilonSpelling(_ literal: String) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { $0.config["layer_norm_epsilon"] = .number(literal) }
    #expect(try Model(opening: altered.path).dialect.displayName == "published LN-removed form (epsilon 1e+12)")
  }

  @Test(
    "Prefixes that wrappers put before names are taken off",
    arguments: ["", "transformer.", "_orig_mod.", "_orig_mod.transformer."])
  func prefixes(_ prefix: String) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      for name in $0.tensors.names { $0.tensors.rename(name, to: prefix + name.dropFirst("transformer.".count)) }
    }
    try expectSameNumbers(try Model(opening: altered.path).network, try Self.plain())
  }

  @Test("Buffers of the causal mask are left out by a named rule")
  func maskBuffers() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors["transformer.h.0.attn.bias"] = .init(type: .bool, shape: [1, 1, 2, 2], bytes: [1, 0, 1, 1])
      $0.tensors["transformer.h.1.attn.masked_bias"] = .init([-1e4], shape: [])
    }
    let model = try Model(opening: altered.path)
    #expect(
      Dictionary(uniqueKeysWithValues: model.dropped.map { ($0.name, $0.rule) }) == [
        "transformer.h.0.attn.bias": "causal mask buffer",
        "transformer.h.1.attn.masked_bias": "causal mask constant",
      ])
    try expectSameNumbers(model.network, try Self.plain())
  }

  @Test(
    "Ignoring leaves out the tensors that fit, and no others",
    arguments: [
      (["score.weight"], true), (["score*"], true), (["*weight"], false), (["*.we*ght", "x"], false),
      (["score"], false),
      (["*core.*ight"], true), (["*"], false),
    ])
  func ignoring(patterns: [String], succeeds: Bool) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { $0.tensors["score.weight"] = .init([1], shape: [1]) }
    var options = ReadingOptions()
    options.ignoredTensors = patterns
    guard succeeds else {
      // Too little leaves the tensor in; too much leaves out what the network needs.
      #expect(throws: Refusal.self) { _ = try Model(opening: altered.path, options: options) }
      return
    }
    let model = try Model(opening: altered.path, options: options)
    #expect(model.dropped.map(\.name) == ["score.weight"])
    #expect(model.dropped.map(\.rule) == ["ignored, as told"])
    #expect(model.warnings == [])
  }

  @Test("Ignoring warns of what no tensor fits, also where others do")
  func ignoringNothing() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors["score.weight"] = .init([1], shape: [1])
      $0.tensors["transformer.h.0.attn.bias"] = .init([1], shape: [1])
    }
    var options = ReadingOptions()
    // What is left out anyway may be named, too.
    options.ignoredTensors = ["score.*", "scores.*", "*.attn.bias"]
    let model = try Model(opening: altered.path, options: options)
    #expect(model.warnings == ["\(.ignoredTensors, "scores.*"): no tensor of \(model.checkpoint.path) is called so"])
  }

  // MARK: The unembedding

  private static func withHead(tied: Bool, change: Float) throws -> AlteredCheckpoint {
    try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      var head = $0.tensors.entry("transformer.wte.weight")
      head[7] += change
      $0.tensors["lm_head.weight"] = head
      $0.config["tie_word_embeddings"] = .bool(tied)
    }
  }

  @Test("A tied head that is stored all the same counts once")
  func redundantHead() throws {
    let altered = try Self.withHead(tied: true, change: 0)
    #expect(try Model(opening: altered.path).network.isTied)
  }

  @Test("An untied head is the unembedding")
  func untiedHead() throws {
    let altered = try Self.withHead(tied: false, change: 1)
    let network = try Model(opening: altered.path).network
    #expect(!network.isTied)
    #expect(network[linear: "unembedding"]?.weight.description == "lm_head.weightᵀ")
  }

  @Test("A contradictory head is what the user says", arguments: ReadingOptions.Head.allCases)
  func chosenHead(_ head: ReadingOptions.Head) throws {
    let altered = try Self.withHead(tied: true, change: 1)
    var options = ReadingOptions()
    options.head = head
    let network = try Model(opening: altered.path, options: options).network
    #expect(network.isTied == (head == .tied))
    #expect(
      network[linear: "unembedding"]?.weight.description
        == (head == .tied ? "transformer.wte.weightᵀ" : "lm_head.weightᵀ"))
  }

  @Test("A bias of the unembedding is read")
  func headBias() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors["lm_head.bias"] = .init((0..<512).map { Double($0) }, shape: [512])
    }
    let network = try Model(opening: altered.path).network
    #expect(network[linear: "unembedding"]?.bias.map { ParameterReader($0).values() } == (0..<512).map { Double($0) })
  }

  // MARK: The config

  @Test(
    "The attention scale is what the config says",
    arguments: [
      (true, false, [0.25, 0.25]), (false, false, [1, 1]), (true, true, [0.25, 0.125]), (false, true, [1, 0.5]),
    ])
  func attentionScale(scales: Bool, byBlock: Bool, expected: [Double]) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.config["scale_attn_weights"] = .bool(scales)
      $0.config["scale_attn_by_inverse_layer_idx"] = .bool(byBlock)
    }
    #expect(try Model(opening: altered.path).network.attentions.map(\.attention.scale) == expected)
  }

  @Test("Sizes that the config leaves out are those of the tensors")
  func sizesFromTensors() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      for key in ["n_layer", "n_embd", "n_inner", "n_positions", "n_ctx", "vocab_size"] { $0.config[key] = nil }
    }
    let network = try Model(opening: altered.path).network
    #expect(network.blockCount == 2)
    #expect(network.streamWidth == 32 && network.width(of: "blocks.1.mlp.input") == 128)
    #expect(network.attentions.allSatisfy { $0.attention.headCount == 2 && network.width(of: $0.path) == 32 })
    #expect(network.contextLength == 64 && network.vocabularySize == 512)
  }

  @Test(
    "The end-of-text token counts where the vocabulary holds it",
    arguments: [(0, 0), (511, 511), (512, nil), (50_256, nil)])
  func endOfText(id: Int, expected: Int?) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { $0.config["eos_token_id"] = .number(id) }
    #expect(try Model(opening: altered.path).endOfText == expected)
  }
}
