import Foundation
import NormFold
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldTokenization
import Testing
import TestSupport

@testable import NormFoldTargets

/// A published BERT for sentences, from texts to vectors (`found/paraphrase-minilm-l3`, whose reference another program computed).
@Suite("A sentence encoder")
struct SentenceEncoderTests {
  private static let path = Fixtures.path("found/paraphrase-minilm-l3")

  private struct Text: Decodable {
    let text: String
    let pair: String?
    let ids: [Int]
  }

  private static let texts: [Text] = {
    do { return try Fixtures.decode("found/paraphrase-minilm-l3/tokenized.json") } catch { fatalError("\(error)") }
  }()

  private static func reference() throws -> Checkpoint { try Checkpoint(safetensors: path + "/reference.safetensors") }

  /// Sequences with what the tokenizer puts around them, padded behind to one length.
  private static func probes(_ texts: [(String, String?)], with tokenizer: Tokenizer, padding: Int = 0) throws
    -> [Probe]
  {
    let template = try #require(tokenizer.template)
    let encoded = texts.map { template.applied(to: tokenizer.encode($0.0), $0.1.map { tokenizer.encode($0) }) }
    let length = encoded.map(\.ids.count).max() ?? 0
    return encoded.map { ids, types in
      let missing = length - ids.count
      return Probe(
        name: "text", tokens: ids + Array(repeating: padding, count: missing),
        types: types + Array(repeating: 0, count: missing),
        isVisible: ids.map { _ in true } + Array(repeating: false, count: missing))
    }
  }

  /// The states of all tokens, and the mean of each text's.
  private static func states(
    of network: Network, _ probes: [Probe]
  ) throws -> (hidden: [Double], means: [[Double]]) {
    let rows = try network.logits(on: FastBackend<Double>(probes: probes)).all()
    let (hidden, width) = (rows.array, rows.columnCount)
    var (means, start) = ([[Double]](), 0)
    for probe in probes {
      means.append(
        (0..<width).map { column in
          probe.visibleTokens.reduce(0) { $0 + hidden[(start + $1) * width + column] }
            / Double(probe.visibleTokens.count)
        })
      start += probe.tokens.count
    }
    return (hidden, means)
  }

  private static func cosine(_ a: [Double], _ b: [Double]) -> Double {
    func product(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    return product(a, b) / (product(a, a) * product(b, b)).squareRoot()
  }

  private static func largestDifference(_ a: [Double], _ b: [Double]) -> Double {
    a.count == b.count ? zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
  }

  @Test("gives the published states and vectors of texts, to 1e-9")
  func published() throws {
    let reference = try Self.reference()
    let tokens = try #require(reference["tokens"])
    let tokenizer = try Tokenizer(opening: Self.path)
    let chosen = [0, 1, 2, 3, 5, 11, 12, 14]
    let probes = try Self.probes(chosen.map { (Self.texts[$0].text, nil) }, with: tokenizer)
    #expect(probes.flatMap { $0.tokens.map { Double($0) } } == tokens.decoded(as: Double.self))
    let network = try Model(opening: Self.path).network
    let (hidden, means) = try Self.states(of: network, probes)
    #expect(Self.largestDifference(hidden, try #require(reference["hidden.f64"]).decoded()) <= 1e-9)
    #expect(Self.largestDifference(means.flatMap { $0 }, try #require(reference["pooled_mean.f64"]).decoded()) <= 1e-9)
    let cosines = [(0, 1, 0.596), (0, 2, 0.014), (0, 3, -0.091), (1, 2, 0.091), (1, 3, -0.154), (2, 3, 0.045)]
    for (one, other, cosine) in cosines { #expect(abs(Self.cosine(means[one], means[other]) - cosine) < 6e-4) }
  }

  @Test("gives the published states of a pair, to 1e-9")
  func pair() throws {
    let reference = try Self.reference()
    let text = try #require(Self.texts.last)
    let probes = try Self.probes([(text.text, text.pair)], with: Tokenizer(opening: Self.path))
    let types = try #require(reference["pair.token_types"]).decoded(as: Double.self)
    #expect(probes[0].types.map { Double($0) } == types && types.contains(1))
    let hidden = try Self.states(of: Model(opening: Self.path).network, probes).hidden
    #expect(Self.largestDifference(hidden, try #require(reference["pair.hidden.f64"]).decoded()) <= 1e-9)
  }

  // MARK: llama.cpp

  /// Writes what sentence-transformers keeps beside an encoder.
  private static func writeModules(_ mode: String, in place: TemporaryDirectory, last: String = "Normalize") throws {
    let modules = ["Transformer", "Pooling", last].enumerated().map { index, name in
      #"{"idx": \#(index), "name": "\#(index)", "path": "\#(index == 1 ? "1_Pooling" : "")", "type": "sentence_transformers.models.\#(name)"}"#
    }
    try place.write(Array("[\(modules.joined(separator: ","))]".utf8), to: "modules.json")
    try FileManager.default.createDirectory(atPath: place / "1_Pooling", withIntermediateDirectories: true)
    try place.write(
      Array(#"{"word_embedding_dimension": 384, "\#(mode)": true, "pooling_mode_max_tokens": false}"#.utf8),
      to: "1_Pooling/config.json")
  }

  private static func converted(_ source: String, _ type: ElementType = .f32) throws -> Converted {
    try Converted(source, type: type) {
      $0.allowsPartial = true
      $0.allowsApproximateActivation = true
      $0.readingOptions.tokenizer = .directory(path)
    }
  }

  @Test("of DistilBERT's kind goes to llama.cpp as a BERT without token types")
  func distilBERT() throws {
    let source = Fixtures.path("encoders/distilbert-model")
    let written = try Converted(source) {
      $0.allowsPartial = true
      $0.allowsApproximateActivation = true
    }
    #expect(try written.header().value("tokenizer.ggml.token_type_count") == .u32(1))
    let model = try Model(opening: written.path)
    #expect(model.architecture == Architecture.bert[0] && model.network.tokenTypeEmbedding == nil)
    var meant = try Model(opening: source).network
    for path in ["blocks.0.mlp.activation", "blocks.1.mlp.activation"] as [Path] {
      meant.replaceOperation(at: path, by: .activate(.geluTanh))
    }
    let probes = [Probe(name: "tokens", tokens: [3, 1, 4, 1, 5, 9, 2, 6])]
    let expected = try Self.states(of: meant, probes).hidden
    #expect(Self.largestDifference(try Self.states(of: model.network, probes).hidden, expected) <= 1e-5)
  }

  @Test("goes to transformers with what sentence-transformers keeps beside it, unless there are modules with weights")
  func modules() throws {
    let (source, place) = (try TemporaryDirectory(), try TemporaryDirectory())
    for name in ["config.json", "model.safetensors"] {
      try source.write(Fixtures.bytes("found/paraphrase-minilm-l3/" + name), to: name)
    }
    var conversion = Conversion(source: source.path, destination: place / "out", targets: ["transformers"])
    conversion.allowsPartial = true
    conversion.readingOptions.tokenizer = .directory(Self.path)
    // Text probes begin with [CLS] and end with [SEP].
    try source.write(Array("Each evening the two of them went for a walk.".utf8), to: "text.txt")
    conversion.probeOptions.text = .text(files: [source / "text.txt"])
    let model = try Model(opening: source.path, options: conversion.readingOptions)
    let probes = try conversion.probeOptions.probes(for: model, at: source.path)
    let tokens = try #require(probes.all.first { $0.name == "text" }).tokens
    let texts = try Tokenizer(opening: Self.path)
    #expect(
      tokens == texts.template?.applied(to: texts.encode("Each evening the two of them went for a walk."), nil).ids)
    for last in ["Normalize", "Dense", "Normalize"] {
      try Self.writeModules("pooling_mode_mean_tokens", in: source, last: last)
      let report = try conversion.run()
      #expect(report.holds)
      let written = try Pooling(besideCheckpointIn: place / "out")
      #expect(written == (last == "Dense" ? nil : Pooling(.mean, isNormalised: true)))
      let names = report.outputs[0].files.map(\.name)
      #expect(names.contains("1_Pooling/config.json") == (last != "Dense"), "\(names)")
      let isNoted = report.outputs[0].notes.contains { $0.description.hasPrefix("what sentence-transformers keeps") }
      #expect(isNoted == (last == "Dense"))
      // The folder of the poolings is one that a model directory may have.
      conversion.replacesDestination = true
    }
  }

  @Test("goes to llama.cpp with every key and tensor that it asks for, and is read again")
  func gguf() throws {
    let source = try TemporaryDirectory()
    for name in ["config.json", "model.safetensors"] {
      try source.write(Fixtures.bytes("found/paraphrase-minilm-l3/" + name), to: name)
    }
    try Self.writeModules("pooling_mode_mean_tokens", in: source)
    let written = try Self.converted(source.path)
    let header = try written.header()
    let expected: [(String, GGUFValue)] = [
      ("general.architecture", .string("bert")), ("bert.context_length", .u32(512)),
      ("bert.embedding_length", .u32(384)),
      ("bert.feed_forward_length", .u32(1536)), ("bert.block_count", .u32(3)), ("bert.attention.head_count", .u32(12)),
      ("bert.attention.layer_norm_epsilon", .f32(1e-12)), ("bert.attention.causal", .bool(false)),
      ("bert.pooling_type", .u32(1)), ("tokenizer.ggml.model", .string("bert")),
      ("tokenizer.ggml.token_type_count", .u32(2)), ("tokenizer.ggml.cls_token_id", .u32(2)),
      ("tokenizer.ggml.seperator_token_id", .u32(3)), ("tokenizer.ggml.mask_token_id", .u32(4)),
    ]
    for (key, value) in expected { #expect(header.value(key) == value, "\(key)") }
    #expect(header.entries.count == 53 && Set(header.metadata.map(\.key)).count == header.metadata.count)
    // Read again, it computes what the source computes with the GELU that llama.cpp has.
    let opened = try Model(opening: written.gguf)
    #expect(opened.architecture.className == "BertModel" && opened.network.activations.allSatisfy { $0 == .geluTanh })
    let texts = Self.texts.prefix(6).map { ($0.text, nil as String?) }
    let probes = try Self.probes(texts, with: Tokenizer(opening: written.gguf))
    #expect(probes == (try Self.probes(texts, with: Tokenizer(opening: Self.path))))
    let expectedMeans = try Self.states(of: Model(opening: Self.path).network, probes).means
    let found = try Self.states(of: opened.network, probes).means
    for (one, other) in zip(found, expectedMeans) { #expect(Self.cosine(one, other) > 0.99999) }
    // And goes on to Q8_0, its tokenizer and its pooling with it.
    let again = try Converted(written.path, type: .q8_0) {
      $0.allowsPartial = true
      $0.allowsApproximateActivation = true
    }
    let keys = try again.header()
    for key in [
      "bert.pooling_type", "tokenizer.ggml.token_type_count", "tokenizer.ggml.tokens", "bert.attention.causal",
    ] {
      #expect(keys.value(key) == header.value(key), "\(key)")
    }
    #expect(keys.entries.first { $0.info.name == "blk.0.attn_q.weight" }?.info.type == .q8_0)
    #expect(keys.entries.first { $0.info.name == "token_types.weight" }?.info.type == .f32)
    let quantised = try Self.states(of: Model(opening: again.gguf).network, probes).means
    for (one, other) in zip(quantised, expectedMeans) { #expect(Self.cosine(one, other) > 0.999) }
  }

  @Test("says what llama.cpp leaves out and has to be told")
  func notes() throws {
    let written = try Self.converted(Self.path)
    #expect(try written.header().value("bert.pooling_type") == nil)
    let notes = written.report.outputs[0].notes.map(\.description)
    #expect(notes.contains { $0.contains("has to be told") } && notes.contains { $0.contains("pairs of texts") })
  }

  @Test(
    "reads how states become one vector, or refuses it",
    arguments: [
      ("pooling_mode_mean_tokens", "Normalize", "mean normalised"),
      ("pooling_mode_cls_token", "Normalize", "cls normalised"),
      (
        "pooling_mode_weightedmean_tokens", "Normalize",
        "1_Pooling/config.json, 'pooling_mode': expected one of pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_lasttoken, found pooling_mode_weightedmean_tokens"
      ),
      (
        "pooling_mode_mean_tokens", "Dense",
        "modules.json, '[2].type': expected Transformer, Pooling or Normalize, found \"sentence_transformers.models.Dense\""
      ),
    ])
  func pooling(mode: String, last: String, answer: String) throws {
    let place = try TemporaryDirectory()
    #expect(try Pooling(besideCheckpointIn: place.path) == nil)
    try Self.writeModules(mode, in: place, last: last)
    do throws(Refusal) {
      let found = try Pooling(besideCheckpointIn: place.path)
      #expect(found == Pooling(answer.hasPrefix("mean") ? .mean : .classification, isNormalised: true))
      #expect(answer.hasSuffix("normalised"))
    } catch {
      #expect(error.description.replacing(place.path + "/", with: "") == answer)
    }
  }
}
