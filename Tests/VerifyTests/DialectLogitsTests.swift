import NormFoldArithmetic
import NormFoldFormats
import NormFoldNetworks
import NormFoldVerify
import Testing
import TestSupport

/// Every form of a removal checkpoint, held against what the program that defines the form computed.
@Suite struct DialectLogitsTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let path: String
    let prefix: String
    var options = ReadingOptions()
    var testDescription: String { path }

    init(_ path: String, _ prefix: String, _ alter: (inout ReadingOptions) -> Void = { _ in }) {
      (self.path, self.prefix) = (path, prefix)
      alter(&options)
    }

    var reference: String { path.split(separator: "/")[0] + "/reference/reference.safetensors" }

    static let all: [Case] = [
      Case("tiny-2x32/fakeln", "fakeln."), Case("tiny-2x32/fakeln-safetensors", "fakeln."),
      Case("tiny-2x32/fakeln-bf16", "fakeln-bf16."), Case("tiny-2x32/fakeln-feature0", "fakeln-feature0."),
      Case("tiny-2x32/fakeln-partial", "fakeln-partial."),
      Case("tiny-2x32/fakeln-partial-safetensors", "fakeln-partial."),
      Case("tiny-2x32/nanogpt", "nanogpt.") { $0.deviations = Fixtures.path("tiny-2x32/nanogpt/std_dicts.json") },
      Case("shakespeare-4x128/fakeln", "fakeln."), Case("shakespeare-4x128/fakeln-safetensors", "fakeln."),
      Case("shakespeare-4x128/fakeln-bf16", "fakeln-bf16."),
      Case("shakespeare-4x128/fakeln-partial-safetensors", "fakeln-partial."),
    ]
  }

  @Test("Double forward is the defining program's float64", arguments: Case.all)
  func double(_ form: Case) throws {
    let reference = try ReferenceLogits(form.reference, prefix: form.prefix)
    let model = try Model(opening: Fixtures.path(form.path), options: form.options)
    let logits = try model.network.logits(on: FastBackend<Double>(probes: reference.probes)).all()
    #expect(reference.relativeDifference(reference.select(logits)) <= 1e-9)
  }

  @Test("Float forward is within float32 noise of it", arguments: Case.all)
  func single(_ form: Case) throws {
    let reference = try ReferenceLogits(form.reference, prefix: form.prefix)
    let model = try Model(opening: Fixtures.path(form.path), options: form.options)
    let logits = try model.network.logits(on: FastBackend<Float>(probes: reference.probes)).all()
    // 2e-6, plus the error that the reference's own float32 run makes on the same tokens where there is one.
    let noise = reference.single.map { reference.relativeDifference($0) } ?? 0
    #expect(reference.relativeDifference(reference.select(logits)) <= 2e-6 + noise)
  }

  @Test("Merged adapters compute (W + A·B), plus the frozen bias")
  func adapters() throws {
    let plain = try Model(opening: Fixtures.path("tiny-2x32/fakeln-safetensors"))
    let altered = try AlteredCheckpoint(of: "tiny-2x32/fakeln-safetensors") { content in
      var random = SeededGenerator(seed: 3)
      for name in content.tensors.names {
        guard name.hasSuffix(".weight"), name.contains(".c_") else { continue }
        let stem = String(name.dropLast(".weight".count))
        let (rows, columns) = (content.tensors.entry(name).shape[0], content.tensors.entry(name).shape[1])
        // Multiples of 1/64: their products are exact, so that W − A·B + A·B is W.
        func draw(_ count: Int) -> [Double] {
          (0..<count).map { _ in Double(Int.random(in: -4...4, using: &random)) / 64 }
        }
        let (down, up) = (draw(rows * 2), draw(2 * columns))
        content.tensors.change(name) { weight in
          var values: [Double] = []
          for row in 0..<rows {
            for column in 0..<columns {
              let product = down[row * 2] * up[column] + down[row * 2 + 1] * up[columns + column]
              values.append(Double(weight[row * columns + column]) - product)
            }
          }
          weight = .init(values, shape: [rows, columns], type: .f64)
        }
        content.tensors.rename(name, to: stem + ".weight_frozen")
        content.tensors.rename(stem + ".bias", to: stem + ".bias_frozen")
        content.tensors[stem + ".lora_A"] = .init(down, shape: [rows, 2])
        content.tensors[stem + ".lora_B"] = .init(up, shape: [2, columns])
      }
    }
    let adapted = try Model(opening: altered.path)
    #expect(adapted.dialect.displayName == "FakeLayerNorm training checkpoint with LoRA adapters")
    let comparison = try Comparison(
      of: [.init(name: "adapted", network: adapted.network, precision: .double)],
      with: .init(name: "plain", network: plain.network, precision: .double),
      on: [Probe(name: "p", tokens: [1, 5, 9, 200, 17])])
    // Exact but for the order of additions.
    #expect(comparison.outcomes[0].logits.relative <= 1e-12)
  }
}
