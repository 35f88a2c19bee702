import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// Home-made networks, read by a layout file each, held against what their own code computed in double precision
/// (`fixtures/generate/layouts.py`).
@Suite struct LayoutLogitsTests {
  static let files = [
    "per-head": "per-head.pt", "fused": "fused.safetensors", "flat": "flat.pt", "rotary": "rotary.pt",
    "parallel": "parallel.safetensors", "post-norm": "post-norm.pt",
  ]

  static func opened(_ name: String, _ alter: (inout ReadingOptions) -> Void = { _ in }) throws -> Model {
    var options = ReadingOptions()
    options.layout = Fixtures.path("layouts/\(name).json")
    alter(&options)
    return try Model(opening: Fixtures.path("layouts/" + (files[name] ?? "")), options: options)
  }

  private func difference<Scalar: ArithmeticScalar>(_ network: Network, of name: String, as scalar: Scalar.Type) throws
    -> Double
  {
    let reference = try ReferenceLogits("layouts/reference.safetensors", prefix: name + ".")
    let logits = try network.logits(on: FastBackend<Scalar>(probes: reference.probes)).all()
    return reference.relativeDifference(reference.select(logits))
  }

  @Test("Logits are those of the network's own code", arguments: files.keys.sorted())
  func logits(_ name: String) throws {
    let network = try Self.opened(name).network
    #expect(try difference(network, of: name, as: Double.self) <= 1e-12)
    #expect(try difference(network, of: name, as: Float.self) <= 1e-5)
  }

  /// A layout with one thing said otherwise, in the words of the file.
  static let mistakes = [
    ("per-head", "\"1/sqrt(model)\"", "\"1/sqrt(headWidth)\""), ("per-head", "\"relu\"", "\"silu\""),
    ("fused", "[\"head\", \"part\", \"headFeature\"]", "[\"part\", \"output\"]"), ("fused", "1e-6", "1e-2"),
    ("flat", "\"heads\": 4", "\"heads\": 8"), ("flat", "\"gelu\"", "\"gelu_new\""),
    ("rotary", "\"neighbours\"", "\"halves\""), ("rotary", "1000", "999"),
    ("parallel", "\"block\": \"parallel\"", "\"block\": \"pre-norm\""),
    ("post-norm", "\"post-norm\"", "\"pre-norm\""), ("post-norm", "\"post-norm\"", "\"parallel\""),
    ("rotary", "blocks.#.mlp.gate.weight\", \"blocks.#.mlp.input", "blocks.#.mlp.input.weight\", \"blocks.#.mlp.gate"),
  ]

  @Test("What a layout says otherwise is another network", arguments: mistakes)
  func mistake(_ name: String, _ old: String, _ new: String) throws {
    let place = try TemporaryDirectory()
    let text = String(decoding: try Fixtures.bytes("layouts/\(name).json"), as: UTF8.self)
    #expect(text.contains(old))
    try place.write(Array(text.replacing(old, with: new).utf8), to: "layout.json")
    let network = try Self.opened(name) { $0.layout = place / "layout.json" }.network
    #expect(try difference(network, of: name, as: Double.self) > 1e-5)
  }
}
