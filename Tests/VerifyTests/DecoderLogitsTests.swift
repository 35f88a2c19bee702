import Arithmetic
import Formats
import Foundation
import Networks
import TestSupport
import Testing
import Verify

/// LLaMA's relatives, in shards of bfloat16, and LLaMAs with scaled rotary positions, held against what transformers computed
/// in double precision throughout (`fixtures/generate/rotary_decoders.py`).
@Suite struct DecoderLogitsTests {
  static let models = ["mistral", "qwen2", "qwen3", "gemma", "phi3", "olmo2"]
  static let scalings = ["linear", "llama3", "yarn", "yarn-plain", "dynamic"]
  private static let reference = "decoders/reference.safetensors"

  /// A model of the fixtures, or the tensors of `mistral` under a config with scaled positions.
  static func opened(_ name: String) throws -> Model {
    if scalings.contains(name) {
      let altered = try AlteredCheckpoint(rotaryScaling: name)
      return try withExtendedLifetime(altered) { try Model(opening: altered.path) }
    }
    return try Model(opening: Fixtures.path("decoders/" + name))
  }

  @Test("Double forward is transformers', islands of float32 apart", arguments: models + scalings)
  func double(_ name: String) throws {
    let reference = try ReferenceLogits(Self.reference, prefix: name + ".")
    let network = try Self.opened(name).network
    let logits = reference.select(try network.logits(on: FastBackend<Double>(probes: reference.probes)).all())
    #expect(reference.relativeDifference(logits) <= 1e-12)
    // As transformers comes, with float32 where its authors wanted it.
    let file = try Checkpoint(safetensors: Fixtures.path(Self.reference))
    let stock: [Double] = try #require(file["\(name).logits.stock"]).decoded()
    #expect(relativeDifference(logits, stock) <= 2e-6)
  }

  @Test("Float forward is within float32 noise of it", arguments: models + scalings)
  func single(_ name: String) throws {
    let reference = try ReferenceLogits(Self.reference, prefix: name + ".")
    let network = try Self.opened(name).network
    let logits = reference.select(try network.logits(on: FastBackend<Float>(probes: reference.probes)).all())
    #expect(reference.relativeDifference(logits) <= 4e-6)
  }

  @Test("Plain loops compute the same", arguments: ["qwen3", "gemma", "olmo2", "llama3", "yarn"])
  func plain(_ name: String) throws {
    let reference = try ReferenceLogits(Self.reference, prefix: name + ".")
    let network = try Self.opened(name).network
    var rows: [Double] = []
    for probe in reference.probes {
      var backend = PlainBackend(tokens: probe.tokens)
      let all: [[Double]] = try network.evaluate(on: &backend)
      for position in reference.positions { rows += all[position] }
    }
    #expect(reference.relativeDifference(rows) <= 1e-12)
  }

  @Test("Heads that are normed together are another network")
  func wrongHeads() throws {
    let reference = try ReferenceLogits(Self.reference, prefix: "qwen3.")
    var network = try Self.opened("qwen3").network
    for (path, norm) in network.norms where norm.headCount > 1 {
      network[norm: path]?.gain = norm.gain.repeated(norm.headCount)
      network[norm: path]?.headCount = 1
    }
    let logits = reference.select(try network.logits(on: FastBackend<Double>(probes: reference.probes)).all())
    #expect(reference.relativeDifference(logits) > 1e-3)
  }
}
