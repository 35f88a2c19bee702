import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

private let ordinary = "ordinary: every norm is computed"
private let largeEpsilon = "published LN-removed form (epsilon 1e+12)"
private let fakeLayerNorm = "FakeLayerNorm training checkpoint"

private let folders: [(String, String, [String])] = [
  ("vanilla", ordinary, Array(repeating: "computed", count: 7)),
  ("lnfree", largeEpsilon, Array(repeating: "fixed", count: 7)),
  ("lnfree-bf16", largeEpsilon, Array(repeating: "fixed", count: 7)),
  ("lnfree-sharded", largeEpsilon, Array(repeating: "fixed", count: 7)),
  ("fakeln", fakeLayerNorm, Array(repeating: "fixed", count: 7)),
  ("fakeln-safetensors", fakeLayerNorm, Array(repeating: "fixed", count: 7)),
  ("fakeln-bf16", fakeLayerNorm, Array(repeating: "fixed", count: 7)),
  ("fakeln-feature0", fakeLayerNorm, Array(repeating: "per feature", count: 7)),
  ("fakeln-positional", fakeLayerNorm, Array(repeating: "per position", count: 7)),
  ("fakeln-partial", fakeLayerNorm, Array(repeating: "fixed", count: 6) + ["computed"]),
  (
    "fakeln-partial-safetensors", fakeLayerNorm,
    Array(repeating: "fixed", count: 6) + ["computed"]
  ),
  ("nanogpt", ordinary, Array(repeating: "computed", count: 7)),
]

/// What each form of checkpoint is recognised as, norm by norm, and what is refused.
@Suite struct DialectTests {
  /// The state of a norm in a word.
  private static func state(_ norm: Norm?) -> String {
    switch norm?.deviation {
    case .computed: "computed"
    case .fixed(let vector): vector.constantValue == nil ? "per feature" : "fixed"
    case .perPosition: "per position"
    case .perToken: "per token"
    case nil: "none"
    }
  }

  /// What queries, values and the MLP of each block read, then the unembedding.
  private static func states(_ network: Network) -> [String] {
    let readers = (0..<network.blockCount).flatMap { block in
      ["attention.query", "attention.value", "mlp.input"].map { Path("blocks.\(block).\($0)") }
    }
    return (readers + [network.output]).map { reader in
      state(network.node(at: reader)?.operands.first.flatMap { network[norm: $0] })
    }
  }

  @Test(
    "Every folder of the fixtures is what its description says",
    arguments: folders)
  func recognises(folder: String, dialect: String, states: [String]) throws {
    let model = try Model(opening: Fixtures.path("tiny-2x32/\(folder)"))
    #expect(model.dialect.displayName == dialect)
    #expect(Self.states(model.network) == states)
  }

  @Test("A removal that stopped between queries and values is told path by path")
  func halfway() throws {
    let model = try Model(opening: Fixtures.path("shakespeare-4x128/fakeln-partial-safetensors"))
    #expect(
      Self.states(model.network) == [
        "fixed", "fixed", "fixed", "fixed", "fixed", "fixed", "fixed", "computed", "fixed", "fixed", "computed",
        "fixed",
        "computed",
      ])
  }

  @Test("The optimizer's state and the masks are left out by rule, and nothing else")
  func dropped() throws {
    let model = try Model(opening: Fixtures.path("tiny-2x32/fakeln"))
    #expect(Set(model.dropped.map(\.rule)) == ["training state of a FakeLayerNorm"])
    // Of each of five norms: bos_special_treatment, real_average_std, real_bos_std, grad_acc_steps, momentum.
    #expect(model.dropped.count == 25)
    #expect(model.network.isTied)
  }

  // MARK: FakeLayerNorm buffers

  private static func altered(
    _ fixture: String = "tiny-2x32/fakeln-safetensors", _ alter: (inout AlteredCheckpoint.Content) throws -> Void
  ) throws -> AlteredCheckpoint { try AlteredCheckpoint(of: fixture, alter: alter) }

  /// The fixture cut to a context as long as the width is, 32.
  private static func square(_ fixture: String) throws -> AlteredCheckpoint {
    try altered(fixture) { content in
      content.tensors.change("transformer.wpe.weight") {
        $0 = .init((0..<32 * 32).map { [entry = $0] index in Double(entry[index]) }, shape: [32, 32])
      }
      content.config["n_positions"] = .number(32)
      content.config["n_ctx"] = .number(32)
    }
  }

  @Test("Where the width is the context length, differing entries need the user's word")
  func ambiguousAxis() throws {
    let square = try Self.square("tiny-2x32/fakeln-feature0")
    let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: square.path) }
    #expect(
      refusal.map(square.short)
        == "model.safetensors, 'transformer.h.0.ln_1.average_std_buffer': its 32 entries differ, and could be features or "
        + "positions, since the width is the context length; say which: deviationAxis = feature or "
        + "deviationAxis = position")
    #expect(refusal?.category == .unsupported)
    for (axis, state) in [(ReadingOptions.DeviationAxis.feature, "per feature"), (.position, "per position")] {
      var options = ReadingOptions()
      options.deviationAxis = axis
      #expect(
        Self.states(try Model(opening: square.path, options: options).network) == Array(repeating: state, count: 7))
    }
    // Equal entries mean the same either way.
    let constant = try Self.square("tiny-2x32/fakeln-safetensors")
    #expect(Self.states(try Model(opening: constant.path).network) == Array(repeating: "fixed", count: 7))
  }

  @Test("Values that treat the end of text differently matter only where the vocabulary holds it")
  func endOfText() throws {
    let name = "transformer.h.0.ln_1.bos_std_buffer"
    func checkpoint(vocabulary: Int) throws -> AlteredCheckpoint {
      try Self.altered { content in
        content.tensors.change(name) { $0 = .init([Double](repeating: 3, count: 32), shape: [32]) }
        content.tensors.change("transformer.wte.weight") {
          $0 = .init(type: .f32, shape: [vocabulary, 32], bytes: [UInt8](repeating: 0, count: vocabulary * 128))
        }
        content.config["vocab_size"] = .number(vocabulary)
      }
    }
    let without = try checkpoint(vocabulary: 50_256)
    #expect(Self.states(try Model(opening: without.path).network)[1] == "fixed")
    let with = try checkpoint(vocabulary: 50_257)
    #expect(Self.states(try Model(opening: with.path).network)[1] == "per token")
    var options = ReadingOptions()
    options.assumesEndOfTextDisabled = true
    let assumed = try Model(opening: with.path, options: options)
    #expect(Self.states(assumed.network)[1] == "fixed")
    #expect(assumed.warnings == ["assumed, as told: the end-of-text token is treated like any other"])
  }

  @Test("All names that the buffers have had are read")
  func olderNames() throws {
    let altered = try Self.altered { content in
      for name in content.tensors.names {
        if name.hasSuffix("_std_buffer") { content.tensors.rename(name, to: String(name.dropLast("_buffer".count))) }
        if name.hasSuffix(".is_fake") {
          content.tensors[name] = .init([1], shape: [], type: .f32)
          content.tensors.rename(name, to: name.replacing(".is_fake", with: ".mode_buffer"))
        }
        if name.hasSuffix(".attn_v_is_fake") {
          content.tensors.rename(name, to: name.replacing(".attn_v_is_fake", with: ".attn_v_mode_buffer"))
        }
        if name.hasSuffix(".momentum") { content.tensors[name] = nil }
      }
    }
    #expect(Self.states(try Model(opening: altered.path).network) == Array(repeating: "fixed", count: 7))
  }

  @Test("A buffer that is missing, or as long as nothing, is refused in one sentence")
  func badBuffers() throws {
    let name = "transformer.h.1.ln_2"
    let missing = try Self.altered { $0.tensors[name + ".is_fake"] = nil }
    var refusal = #expect(throws: Refusal.self) { _ = try Model(opening: missing.path) }
    #expect(
      refusal.map(missing.short)
        == "model.safetensors, 'h.1.ln_2.is_fake': this buffer of a FakeLayerNorm is missing; "
        + "without it nothing says what the norm computes")
    let long = try Self.altered {
      $0.tensors[name + ".average_std_buffer"] = .init([Double](repeating: 1, count: 33), shape: [33])
    }
    refusal = #expect(throws: Refusal.self) { _ = try Model(opening: long.path) }
    #expect(
      refusal.map(long.short)
        == "model.safetensors, 'transformer.h.1.ln_2.average_std_buffer': expected 32 features or 64 positions, "
        + "found shape [33]")
  }

  // MARK: Deviations beside the checkpoint

  private static func opened(_ fixture: String, _ alter: (inout ReadingOptions) -> Void) throws -> Model {
    var options = ReadingOptions()
    options.deviations = Fixtures.path("tiny-2x32/nanogpt/std_dicts.json")
    alter(&options)
    return try Model(opening: Fixtures.path(fixture), options: options)
  }

  @Test(
    "The state of a gpt2_noLN run follows from its step",
    arguments: [
      (199, "ccccccc"), (200, "ccfcccc"), (220, "ccfccfc"), (440, "fcfccfc"), (680, "ffffcfc"),
      (710, "ffffffc"), (1_040, "fffffff"), (1_200, "fffffff"),
    ])
  func schedule(step: Int, states: String) throws {
    let model = try Self.opened("tiny-2x32/nanogpt") { $0.removalStep = step }
    #expect(Self.states(model.network).map { $0.prefix(1) }.joined() == states)
    #expect(model.dialect.displayName == "deviations fixed by " + Fixtures.path("tiny-2x32/nanogpt/std_dicts.json"))
    #expect(!model.changesFunction)
  }

  @Test("gpt2_noLN's vectors have the first position's deviation at feature 0, and lose it before attention only")
  func featureZero() throws {
    let directory = try TemporaryDirectory()
    let keys = [
      "blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_mid",
      "blocks.1.hook_resid_post",
    ]
    let table = { (value: String) in "{" + keys.map { "\"\($0)\": \(value)" }.joined(separator: ",") + "}" }
    let file = try directory.write(
      Array("{\"std_dict\": \(table("2")), \"std_bos_dict\": \(table("8"))}".utf8), to: "deviations.json")
    for (step, attentionFirst) in [(1_159, 8.0), (1_160, 2.0)] {
      let model = try Self.opened("tiny-2x32/nanogpt") {
        $0.deviations = file
        $0.removalStep = step
      }
      func values(_ path: Path) throws -> [Double] {
        guard case .fixed(let vector) = model.network[norm: path]?.deviation else { return [] }
        return ParameterReader(vector).values()
      }
      #expect(try values("blocks.1.attention.norm") == [attentionFirst] + Array(repeating: 2, count: 31))
      #expect(try values("blocks.0.mlp.norm") == [8] + Array(repeating: 2, count: 31))
      #expect(try values("final.norm") == [8] + Array(repeating: 2, count: 31))
    }
  }

  @Test("Deviations given to an ordinary GPT-2 fix every norm, and the model knows that this changes the function")
  func ordinary() throws {
    let model = try Self.opened("tiny-2x32/vanilla") { _ in }
    #expect(Self.states(model.network) == Array(repeating: "fixed", count: 7))
    #expect(model.changesFunction)
    #expect(model.literalNetwork.map(Self.states) == Array(repeating: "computed", count: 7))
  }

  @Test("Deviations are refused where the checkpoint has its own", arguments: ["fakeln", "lnfree"])
  func twice(folder: String) throws {
    let refusal = #expect(throws: Refusal.self) { _ = try Self.opened("tiny-2x32/\(folder)") { _ in } }
    #expect(refusal?.category == .usage)
    #expect(
      refusal?.description
        == "'deviations': the checkpoint\(folder == "fakeln" ? " holds its own deviations" : "'s epsilon fixes its deviations already"); leave it out"
    )
  }

  @Test("Deviations are refused where what was folded keeps its norms bare")
  func folded() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/vanilla") {
      $0.config["model_type"] = .string("gpt2_folded")
      $0.config["kept_norms"] = .object(["ln_f": .string("all")])
    }
    var options = ReadingOptions()
    options.deviations = Fixtures.path("tiny-2x32/nanogpt/std_dicts.json")
    let refusal = #expect(throws: Refusal.self) { _ = try Model(opening: altered.path, options: options) }
    #expect(refusal?.category == .usage && refusal?.subject == "\(.deviations)")
  }

  @Test("A file of deviations needs no site that has no norm")
  func fewNorms() throws {
    let directory = try TemporaryDirectory()
    let text = "{\"std_dict\": {\"blocks.1.hook_resid_post\": 2}}"
    var options = ReadingOptions()
    options.deviations = try directory.write(Array(text.utf8), to: "d.json")
    let model = try Model(opening: Fixtures.path("norm-free/relu"), options: options)
    #expect(model.network.norms.map(\.path) == ["final.norm"])
    #expect(model.network[norm: "final.norm"]?.deviation == .fixed(.constant(2, shape: [model.network.streamWidth])))
  }

  @Test("A file of deviations that lacks a site, or holds no number above 0, is refused by key")
  func badFile() throws {
    let directory = try TemporaryDirectory()
    for (text, message, category) in [
      (
        "{}",
        "d.json, 'std_dict': expected an object of numbers, found nothing; give a file that measuring deviations writes, or one like the published runs'",
        Refusal.Category.malformed
      ),
      (
        "{\"std_dict\": {}}",
        "d.json, 'std_dict.blocks.0.hook_resid_pre': expected a number, found nothing; the file must have every site of the checkpoint",
        .malformed
      ),
      (
        "{\"std_dict\": {\"blocks.0.hook_resid_pre\": -1}}",
        "d.json, 'std_dict.blocks.0.hook_resid_pre': expected a positive number, found -1.0", .nonFinite
      ),
    ] {
      let file = try directory.write(Array(text.utf8), to: "d.json")
      let refusal = #expect(throws: Refusal.self) { _ = try Self.opened("tiny-2x32/vanilla") { $0.deviations = file } }
      #expect(refusal?.description.replacing(directory.path + "/", with: "") == message)
      #expect(refusal?.category == category)
    }
  }
}
