import NormFoldFormats
import Testing
import TestSupport

@testable import NormFoldNetworks

@Suite struct LayoutTests {
  private static let nanoGPT = GPT2.layout(name: "nanoGPT", isTransposed: true, norms: .always)

  @Test(
    "What is read is what would be written: names, shapes, bytes",
    arguments: [
      "tiny-2x32/lnfree", "tiny-2x32/lnfree-bf16", "tiny-2x32/vanilla", "shakespeare-4x128/lnfree-sharded",
    ])
  func inverse(_ path: String) throws {
    let model = try Model(opening: Fixtures.path(path))
    let parameters = model.network.gpt2Tensors.filter { $0.name != "lm_head.weight" }
    #expect(Set(parameters.map { "transformer." + $0.name }) == Set(model.checkpoint.tensors.map(\.name)))
    for (name, value) in parameters {
      // The recipe is the stored tensor itself: the three parts of c_attn have become one again.
      let tensor = try #require(value.storedTensor, "\(name) = \(value)")
      #expect(tensor == model.checkpoint["transformer." + name])
    }
  }

  @Test("A tied unembedding is the embedding, as it is stored")
  func tiedHead() throws {
    let model = try Model(opening: Fixtures.path("tiny-2x32/lnfree"))
    let head = model.network.gpt2Tensors.first { $0.name == "lm_head.weight" }
    #expect(head?.value == model.network.tokenEmbedding)
  }

  @Test("nanoGPT stores the same matrices the other way; embeddings and vectors alike")
  func orientation() throws {
    let network = try Model(opening: Fixtures.path("tiny-2x32/lnfree")).network
    let gpt2 = network.gpt2Tensors
    let nanoGPT = Self.nanoGPT.tensors(of: network, sizes: network.sizes).map { (name: $0.slot.name, value: $0.value) }
    #expect(gpt2.map(\.name) == nanoGPT.map(\.name))
    var transposed: Set<String> = []
    for (a, b) in zip(gpt2, nanoGPT) {
      if a.value == b.value { continue }
      transposed.insert(a.name)
      #expect(b.value == a.value.transposed(), "\(a.name)")
    }
    let expected = (0..<2).flatMap { block in
      ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map { "h.\(block).\($0).weight" }
    }
    #expect(transposed == Set(expected))
  }

  @Test("Parts of a fused tensor are where the layout says, in both orientations")
  func parts() throws {
    var sizes = Hyperparameters(path: "")
    for (size, value) in [
      (Hyperparameters.Size.model, 2), (.heads, 1), (.keyValueHeads, 1), (.headWidth, 2), (.hidden, 3), (.context, 1),
      (.vocabulary, 5),
    ] { sizes[size] = value }
    let directory = try TemporaryDirectory()
    var tensors = EditableTensors()
    // [in, out]: element 10·row + column.
    tensors["in-out"] = .init((0..<2).flatMap { r in (0..<6).map { Double(10 * r + $0) } }, shape: [2, 6])
    tensors["out-in"] = tensors.entry("in-out").transposed
    try tensors.write(to: directory / "x.safetensors")
    let file = try Checkpoint(safetensors: directory / "x.safetensors")
    for (layout, name) in [(Architecture.gpt2.layout, "in-out"), (Self.nanoGPT, "out-in")] {
      let slot = try #require(layout.slots(blockCount: 1).first { $0.name == "h.0.attn.c_attn.weight" })
      #expect(layout.storedShape(of: slot, in: sizes) == file[name]?.shape)
      let parts = layout.parts(of: .stored(try #require(file[name])), in: slot, sizes: sizes)
      #expect(parts.map(\.name) == ["query", "key", "value"].map { "blocks.0.attention.\($0).weight" })
      #expect(parts.map { ParameterReader($0.value).values() } == [[0, 1, 10, 11], [2, 3, 12, 13], [4, 5, 14, 15]])
    }
  }

  @Test(
    "The number of blocks is one more than the highest in a name",
    arguments: [
      ([], 0), (["wte.weight"], 0), (["h.0.ln_1.weight"], 1), (["h.11.mlp.c_fc.bias", "h.2.ln_1.bias"], 12),
      (["h.03.ln_1.weight"], 0), (["h.-1.ln_1.weight"], 0), (["h.1.ln_3.weight"], 0), (["h.999999.ln_1.weight"], 0),
      (["h.99999999999999999999.ln_1.weight"], 0), (["h..ln_1.weight"], 0),
    ])
  func blockCount(names: [String], expected: Int) {
    #expect(Architecture.gpt2.layout.blockCount(in: names) == expected)
  }
}
