import NormFoldFormats
import Testing
import TestSupport

private let valid: [UInt8] = {
  let header = Array(
    (#"{"__metadata__":{"format":"pt"},"h.0.ln_1.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"#
      + #""b\u0041":{"dtype":"I16","shape":[3],"data_offsets":[8,14]},"c":{"dtype":"F4","shape":[],"data_offsets":[14,14]}}"#)
      .replacing("\"F4\",\"shape\":[]", with: "\"F4\",\"shape\":[0]").utf8)
  return [UInt8(header.count), 0, 0, 0, 0, 0, 0, 0] + header + [UInt8](repeating: 0x3F, count: 14)
}()

/// What a stranger's file may do: be refused, or be read and decoded. Nothing else, and above all not end the process.
@Test("damaged safetensors files are refused or read", arguments: 0..<8)
func mutations(seed: Int) throws {
  var random = SeededGenerator(seed: UInt64(seed))
  let directory = try TemporaryDirectory()
  var outcomes = (read: 0, refused: 0)
  for _ in 0..<500 {
    var bytes = valid
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let place = Int.random(in: bytes.indices, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 2: bytes[place] = Array("0123456789[]{},:\"\\ue-".utf8).randomElement(using: &random) ?? 0
      case 3: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...8, using: &random)))
      case 4: bytes.insert(contentsOf: bytes[..<place].suffix(9), at: place)
      default: bytes.removeLast(min(bytes.count - 1, Int.random(in: 1...bytes.count, using: &random)))
      }
      if bytes.isEmpty { bytes = [0] }
    }
    let path = try directory.write(bytes, to: "m.safetensors")
    do throws(Refusal) {
      let checkpoint = try Checkpoint(safetensors: path)
      for tensor in checkpoint.tensors where tensor.info.type.isDecodable { _ = tensor.decoded(as: Float.self) }
      outcomes.read += 1
    } catch {
      #expect(error.category == .malformed || error.category == .unsupported)
      #expect(error.file == path)
      outcomes.refused += 1
    }
  }
  // Both happen, or the mutations are too weak or too strong to find anything.
  #expect(outcomes.read > 0 && outcomes.refused > 250, "\(outcomes)")
}

@Test("every truncation is refused") func truncations() throws {
  let directory = try TemporaryDirectory()
  #expect(throws: Never.self) { try Checkpoint(safetensors: directory.write(valid, to: "m.safetensors")) }
  for count in valid.indices {
    let path = try directory.write(Array(valid[..<count]), to: "m.safetensors")
    #expect(throws: Refusal.self) { try Checkpoint(safetensors: path) }
  }
}
