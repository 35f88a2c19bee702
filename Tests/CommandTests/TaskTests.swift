import Foundation
import NormFoldFormats
import Testing
import TestSupport

@Suite struct TaskTests {
  @Test("All tasks become a directory each, which differ in the maps behind norms")
  func all() throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(
      [
        "convert", Fixtures.path("vision/tasks/model.pth"), place / "out", "--for", "transformers", "--task", "all",
        "--allow-partial", "--no-verify", "--quiet",
      ], in: place.path)
    #expect(result.status == 0)
    let written = try (0..<3).map { try Checkpoint(safetensors: place / "out/task-\($0)/model.safetensors") }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place / "out").sorted() == ["task-0", "task-1", "task-2"])
    var differing: Set<String> = []
    for tensor in written[0].tensors {
      let other = try #require(written[1][tensor.name])
      if tensor.decoded(as: Float.self) != other.decoded(as: Float.self) {
        differing.insert(String(tensor.name.split(separator: ".").suffix(2).joined(separator: ".")))
      }
    }
    let folded = ["query", "key", "value", "classifier"].flatMap { ["\($0).weight", "\($0).bias"] }
    #expect(differing == Set(folded + ["dense.weight", "dense.bias"]))
    let names = written[0].tensors.map(\.name)
    #expect(names.count == 40 && names.filter { $0.contains("embeddings") }.count == 4)
  }

  @Test("One document cannot be of all tasks, and a number must be one")
  func refused() throws {
    let source = Fixtures.path("vision/tasks/model.pth")
    for arguments in [["--task", "all", "--json"], ["--task", "first"]] {
      let result = try Command.run(
        ["convert", source, "out", "--for", "transformers"] + arguments, in: Fixtures.path("vision"))
      #expect(result.status == 2)
    }
    let missing = try Command.run(["inspect", source], in: Fixtures.path("vision"))
    #expect(missing.status == 2 && missing.error.contains("choose one with --task: 0 to 2"))
    let other = try Command.run(
      ["convert", Fixtures.path("vision/timm"), "out", "--for", "transformers", "--task", "all"],
      in: Fixtures.path("vision"))
    #expect(other.status == 2 && other.error.contains("'--task': there are no norms of several tasks"))
  }
}
