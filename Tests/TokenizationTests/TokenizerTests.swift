import Formats
import TestSupport
import Testing
import Tokenization

@Suite("Tokenizer")
struct TokenizerTests {
  @Test("splits with the tokenizer of GPT-2")
  func gpt2() throws {
    let tokenizer = try Tokenizer(opening: Fixtures.path("found/gpt2-tokenizer"))
    #expect(tokenizer.vocabularySize == 50_257 && tokenizer.endOfText == 50_256)
    #expect(tokenizer.encode("Hello world") == [15_496, 995])
  }
}
