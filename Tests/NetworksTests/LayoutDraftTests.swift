import Foundation
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

/// Drafts of layouts, held against the files that a person made of them (`fixtures/layouts`).
@Suite struct LayoutDraftTests {
  private static let drafts: [(name: String, file: String, open: [String])] = [
    ("per-head", "per-head.pt", ["activation", "epsilon", "attentionScale"]),
    ("fused", "fused.safetensors", ["heads", "activation", "epsilon", "attentionScale", "layer.#.attn.w_qkv"]),
    ("flat", "flat.pt", ["heads", "activation", "epsilon", "attentionScale"]),
  ]

  private func lines(_ text: String) -> [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }

  @Test("A draft becomes a layout by editing the marked lines, five at most", arguments: drafts.indices)
  func edited(number: Int) throws {
    let (name, file, open) = Self.drafts[number]
    let draft = try LayoutDraft(of: Fixtures.path("layouts/" + file))
    let final = String(decoding: try Fixtures.bytes("layouts/\(name).json"), as: UTF8.self)
    let (before, after) = (lines(draft.text), lines(final))
    #expect(before.count == after.count)
    let edited = zip(before, after).filter { $0 != $1 }
    #expect(edited.count == open.count && edited.count <= 5, "\(draft.text)")
    #expect(edited.allSatisfy { before, _ in before.contains("\"?") })
    #expect(draft.openValues == open)
  }

  @Test("A draft that nobody has looked at is refused with what is to be filled in", arguments: drafts.indices)
  func unedited(number: Int) throws {
    let (_, file, open) = Self.drafts[number]
    let place = try TemporaryDirectory()
    let path = Fixtures.path("layouts/" + file)
    try place.write(Array(try LayoutDraft(of: path).text.utf8), to: "draft.json")
    var options = ReadingOptions()
    options.layout = place / "draft.json"
    let refusal = #expect(throws: Refusal.self) { try Model(opening: path, options: options) }
    #expect(refusal?.category == .malformed && refusal?.file == options.layout)
    let problem = try #require(refusal?.problem)
    #expect(problem.hasPrefix("\(open.count) values are to be filled in: "))
    for name in open { #expect(problem.contains(name), "\(problem)") }
  }

  @Test("A state dict inside two others is found, and its keys are written down")
  func nested() throws {
    let draft = try LayoutDraft(of: Fixtures.path("layouts/rotary.pt"))
    #expect(draft.text.contains("  \"stateDict\": [\"run\", \"weights\"],\n"))
    #expect(
      draft.openValues == [
        "heads", "keyValueHeads", "activation", "epsilon", "attentionScale", "positions", "context",
        "net.#/gate_up",
      ], "\(draft.text)")
  }

  @Test("A tensor that only one block has keeps its name, and is to be filled in")
  func oneBlock() throws {
    let directory = try TemporaryDirectory()
    var tensors = EditableTensors(of: try Checkpoint(safetensors: Fixtures.path("layouts/fused.safetensors")))
    tensors["layer.0.attn.distances"] = .init([Double](repeating: 0, count: 32 * 5), shape: [32, 5])
    try tensors.write(to: directory / "model.safetensors")
    let draft = try LayoutDraft(of: directory / "model.safetensors")
    #expect(draft.openValues.contains("layer.0.attn.distances"))
    #expect(draft.text.contains("\"layer.0.attn.distances\": {\"holds\": \"? the parameter of shape [32, 5]\"}"))
    #expect(draft.text.contains("\"layer.#.attn.w_out\""))
  }

  @Test("What has no blocks gets no draft")
  func noBlocks() throws {
    let refusal = #expect(throws: Refusal.self) { try LayoutDraft(of: Fixtures.path("safetensors/names.safetensors")) }
    #expect(refusal?.category == .unsupported)
  }
}
