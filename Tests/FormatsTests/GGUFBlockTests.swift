import NormFoldFormats
import Testing
import TestSupport

/// ggml-blocks/blocks.safetensors holds `<TYPE>.bytes` [4, row bytes] and `<TYPE>.values` [4, 512], as gguf-py decodes
/// them, and `input` [4, 512], of which the bytes of some types are the quantisation.
struct GGUFBlockTests {
  static let fixture = Result { try Checkpoint(safetensors: Fixtures.path("ggml-blocks/blocks.safetensors")) }

  static let decodable = ElementType.allCases.filter { $0.elementsPerBlock > 1 && $0.isDecodable }

  @Test func decodesEighteenBlockTypes() {
    #expect(Self.decodable.count == 18)
  }

  @Test("decodes as gguf-py does, bit for bit", arguments: decodable)
  func decodesFixture(_ type: ElementType) throws {
    let fixture = try Self.fixture.get()
    // gguf-py 0.19 has no code for the two newest types; their tests are by hand below.
    guard ![.q1_0, .q2_0].contains(type) else { return }
    let stored = try #require(fixture["\(type.displayName).bytes"])
    let expected = try #require(fixture["\(type.displayName).values"]).decoded(as: Float.self)
    let tensor = Tensor(
      info: TensorInfo(name: "x", type: type, shape: [4, 512]), file: stored.file, byteOffset: stored.byteOffset)
    #expect(stored.info.byteCount == tensor.info.byteCount)
    #expect(tensor.decoded(as: Float.self).map(\.bitPattern) == expected.map(\.bitPattern))
    #expect(tensor.decoded(as: Double.self).map(\.bitPattern) == expected.map { Double($0).bitPattern })
  }

  @Test("fast and plain decoding agree on random bytes", arguments: decodable)
  func fastAgreesWithPlain(_ type: ElementType) {
    var random = SeededGenerator(seed: 7)
    let blockCount = 200
    let elementCount = blockCount * type.elementsPerBlock
    let bytes = (0..<blockCount * type.bitsPerBlock / 8).map { _ in UInt8.random(in: 0...255, using: &random) }
    var fast = [Float](repeating: -1, count: elementCount)
    var plain = [Float](repeating: -2, count: elementCount)
    bytes.withUnsafeBytes { bytes in
      fast.withUnsafeMutableBufferPointer {
        type.decodeWholeBlocks(bytes.baseAddress!, count: blockCount, into: $0.baseAddress!)
      }
      plain.withUnsafeMutableBufferPointer {
        type.decodeWholeBlocksPlainly(bytes.baseAddress!, count: blockCount, into: $0.baseAddress!)
      }
    }
    // Which of several NaNs an addition returns is the processor's choice.
    #expect(fast.map(canonicalBits) == plain.map(canonicalBits))
    #expect(fast.count { $0.isFinite } > elementCount / 2)
  }

  @Test("decodes any range", arguments: decodable)
  func decodesRanges(_ type: ElementType) throws {
    var random = SeededGenerator(seed: 8)
    let count = 4 * type.elementsPerBlock
    let bytes = (0..<4 * type.bitsPerBlock / 8).map { _ in UInt8.random(in: 0...255, using: &random) }
    let directory = try TemporaryDirectory()
    // One byte in front: nothing in a file need be aligned.
    let file = try MappedFile(path: directory.write([0] + bytes, to: "blocks"))
    let tensor = Tensor(info: TensorInfo(name: "x", type: type, shape: [count]), file: file, byteOffset: 1)
    let all = tensor.decoded(as: Float.self)
    let block = type.elementsPerBlock
    for range in [
      0..<0, 0..<1, 1..<2, block - 1..<block + 1, 0..<block, 5..<count, block..<count - 3, 3..<3 * block, count..<count,
    ] {
      var floats = [Float](repeating: 0, count: range.count)
      floats.withUnsafeMutableBufferPointer { tensor.decode(range, into: $0) }
      #expect(floats.map(canonicalBits) == all[range].map(canonicalBits))
      var doubles = [Double](repeating: 0, count: range.count)
      doubles.withUnsafeMutableBufferPointer { tensor.decode(range, into: $0) }
      #expect(doubles.map { canonicalBits(Float($0)) } == all[range].map(canonicalBits))
    }
  }

  /// No reference implementation that we could run knows these two types, so the values are worked out by hand:
  /// d = 0.5; bits 0, 2 and 127 set.
  @Test func decodesQ1_0() throws {
    let bytes: [UInt8] = [0x00, 0x38, 0b101] + [UInt8](repeating: 0, count: 14) + [0x80]
    let values = try decoded(bytes, as: .q1_0)
    #expect(values.indices.filter { values[$0] == 0.5 } == [0, 2, 127])
    #expect(values.count { $0 == -0.5 } == 125)
  }

  /// d = −2; the first byte holds 0, 1, 2, 3 from its low end.
  @Test func decodesQ2_0() throws {
    let values = try decoded([0x00, 0xC0, 0b11_10_01_00] + [UInt8](repeating: 0x55, count: 15), as: .q2_0)
    #expect(values[..<4] == [2, 0, -2, -4])
    #expect(values[4...].allSatisfy { $0 == 0 })
  }

  private func decoded(_ bytes: [UInt8], as type: ElementType) throws -> [Float] {
    let directory = try TemporaryDirectory()
    let file = try MappedFile(path: directory.write(bytes, to: "block"))
    let info = TensorInfo(name: "x", type: type, shape: [type.elementsPerBlock])
    return Tensor(info: info, file: file, byteOffset: 0).decoded()
  }
}

/// The bits of a value; the same for all NaNs.
func canonicalBits(_ value: Float) -> UInt32 { value.isNaN ? 0x7FC0_0000 : value.bitPattern }
