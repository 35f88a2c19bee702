import Foundation
import Testing
import TestSupport

@Suite struct ReportOptionTests {
  @Test("A conversion writes its report beside its output, and says where")
  func conversion() throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(
      "convert", "lnfree", place / "out", "--for", "gpt2", "--report", place / "report.html")
    #expect(result.status == 0)
    #expect(result.output.hasSuffix("\n\n  Report: \(place.path)/report.html\n"))
    #expect(result.error == "")
    let page = try String(contentsOfFile: place / "report.html", encoding: .utf8)
    #expect(page.hasPrefix("<!DOCTYPE html>\n<html"))
    #expect(page.hasSuffix("</html>\n"))
    #expect(try content(ofDirectory: place.path).keys.filter { $0.hasPrefix(".") } == [])
  }

  @Test("Standard output holds one JSON document with --report, too")
  func json() throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(
      "convert", "lnfree", place / "out", "--for", "gpt2", "--json", "--report", place / "report.html")
    let document = try result.json()
    #expect(document["published"] as? Bool == true)
    // The page has the command, the machine and the same document.
    let page = try String(contentsOfFile: place / "report.html", encoding: .utf8)
    let run = try #require(document["run"] as? [String: Any])
    let machine = try #require(run["machine"] as? [String: Any])
    #expect(page.contains("normfold convert lnfree \(place / "out") --for gpt2 --json --report"))
    #expect(page.contains(try #require(machine["system"] as? String)))
    let start = try #require(page.range(of: "<pre")?.upperBound)
    let end = try #require(page.range(of: "</pre>")?.lowerBound)
    let listing = page[start..<end].drop { $0 != "{" }.replacing(/<[^>]*>/, with: "").replacing("&quot;", with: "\"")
      .replacing("&lt;", with: "<").replacing("&gt;", with: ">").replacing("&amp;", with: "&")
    let shown = try #require(try JSONSerialization.jsonObject(with: Data(listing.utf8)) as? [String: Any])
    #expect(Set(shown.keys) == Set(document.keys))
    #expect(shown["options"] as? NSDictionary == document["options"] as? NSDictionary)
  }

  @Test("A verification that fails writes its report, and still ends with 7")
  func failure() throws {
    let place = try TemporaryDirectory()
    let result = try Command.run("verify", "lnfree", "vanilla", "--report", place / "report.html")
    #expect(result.status == 7)
    #expect(try String(contentsOfFile: place / "report.html", encoding: .utf8).contains("Not the same network."))
  }

  @Test(
    "Where the report cannot go is known before anything is done",
    arguments: [
      ("taken.html", [], "taken.html: exists already"), ("weights", ["--force"], "that begins with <!DOCTYPE html>"),
      ("weights/report.html", [], "'weights' is not a directory"),
      ("out", [], "is the destination of the output"),
      ("out/report.html", [], "lies in the destination of the output, which is replaced as a whole"),
      ("folder", ["--force"], "expected a file or nothing, found a directory"),
    ])
  func refusal(name: String, flags: [String], message: String) throws {
    let place = try TemporaryDirectory()
    try place.write(Array("<!DOCTYPE html>".utf8), to: "taken.html")
    try place.write([1, 2, 3], to: "weights")
    try FileManager.default.createDirectory(atPath: place / "folder", withIntermediateDirectories: false)
    try FileManager.default.createSymbolicLink(
      atPath: place / "lnfree", withDestinationPath: Fixtures.path("tiny-2x32/lnfree"))
    let before = try content(ofDirectory: place.path)
    let result = try Command.run(
      ["convert", "lnfree", "out", "--for", "gpt2", "--report", name] + flags, in: place.path)
    #expect(result.status == 8)
    #expect(result.error.contains(message))
    #expect(try content(ofDirectory: place.path) == before)
  }

  @Test("With --force the page of the run before is replaced")
  func force() throws {
    let place = try TemporaryDirectory()
    for arguments in [["lnfree", "lnfree-bf16"], ["lnfree", "lnfree-sharded"]] {
      let result = try Command.run(
        "verify", arguments[0], arguments[1], "--report", place / "report.html", "--force")
      #expect(result.output.contains("Report: "))
      #expect(try String(contentsOfFile: place / "report.html", encoding: .utf8).contains("\(arguments[1])</code>"))
    }
    #expect(try content(ofDirectory: place.path).count == 1)
  }

  @Test("A name that would be markup, or would turn the line, stays a name")
  func hostileName() throws {
    let place = try TemporaryDirectory()
    let name = "<script>alert('1')<\u{2044}script> \"\u{202E}\u{1B}[31m&"
    try FileManager.default.createSymbolicLink(
      atPath: place / name, withDestinationPath: Fixtures.path("tiny-2x32/lnfree"))
    let result = try Command.run(
      "convert", name, "out", "--for", "gpt2", "--report", "report.html", in: place.path)
    #expect(result.status == 0)
    let page = try String(contentsOfFile: place / "report.html", encoding: .utf8)
    #expect(!page.contains("<script"))
    #expect(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;\u{2044}script&gt; &quot;\\u{202e}\\u{1b}[31m&amp;"))
    #expect(!page.unicodeScalars.contains { $0 == "\u{202E}" || $0 == "\u{1B}" })
  }
}
