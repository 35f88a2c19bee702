import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// LLaMA's relatives, in shards of bfloat16, and LLaMAs with scaled rotary positions, held against what transformers computed
/// in double precision throughout (`fixtures/generate/rotary_decoders.py`).
@Suite struct DecoderLogitsTests {
  static let models = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "olmo2", "phi"]
  /// Attention that looks back over 7 of 40 tokens.
  static let windows = ["mistral", "qwen2", "qwen3", "phi3", "gemma2"].map { "window-" + $0 }
  static let scalings = ["linear", "llama3", "yarn", "yarn-plain", "dynamic"]
  private static let reference = "decoders/reference.safetensors"

  /// A model of the fixtures, or the tensors of `mistral` under a config with scaled positions.
  static func opened(_ name: String) throws -> Model {
    if scalings.contains(name) {
      let altered = try AlteredCheckpoint(rotaryScaling: name)
      return try withExtendedLifetime(altered) { try Model(opening: altered.path) }
    }
    if windows.contains(name) {
      let altered = try AlteredCheckpoint(window: String(name.dropFirst("window-".count)))
      return try withExtendedLifetime(altered) { try Model(opening: altered.path) }
    }
    return try Model(opening: Fixtures.path("decoders/" + name))
  }

  @Test("Double forward is transformers', islands of float32 apart", arguments: models + scalings + windows)
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

  @Test("Float forward is within float32 noise of it", arguments: models + scalings + windows)
  func single(_ name: String) throws {
    let reference = try ReferenceLogits(Self.reference, prefix: name + ".")
    let network = try Self.opened(name).network
    let logits = reference.select(try network.logits(on: FastBackend<Float>(probes: reference.probes)).all())
    #expect(reference.relativeDifference(logits) <= 4e-6)
  }

  @Test("Plain loops compute the same", arguments: ["qwen3", "gemma", "gemma2", "olmo2", "llama3", "yarn"] + windows)
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

  /// Gemma 2 and its attention with a window, with one thing otherwise.
  private static let changes: [(name: String, change: @Sendable (inout Attention) -> Void)] = [
    ("gemma2", { $0.softCap = 5.05 }), ("gemma2", { $0.softCap = nil }), ("window-gemma2", { $0.mask = .causal }),
    ("window-mistral", { $0.mask = .window(8) }), ("window-qwen2", { $0.mask = .window(7) }),
  ]

  @Test("Another cap, another window, or a window in every block is another network", arguments: changes.indices)
  func otherAttention(number: Int) throws {
    let (name, change) = Self.changes[number]
    let reference = try ReferenceLogits(Self.reference, prefix: name + ".")
    var network = try Self.opened(name).network
    network.changeAttentions { _, attention in change(&attention) }
    let logits = reference.select(try network.logits(on: FastBackend<Double>(probes: reference.probes)).all())
    #expect(reference.relativeDifference(logits) > 1e-5)
  }

  @Test("Token by token through a cache, a window moves along", arguments: windows)
  func cached(_ name: String) throws {
    let network = try Self.opened(name).network
    let tokens = try ReferenceLogits(Self.reference, prefix: name + ".").probes[0].tokens
    let whole = try network.logits(on: FastBackend<Double>(probes: [Probe(name: "", tokens: tokens)])).all()
    let cache = KeyValueCache<Double>(capacity: tokens.count)
    var rows: [Double] = []
    for token in tokens {
      let backend = FastBackend<Double>(following: cache, tokens: [token], workers: .one)
      rows += try network.logits(on: backend).all().array
      cache.advance(by: 1)
    }
    #expect(relativeDifference(rows, whole.array) <= 1e-13)
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
