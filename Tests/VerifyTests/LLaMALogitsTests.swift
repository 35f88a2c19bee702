import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// LLaMAs held against what transformers, or a forward pass written in PyTorch, computed.
@Suite struct LLaMALogitsTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let path: String
    let reference: String
    var prefix = ""
    var normScaling: NormScaling?
    /// transformers computes rotary positions and the deviations of its RMSNorms in float32 whatever the weights are.
    var limit = 1e-6
    var testDescription: String { reference + " " + prefix }

    static let all = [
      Case(path: "found/stories260K/stories260K.gguf", reference: "found/stories260K/reference.safetensors"),
      Case(path: "llama/random", reference: "llama/random/reference.safetensors"),
      // Written out in double precision throughout.
      Case(
        path: "found/stories260K/stories260K.gguf", reference: "llama/stories260K-scaled.safetensors", prefix: "lns.",
        normScaling: .lns, limit: 1e-12),
    ]
  }

  private func logits<Scalar: ArithmeticScalar>(of form: Case, in _: Scalar.Type) throws -> Double {
    let reference = try ReferenceLogits(form.reference, prefix: form.prefix)
    var options = ReadingOptions()
    options.normScaling = form.normScaling
    let model = try Model(opening: Fixtures.path(form.path), options: options)
    return reference.relativeDifference(
      reference.select(try model.network.logits(on: FastBackend<Scalar>(probes: reference.probes)).all()))
  }

  @Test("Double forward is the reference's float64", arguments: Case.all)
  func double(_ form: Case) throws {
    let difference = try logits(of: form, in: Double.self)
    #expect(difference <= form.limit)
  }

  @Test("Float forward is within float32 noise of it", arguments: Case.all)
  func single(_ form: Case) throws {
    let difference = try logits(of: form, in: Float.self)
    #expect(difference <= 4e-6)
  }

  @Test("Branches that are multiplied by numbers of their own")
  func branches() throws {
    let path = "llama/stories260K-scaled.safetensors"
    let file = try Checkpoint(safetensors: Fixtures.path(path))
    let reference = try ReferenceLogits(path, prefix: "branches.")
    var network = try Model(opening: Fixtures.path("found/stories260K/stories260K.gguf")).network
    let attention: [Double] = try #require(file["branches.attn"]).decoded()
    let mlp: [Double] = try #require(file["branches.mlp"]).decoded()
    for block in 0..<network.blockCount {
      network.multiply("blocks.\(block).attention.output", by: attention[block])
      network.multiply("blocks.\(block).mlp.output", by: mlp[block])
    }
    #expect(
      reference.relativeDifference(
        reference.select(try network.logits(on: FastBackend<Double>(probes: reference.probes)).all())) <= 1e-12)
  }

  @Test("Greedily continued, it tells the story that was published with it")
  func story() throws {
    let path = "found/stories260K/"
    let model = try Model(opening: Fixtures.path(path + "stories260K.gguf"))
    let header = try GGUFHeader(of: MappedFile(path: Fixtures.path(path + "stories260K.gguf")))
    guard case .strings(let pieces)? = header.value("tokenizer.ggml.tokens") else {
      Issue.record("there are no tokens")
      return
    }
    var tokens = [1]
    while tokens.count <= 90 {
      let logits = try model.network.logits(on: FastBackend<Float>(probes: [Probe(name: "story", tokens: tokens)]))
        .all().array.suffix(512)
      tokens.append(try #require(logits.indices.max { logits[$0] < logits[$1] }) - logits.startIndex)
    }
    let text = tokens.dropFirst().map { pieces[$0] == "<0x0A>" ? "\n" : pieces[$0].replacing("▁", with: " ") }.joined()
    let published = try String(contentsOfFile: Fixtures.path(path + "stories260K.md"), encoding: .utf8)
    #expect(text.count > 200)
    #expect(published.contains("-t 0.0\n" + text.dropFirst()))
  }
}
