import Foundation
import NormFold
import NormFoldFormats
import NormFoldNetworks
import Testing
import TestSupport

@Suite("Outputs in shards") struct ShardedOutputTests {
  @Test("A shard ends before the tensor that would make it too large; one alone may be larger")
  func cutting() {
    func info(_ name: String, _ count: Int) -> TensorInfo { TensorInfo(name: name, type: .f32, shape: [count]) }
    let tensors = [info("a", 10), info("b", 10), info("c", 30), info("d", 5), info("e", 15)]
    func names(_ maximum: Int) -> [[String]] {
      SafetensorsShards(of: tensors, maximumByteCount: maximum, name: "model.safetensors").files.map { file in
        file.tensors.map(\.name)
      }
    }
    #expect(names(280) == [["a", "b", "c", "d", "e"]])
    #expect(names(80) == [["a", "b"], ["c"], ["d", "e"]])
    #expect(names(79) == [["a"], ["b"], ["c"], ["d"], ["e"]])
    let shards = SafetensorsShards(of: tensors, maximumByteCount: 80, name: "model.safetensors")
    #expect(shards.files[1].name == "model-00002-of-00003.safetensors")
    #expect(shards.index["metadata"]?["total_size"]?.count == 280)
    #expect(shards.index["weight_map"]?["d"]?.string == "model-00003-of-00003.safetensors")
  }

  @Test("They hold what one file would, and verify")
  func conversion() throws {
    let source = Fixtures.path("decoders/qwen3")
    let (whole, cut) = (try Workplace(), try Workplace())
    try whole.convert(source) { $0.normForm = .unit }
    let report = try cut.convert(source) {
      $0.normForm = .unit
      $0.maximumShardByteCount = 30_000
    }
    #expect(report.holds)
    let names = report.outputs[0].files.map(\.name)
    #expect(Array(names.prefix(4)) == (1...4).map { "model-0000\($0)-of-00004.safetensors" })
    #expect(names.contains("model.safetensors.index.json") && !names.contains("model.safetensors"))
    let (one, several) = (
      try CheckpointLocation(path: whole.output).open(), try CheckpointLocation(path: cut.output).open()
    )
    #expect(several.files.count == 4 && one.tensors.count == several.tensors.count)
    for tensor in one.tensors {
      let other = try #require(several[tensor.name])
      #expect(other.info == tensor.info && other.decoded(as: Double.self) == tensor.decoded(as: Double.self))
    }
    for file in several.files { #expect(file.byteCount < 36_000) }
    // Each shard says what made it, with the digests of the source that were known at the end only.
    #expect(several.metadata["normfold.source.digest"] == one.metadata["normfold.source.digest"])
  }
}
