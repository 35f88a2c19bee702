import ArgumentParser
import Foundation
import NormFoldFormats

/// Element types on one thread: GB of Float per second, and the bytes read and written beside those of a memory copy.
struct Codecs: ParsableCommand {
  @Option var rounds = 7
  @Option(help: "Floats to work on.") var count = 1 << 26

  func run() throws {
    let values = (0..<count).map { Float(($0 &* 2_654_435_761) % 100_003) / 50_000 - 1 }
    let place = FileManager.default.temporaryDirectory.appending(path: "normfold-codecs-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: place) }
    let gigabytes = Double(4 * count) / 1e9
    var copy = [Float](repeating: 0, count: count)
    let copying = (0...rounds).map { _ in
      seconds { copy.withUnsafeMutableBytes { to in values.withUnsafeBytes { to.copyMemory(from: $0) } } }
    }
    let copyTime = Array(copying.dropFirst()).median
    print("memory copy\t\(gigabytes / copyTime)\tGB/s")
    for type in [ElementType.f16, .bf16, .q8_0, .q5_1, .q5_0, .q4_1, .q4_0] {
      var bytes = [UInt8](repeating: 0, count: type.byteCount(ofElements: count) ?? 0)
      let encoding = (0...rounds).map { _ in
        seconds {
          values.withUnsafeBufferPointer { values in
            _ = bytes.withUnsafeMutableBytes { type.encode(values, into: $0) }
          }
        }
      }
      let path = place.path + "/\(type.displayName).gguf"
      let writer = try TensorWriter(
        gguf: path, metadata: [("general.architecture", .string("none"))],
        tensors: [TensorInfo(name: "values", type: type, shape: [count / 256, 256])])
      try writer.append(bytes)
      try writer.finish()
      let tensor = try CheckpointLocation(path: path).open().tensors[0]
      let decoding = (0...rounds).map { _ in
        seconds { copy.withUnsafeMutableBufferPointer { tensor.decode(0..<count, into: $0) } }
      }
      for (name, times) in [("encode", encoding), ("decode", decoding)] {
        let time = Array(times.dropFirst()).median
        print("\(name) \(type.displayName)\t\(gigabytes / time)\tGB/s")
        let moved = Double(4 * count + bytes.count) / Double(2 * 4 * count)
        print("\(name) \(type.displayName), bytes moved over those of a memory copy\t\(moved * copyTime / time)\tratio")
      }
    }
  }
}
