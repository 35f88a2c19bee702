import Foundation
import Logging
import NormFold
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import NormFoldTargets
import NormFoldVerify
import Testing
import TestSupport

/// What is written for onnxruntime, and that a graph which computes something else never appears.
@Suite struct ONNXTargetTests {
  private static func convert(
    to place: TemporaryDirectory, _ alter: (inout Conversion) -> Void = { _ in }
  ) throws -> ConversionReport {
    var conversion = Conversion(
      source: Fixtures.path("tiny-2x32/lnfree"), destination: place / "out", targets: ["onnxruntime"])
    alter(&conversion)
    return try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  @Test("Every claim holds, and no operator of a norm is left", arguments: [ElementType.f32, .f16])
  func converts(_ type: ElementType) throws {
    let place = try TemporaryDirectory()
    let report = try Self.convert(to: place) { $0.type = type }
    #expect(report.published)
    #expect(report.outputs[0].isNormFree)
    #expect(report.outputs[0].notes.count == 1)
    #expect(report.outputs[0].notes[0].description.hasSuffix("; none that a norm would need"))
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place / "out").sorted() == [
        "README.md", "config.json", "genai_config.json", "generation_config.json", "model.onnx", "model.onnx_data",
      ])
    let graph = try ONNXGraph(reading: place / "out")
    #expect(graph.externalInitializers.count == report.outputs[0].verifiedTensorCount)
    #expect(graph.externalInitializers.allSatisfy { $0.info.type == type })
  }

  @Test(
    "A graph of fixed length is proved like the other, and so is it later",
    arguments: [ONNXForm.plain, .plainEmbeddings])
  func plain(_ form: ONNXForm) throws {
    let place = try TemporaryDirectory()
    let report = try Self.convert(to: place) { conversion in
      conversion.onnxForm = form
      conversion.onnxLength = 24
    }
    #expect(report.published && report.outputs[0].isNormFree)
    let judgement = try #require(report.verification).targets[0].judgement
    // A hidden token has a finite score, which is what is left to say.
    #expect(judgement.partsHold && judgement.parts?.notCompared.count == 1)
    let files = try FileManager.default.contentsOfDirectory(atPath: place / "out").filter {
      $0.hasSuffix(".onnx")
    }
    #expect(
      files.sorted() == (form == .plain ? ["model.onnx"] : ["embed_tokens.onnx", "model.onnx"]))
    var run = VerificationRun(
      reference: Fixtures.path("tiny-2x32/lnfree"), candidate: place / "out")
    #expect(try run.run().holds)
    run.reference = Fixtures.path("tiny-2x32/vanilla")
    run.readingOptions.deviation = 1
    #expect(try !run.run().holds)
  }

  @Test(
    "A plain graph of another network is caught before anything appears", arguments: Break.allCases)
  func brokenPlain(_ broken: Break) throws {
    let place = try TemporaryDirectory()
    let report = try Self.convert(to: place) { conversion in
      conversion.onnxForm = .plainEmbeddings
      conversion.onnxLength = 24
      conversion.output = { (target, network, model, options) throws(Refusal) in
        var altered = network
        broken.apply(to: &altered)
        return try target.output(of: altered, from: model, options: options)
      }
    }
    let claims = (try #require(report.verification)).targets[0]
    #expect(claims.algebraHolds && !claims.arithmeticHolds && !report.published)
  }

  @Test("A length without the form that has one, and the form beside another target, are refused")
  func graphOptions() throws {
    let place = try TemporaryDirectory()
    let refusals = [
      #expect(throws: Refusal.self) { try Self.convert(to: place) { $0.onnxLength = 8 } },
      #expect(throws: Refusal.self) {
        try Self.convert(to: place) {
          $0.onnxForm = .plain
          $0.targets.append("gpt2")
        }
      },
      #expect(throws: Refusal.self) {
        try Self.convert(to: place) {
          $0.onnxForm = .plain
          $0.onnxLength = 65
        }
      },
    ]
    #expect(refusals.allSatisfy { $0?.category == .usage }, "\(refusals)")
    #expect(
      refusals.map { $0?.subject } == ["\(.onnxLength)", "\(.onnxForm, "plain")", "\(.onnxLength)"])
  }

  @Test("The model says what made it of what")
  func provenance() throws {
    let place = try TemporaryDirectory()
    let report = try Self.convert(to: place)
    let source = try MappedFile(path: Fixtures.path("tiny-2x32/lnfree") + "/model.safetensors")
    let metadata = try ONNXGraph(reading: place / "out").metadata
    let digest = DigestAlgorithm.tree.digest(of: source, workers: .one)
    #expect(metadata["normfold.source.digest"] == digest)
    #expect(metadata["normfold.source"] == "model.safetensors")
    #expect(metadata["normfold.version"] == Tool.version)
    #expect(metadata["normfold.folded"]?.split(separator: " ").count == report.outputs[0].foldedNormCount)
    let bytes = try #require(FileManager.default.contents(atPath: place / "out/model.onnx"))
    // Field 3, the version of the producer, which onnx's own tools show.
    #expect(bytes.firstRange(of: [0x1A, UInt8(Tool.version.utf8.count)] + Array(Tool.version.utf8)) != nil)
  }

  enum Break: CaseIterable, Sendable {
    case biasDropped, weightTransposed, blockSkipped, scaleForgotten

    func apply(to network: inout Network) {
      switch self {
      case .biasDropped: network[linear: "unembedding"]?.bias = nil
      case .weightTransposed:
        // Square, so that no shape gives it away.
        network.changeWeight("blocks.1.attention.output") { $0.transposed() }
      case .blockSkipped:
        network.remove("blocks.1")
        network.remove("blocks.1.middle")
      case .scaleForgotten: network.changeAttentions { if $0.block == 0 { $1.scale = 1 } }
      }
    }
  }

  @Test("A graph of another network is caught before anything appears", arguments: Break.allCases)
  func broken(_ broken: Break) throws {
    let place = try TemporaryDirectory()
    let report = try Self.convert(to: place) { conversion in
      conversion.output = { (target, network, model, options) throws(Refusal) in
        var altered = network
        broken.apply(to: &altered)
        return try target.output(of: altered, from: model, options: options)
      }
    }
    let claims = (try #require(report.verification)).targets[0]
    #expect(claims.algebraHolds)
    #expect(!claims.arithmeticHolds)
    #expect(!report.published)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty)
  }
}
