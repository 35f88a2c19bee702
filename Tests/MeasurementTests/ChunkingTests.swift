import NormFoldFormats
import NormFoldMeasurement
import Testing

@Suite struct ChunkingTests {
  private func chunking(_ change: (inout Chunking.Options) -> Void = { _ in }) throws -> Chunking {
    var options = Chunking.Options()
    options.contextLength = 4
    change(&options)
    return try Chunking(options, longest: 8)
  }

  private let text = Array(10..<21)

  @Test("By default whole chunks without overlap, of which all tokens but the first are scored")
  func papers() throws {
    let (chunks, dropped) = try chunking().chunks(of: text, endOfText: 0)
    #expect(chunks.map(\.tokens) == [[10, 11, 12, 13], [14, 15, 16, 17]])
    #expect(chunks.map(\.firstScored) == [1, 1])
    #expect(dropped == 3)
  }

  @Test("The context is the model's where no one says otherwise")
  func context() throws {
    #expect(try Chunking(.init(), longest: 8).contextLength == 8)
  }

  @Test("A kept remainder is a shorter chunk, unless nothing of it can be scored")
  func remainder() throws {
    let (chunks, dropped) = try chunking { $0.keepsRemainder = true }.chunks(of: text, endOfText: nil)
    #expect(chunks.last?.tokens == [18, 19, 20])
    #expect(dropped == 0)
    let one = try chunking { $0.keepsRemainder = true }.chunks(of: Array(text[..<9]), endOfText: nil)
    #expect(one.chunks.count == 2)
    #expect(one.droppedCount == 1)
  }

  @Test("Behind a prepended token the first token of each chunk is scored, too")
  func prepended() throws {
    let (chunks, dropped) = try chunking { $0.prependsEndOfText = true }.chunks(of: text, endOfText: 0)
    #expect(chunks.map(\.tokens) == [[0, 10, 11, 12], [0, 13, 14, 15], [0, 16, 17, 18]])
    #expect(chunks.map(\.firstScored) == [1, 1, 1])
    #expect(dropped == 2)
  }

  @Test("Overlapping chunks score each token once", arguments: [1, 2, 3])
  func stride(_ stride: Int) throws {
    let (chunks, dropped) = try chunking { $0.stride = stride }.chunks(of: text, endOfText: nil)
    let scored = chunks.flatMap { $0.tokens[$0.firstScored...] }
    #expect(scored == Array(text[1..<text.count - dropped]))
    #expect(dropped < stride)
  }

  @Test("What cannot be cut is refused")
  func refusals() throws {
    #expect(throws: Refusal.self) { try chunking { $0.contextLength = 9 } }
    #expect(throws: Refusal.self) { try chunking { $0.contextLength = 1 } }
    #expect(throws: Refusal.self) { try chunking { $0.stride = 0 } }
    #expect(throws: Refusal.self) { try chunking { $0.stride = 5 } }
    #expect(throws: Refusal.self) { try chunking().chunks(of: [1, 2, 3], endOfText: nil) }
    #expect(throws: Refusal.self) { try chunking().chunks(of: [], endOfText: nil) }
    #expect(throws: Refusal.self) { try chunking { $0.prependsEndOfText = true }.chunks(of: text, endOfText: nil) }
  }
}
