import Foundation
import NormFoldFormats
import Testing
import TestSupport

/// Home-made networks at the command line.
@Suite struct LayoutTests {
  private let directory = Fixtures.path("layouts")

  @Test("A draft goes to standard output or to a new file, and what is open in it to standard error")
  func draft() throws {
    let place = try TemporaryDirectory()
    let printed = try Command.run("inspect", "flat.pt", "--draft-layout", in: directory)
    #expect(printed.status == 0)
    #expect(try printed.json()["positions"] as? String == "learned")
    #expect(
      printed.error.contains(
        "to be filled in: heads, activation, epsilon and attentionScale; look at what is not marked"))
    let written = try Command.run("inspect", "flat.pt", "--draft-layout", place / "layout.json", in: directory)
    #expect(written.status == 0 && written.output.isEmpty)
    let text = try String(contentsOfFile: place / "layout.json", encoding: .utf8)
    #expect(text == printed.output)
    let again = try Command.run("inspect", "flat.pt", "--draft-layout", place / "layout.json", in: directory)
    #expect(again.status == 8 && again.error.contains("cannot be created: File exists"))
    #expect(try String(contentsOfFile: place / "layout.json", encoding: .utf8) == text)
  }

  @Test("A draft is JSON already, is made without a layout, and a second checkpoint is none")
  func contradictions() throws {
    for arguments in [
      ["--draft-layout", "--json"], ["--draft-layout", "--layout", "flat.json"], ["fused.safetensors"],
    ] {
      #expect(try Command.run(["inspect", "flat.pt"] + arguments, in: directory).status == 2)
    }
  }

  @Test("Text comes out of a network that a layout describes, and without one the advice names the option")
  func generate() throws {
    let text = try Command.run(
      "generate", "flat.pt", "--layout", "flat.json", "--prompt-tokens", "3,4,5", "-n", "4", in: directory)
    #expect(text.status == 0 && text.output.split(whereSeparator: \.isWhitespace).count == 4)
    let refused = try Command.run("inspect", "flat.pt", in: directory)
    #expect(refused.status == 3)
    #expect(refused.error.contains("of a network that has none --layout says what they are"))
  }
}
