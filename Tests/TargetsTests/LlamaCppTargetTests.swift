import Foundation
import NormFold
import NormFoldFolding
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

@testable import NormFoldTargets

private let source = Fixtures.path("shakespeare-4x128/lnfree")
private let tokenizer = ReadingOptions.Tokenizer.directory(Fixtures.path("shakespeare-4x128/tokenizer"))

@Suite("Target llama.cpp")
struct LlamaCppTargetTests {
  @Test("writes the keys that llama.cpp asks for, each of its exact type")
  func keys() throws {
    let converted = try Converted(source, type: .q8_0) { $0.readingOptions.tokenizer = tokenizer }
    let header = try converted.header()
    let expected: [(String, GGUFValue)] = [
      ("general.architecture", .string("gpt2")), ("general.type", .string("model")),
      ("general.name", .string("lnfree")), ("general.size_label", .string("941K")), ("general.file_type", .u32(7)),
      ("general.quantization_version", .u32(2)), ("gpt2.context_length", .u32(128)),
      ("gpt2.embedding_length", .u32(128)), ("gpt2.feed_forward_length", .u32(512)), ("gpt2.block_count", .u32(4)),
      ("gpt2.attention.head_count", .u32(4)), ("gpt2.vocab_size", .u32(1024)),
      ("gpt2.attention.layer_norm_epsilon", .f32(1e12)), ("tokenizer.ggml.model", .string("gpt2")),
      ("tokenizer.ggml.pre", .string("gpt-2")), ("tokenizer.ggml.bos_token_id", .u32(0)),
      ("tokenizer.ggml.eos_token_id", .u32(0)), ("tokenizer.ggml.add_bos_token", .bool(false)),
    ]
    for (key, value) in expected { #expect(header.value(key) == value, "\(key)") }
    #expect(header.metadata.first?.key == "general.architecture")
    // And nothing else but the three arrays of the tokenizer and what made the file.
    let others = Set(header.metadata.map(\.key)).subtracting(expected.map(\.0))
    #expect(
      others == [
        "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "normfold.dialect",
        "normfold.folded", "normfold.source", "normfold.source.digest", "normfold.version", "general.quantized_by",
      ])
    #expect(header.value("general.quantized_by") == .string("normfold"))
  }

  @Test("says where a model of the Hub's cache is from, and nothing where it does not know")
  func provenance() throws {
    let place = try TemporaryDirectory()
    let snapshot = place / "models--maker--gpt2-small/snapshots/0123abc"
    try FileManager.default.createDirectory(
      atPath: place / "models--maker--gpt2-small/snapshots", withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: Fixtures.path("tiny-2x32/lnfree"), toPath: snapshot)
    let header = try Converted(snapshot).header()
    let address = GGUFValue.string("https://huggingface.co/maker/gpt2-small")
    let expected: [(String, GGUFValue)] = [
      ("general.name", .string("maker/gpt2-small")), ("general.source.url", address),
      ("general.source.repo_url", address), ("general.source.huggingface.repository", .string("maker/gpt2-small")),
      ("general.base_model.count", .u32(1)), ("general.base_model.0.name", .string("gpt2-small")),
      ("general.base_model.0.organization", .string("maker")), ("general.base_model.0.repo_url", address),
    ]
    for (key, value) in expected { #expect(header.value(key) == value, "\(key)") }
    let other = try Converted(Fixtures.path("tiny-2x32/lnfree")).header()
    #expect(
      other.metadata.allSatisfy { !$0.key.hasPrefix("general.source") && !$0.key.hasPrefix("general.base_model") })
    #expect(other.value("general.quantized_by") == nil)
  }

  @Test(
    "names its type as llama.cpp does",
    arguments: [
      (ElementType.f32, 0), (.f16, 1), (.q4_0, 2), (.q4_1, 3), (.q8_0, 7), (.q5_0, 8), (.q5_1, 9), (.bf16, 32),
    ] as [(ElementType, UInt32)])
  func fileType(_ type: ElementType, _ number: UInt32) throws {
    let header = try Converted(Fixtures.path("tiny-2x32/lnfree"), type: type).header()
    #expect(header.value("general.file_type") == .u32(number))
  }

  @Test("writes every tensor of the architecture and no other, in its type", arguments: LlamaCppTarget().types)
  func tensors(_ type: ElementType) throws {
    let tensors = try Converted(source, type: type).checkpoint().tensors.map(\.info)
    // The token embedding is the unembedding, too, and is not quantised below Q8_0.
    let embedding = type.elementsPerBlock > 1 ? ElementType.q8_0 : type
    var expected = [
      TensorInfo(name: "token_embd.weight", type: embedding, shape: [1024, 128]),
      TensorInfo(name: "position_embd.weight", type: .f32, shape: [128, 128]),
    ]
    for block in 0..<4 {
      for (name, shape) in [
        ("attn_norm.weight", [128]), ("attn_norm.bias", [128]), ("attn_qkv.weight", [384, 128]),
        ("attn_qkv.bias", [384]), ("attn_output.weight", [128, 128]), ("attn_output.bias", [128]),
        ("ffn_norm.weight", [128]), ("ffn_norm.bias", [128]), ("ffn_up.weight", [512, 128]), ("ffn_up.bias", [512]),
        ("ffn_down.weight", [128, 512]), ("ffn_down.bias", [128]),
      ] {
        expected.append(
          TensorInfo(name: "blk.\(block).\(name)", type: shape.count == 2 ? type : .f32, shape: shape))
      }
    }
    expected.append(TensorInfo(name: "output_norm.weight", type: .f32, shape: [128]))
    expected.append(TensorInfo(name: "output_norm.bias", type: .f32, shape: [128]))
    #expect(tensors == expected)
  }

  @Test("keeps scales in the norms where matrices are quantised, and folds them elsewhere", arguments: [true, false])
  func norms(isQuantised: Bool) throws {
    let checkpoint = try Converted(source, type: isQuantised ? .q4_0 : .f32).checkpoint()
    let stored = try CheckpointLocation(path: source).open()
    let theirs = try #require(stored["transformer.h.1.ln_2.weight"]).decoded(as: Float.self)
    let gain = try #require(checkpoint["blk.1.ffn_norm.weight"]).decoded(as: Float.self)
    #expect(gain == (isQuantised ? theirs : [Float](repeating: 1e6, count: 128)))
    let last = try #require(checkpoint["output_norm.weight"]).decoded(as: Float.self)
    #expect(last == (try #require(stored["transformer.ln_f.weight"]).decoded(as: Float.self)))
    // What gguf-py would make of the source's own matrix, transposed: its encoders are ours bit for bit (FormatsTests).
    let matrix = try #require(stored["transformer.h.1.mlp.c_fc.weight"]).decoded(as: Float.self)
    var transposed: [Float] = []
    for row in 0..<512 { for column in 0..<128 { transposed.append(matrix[column * 512 + row]) } }
    var bytes = [UInt8](repeating: 0, count: 512 * 128 / 32 * 18)
    _ = transposed.withUnsafeBufferPointer { values in
      bytes.withUnsafeMutableBytes { ElementType.q4_0.encode(values, into: $0) }
    }
    #expect((try #require(checkpoint["blk.1.ffn_up.weight"]).bytes == bytes) == isQuantised)
  }

  // MARK: Types that give way

  /// A network of constants: nothing is computed to decide on types.
  private func network(width: Int, hidden: Int, isTied: Bool, bias: Bool = true) -> Network {
    func map(_ rows: Int, _ columns: Int) -> LinearMap {
      LinearMap(
        weight: .constant(0.5, shape: [rows, columns]), bias: bias ? .constant(0.25, shape: [columns]) : nil)
    }
    var network = Network(contextLength: 8)
    let tokens = network.append(.embed(.constant(0.1, shape: [10, width]), by: .token), at: "embedding.tokens")
    let positions = network.append(.embed(.constant(0.2, shape: [8, width]), by: .position), at: "embedding.positions")
    let stream = network.append(.add, to: tokens, positions, at: "embedding")
    for part in ["query", "key", "value"] {
      network.append(.linear(map(width, width)), to: stream, at: "blocks.0.attention.\(part)")
    }
    let mixed = network.append(
      .attend(Attention(headCount: 4, keyValueHeadCount: 4, scale: 0.5)), to: "blocks.0.attention.query",
      "blocks.0.attention.key", "blocks.0.attention.value", at: "blocks.0.attention.mixed")
    let attended = network.append(.linear(map(width, width)), to: mixed, at: "blocks.0.attention.output")
    let middle = network.append(.add, to: stream, attended, at: "blocks.0.middle")
    let input = network.append(.linear(map(width, hidden)), to: middle, at: "blocks.0.mlp.input")
    let activated = network.append(.activate(.geluTanh), to: input, at: "blocks.0.mlp.activation")
    let output = network.append(.linear(map(hidden, width)), to: activated, at: "blocks.0.mlp.output")
    let last = network.append(.add, to: middle, output, at: "blocks.0")
    let unembedding = LinearMap(weight: .constant(isTied ? 0.1 : 0.3, shape: [width, 10]), bias: nil)
    network.append(.linear(unembedding), to: last, at: "unembedding")
    return network
  }

  private func output(_ network: Network, _ type: ElementType) throws -> TargetOutput {
    var options = ReadingOptions()
    options.tokenizer = .absent
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"), options: options)
    return try LlamaCppTarget().output(of: network, from: try TargetSource(model), options: .init(type: type))
  }

  private func types(_ output: TargetOutput) -> [String: ElementType] {
    Dictionary(uniqueKeysWithValues: output.parameters.map { ($0.info.name, $0.info.type) })
  }

  @Test("stores rows that are not whole blocks as F16, and says so")
  func fallback() throws {
    let output = try output(network(width: 48, hidden: 96, isTied: true), .q5_1)
    let types = types(output)
    #expect(types["blk.0.attn_qkv.weight"] == .f16)
    #expect(types["blk.0.ffn_up.weight"] == .f16)
    #expect(types["blk.0.ffn_down.weight"] == .q5_1)
    #expect(types["token_embd.weight"] == .f16)
    #expect(types["blk.0.ffn_down.bias"] == .f32)
    #expect(output.notes.first == "4 matrices are F16, since rows of 48 elements are not blocks of 32")
  }

  @Test("stores an unembedding of its own, as Q8_0 beside other blocks")
  func untied() throws {
    let output = try output(network(width: 64, hidden: 256, isTied: false), .q4_1)
    #expect(types(output)["output.weight"] == .q8_0)
    #expect(types(output)["token_embd.weight"] == .q4_1)
    #expect(
      output.notes.first
        == "output.weight unembeds, so it is Q8_0; llama.cpp's quantiser takes Q6_K for it where rows are multiples of 256"
    )
    #expect(try types(self.output(network(width: 64, hidden: 256, isTied: false), .bf16))["output.weight"] == .bf16)
  }

  @Test("fills in biases of zero, and moves an unusual attention scale into the queries")
  func completions() throws {
    let output = try output(network(width: 64, hidden: 256, isTied: true, bias: false), .f32)
    func values(_ name: String) throws -> [Double] {
      ParameterReader(try #require(output.parameters.first { $0.info.name == name }).value).values()
    }
    #expect(try values("blk.0.attn_qkv.bias") == [Double](repeating: 0, count: 192))
    // 0.5 instead of 1/√16 doubles the queries; keys and values stay.
    let rows = try values("blk.0.attn_qkv.weight")
    #expect(rows[0] == 1 && rows[64 * 64 - 1] == 1 && rows[64 * 64] == 0.5 && rows[3 * 64 * 64 - 1] == 0.5)
  }

  @Test(
    "labels sizes as gguf-py does",
    arguments: [
      (940_672, "941K"), (4_500, "4.5K"), (124_439_808, "124M"),
      (1_557_611_200, "1.6B"), (9_960, "10K"),
    ])
  func sizeLabel(_ count: Int, _ label: String) { #expect(LlamaCppTarget.sizeLabel(count) == label) }

  // MARK: Refusals

  @Test("refuses a bias of the unembedding")
  func vocabularyBias() throws {
    let folded = try Converted(Fixtures.path("tiny-2x32/lnfree"), to: "transformers")
    let refusal = #expect(throws: Refusal.self) { try Converted(folded.path) }
    #expect(
      refusal?.description
        == "'lm_head.bias': the target llama.cpp has no place for a bias of the unembedding; use targets = transformers"
    )
  }

  @Test("refuses a type that it does not have, with those that it has")
  func type() throws {
    let refusal = #expect(throws: Refusal.self) { try Converted(source, type: .f64) }
    #expect(
      refusal?.description
        == "'llama.cpp': cannot be stored as F64; it takes F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0"
    )
  }

  @Test("refuses the exact GELU with the size of the error, and measures it where that is allowed")
  func exactGELU() throws {
    let path = Fixtures.path("tiny-2x32/nanogpt/ckpt.pt")
    func options(_ conversion: inout Conversion) {
      conversion.readingOptions.deviations = Fixtures.path("tiny-2x32/nanogpt/std_dicts.json")
      conversion.readingOptions.removalStep = 100_000
    }
    let refusal = #expect(throws: Refusal.self) { try Converted(path, options) }
    #expect(
      refusal?.description
        == "'gelu': the target llama.cpp has gelu_new only for a GPT-2, which differs from this one by up to 4.7e-04 in each hidden unit; pass allowsApproximateActivation to write the file all the same and measure what that does to the logits"
    )
    let converted = try Converted(path) {
      options(&$0)
      $0.allowsApproximateActivation = true
    }
    let claims = (try #require(converted.report.verification)).targets[0]
    #expect(claims.algebraHolds && claims.arithmeticHolds)
    // Far above rounding in single precision, far below the logits.
    #expect(claims.judgement.single.logits.relative > 1e-5 && claims.judgement.single.logits.relative < 1e-2)
    #expect(converted.report.outputs[0].notes.contains { $0.description.contains("gelu") })
  }

  @Test("refuses ReLU, which no flag makes a GELU")
  func relu() throws {
    var network = network(width: 64, hidden: 256, isTied: true)
    network.setActivations(.relu)
    var options = ReadingOptions()
    options.tokenizer = .absent
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"), options: options)
    let refusal = #expect(throws: Refusal.self) {
      try LlamaCppTarget().output(
        of: network, from: try TargetSource(model), options: .init(type: .f32, allowsApproximateActivation: true))
    }
    #expect(
      refusal?.description
        == "'relu': the target llama.cpp has gelu_new only for a GPT-2, which differs from this one by up to 0.17 in each hidden unit; use targets = transformers"
    )
  }

  @Test("knows how far the GELUs are apart")
  func activationDifference() {
    let difference = Activation.geluErf.largestDifference(from: .geluTanh)
    #expect(abs(difference - 4.732e-4) < 1e-7)
    #expect(Activation.geluErf.largestDifference(from: .geluErf) == 0)
  }
}
