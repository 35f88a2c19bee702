import Foundation
import Testing
import TestSupport

@Suite struct OutputTests {
  private static let width = 100

  @Test(
    "No line of text is wider than a hundred columns",
    arguments: [
      ["inspect", "lnfree"], ["inspect", "vanilla"], ["plan", "lnfree"], ["plan", "lnfree", "--for", "gpt2"],
      ["verify", "lnfree", "lnfree-bf16"], ["verify", "vanilla", "lnfree"], ["--help"],
      ["eval", "--help"], ["calibrate", "--help"], ["diagnose", "--help"], ["generate", "--help"],
    ])
  func width(arguments: [String]) throws {
    let text = try Command.run(arguments, in: Fixtures.path("tiny-2x32")).output
    let lines = text.split(separator: "\n")
    #expect(lines.count > 5)
    #expect(lines.filter { $0.count > Self.width } == [])
    // Nothing for a terminal to obey.
    #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
  }

  @Test("Nor of a conversion, to one target or two, in any type", arguments: ["f32", "bf16"])
  func conversionWidth(type: String) throws {
    let place = try TemporaryDirectory()
    let link = place / "l"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: Fixtures.path("tiny-2x32/lnfree"))
    let result = try Command.run(
      "convert", "l", "out", "--for", "transformers", "gpt2", "--type", type, in: place.path)
    #expect(result.status == 0)
    #expect(result.output.split(separator: "\n").filter { $0.count > Self.width } == [])
    #expect(result.output.contains("to BF16") == (type == "bf16"))
  }

  @Test("The rows of the claims stay columns, however long the target's name", arguments: ["gpt2", "transformer-lens"])
  func claimColumns(target: String) throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(
      "convert", Fixtures.path("tiny-2x32/lnfree"), "out", "--for", target, "--tokenizer", "none", in: place.path)
    let lines = result.output.split(separator: "\n").map(Array.init)
    #expect(lines.filter { $0.count > Self.width } == [])
    let header = try #require(lines.first { String($0).contains("claim") && String($0).contains("limit") })
    let rows = lines.filter { $0.suffix(5) == Array("holds") }
    #expect(rows.count == 4)
    let claim = try #require(header.indices.first { header[$0...].starts(with: "claim") })
    for row in rows {
      #expect(row.count == header.count + " holds".count || row.count == header.count + "  holds".count)
      #expect(row[claim - 1] == " " && row[claim] != " ")
    }
  }

  @Test("With --json standard output holds one document and nothing else")
  func json() throws {
    let place = try TemporaryDirectory()
    let conversion = try Command.run("convert", "lnfree", place / "out", "--for", "gpt2", "--json")
    #expect(conversion.status == 0)
    let report = try conversion.json()
    #expect(report["published"] as? Bool == true)
    #expect((report["outputs"] as? [[String: Any]])?.first?["target"] as? String == "gpt2")
    let verification = try #require(report["verification"] as? [String: Any])
    let claims = try #require((verification["targets"] as? [[String: Any]])?.first)
    #expect(claims["algebraHolds"] as? Bool == true)
    #expect(claims["arithmeticHolds"] as? Bool == true)

    let inspection = try Command.run("inspect", "lnfree", "--json").json()
    #expect(inspection["dialect"] as? String == "published LN-removed form (epsilon 1e+12)")
    #expect((inspection["sites"] as? [[String: Any]])?.count == 5)
    let plan = try Command.run("plan", "lnfree", "--json").json()
    #expect((plan["tensors"] as? [[String: Any]])?.count == 20)
    let difference = try Command.run("verify", "lnfree", "vanilla", "--json")
    #expect(difference.status == 7)
    #expect(try difference.json()["holds"] as? Bool == false)
  }

  @Test("A refusal is a document, too, beside its sentence on standard error")
  func refusalAsJSON() throws {
    let result = try Command.run("inspect", "absent", "--json")
    #expect(result.status == 3)
    let advice = "check the path, or run 'hf download absent' if it is a model of the Hub"
    #expect(result.error == "error: absent: there is no such file or directory; \(advice)\n")
    let error = try #require(try result.json()["error"] as? [String: Any])
    #expect(error["status"] as? Int == 3)
    #expect(error["category"] as? String == "malformed")
    #expect(error["file"] as? String == "absent")
    #expect(error["problem"] as? String == "there is no such file or directory")
    #expect(error["advice"] as? String == advice)
  }

  @Test(
    "Help shows examples, each on a line of its own, and the exit statuses",
    arguments: ["inspect", "plan", "convert", "verify", "eval", "calibrate", "diagnose", "generate", "tokenize"])
  func help(command: String) throws {
    let result = try Command.run(command, "--help")
    #expect(result.status == 0)
    let examples = result.output.split(separator: "\n").drop { $0 != "EXAMPLES" }.dropFirst()
      .prefix { !$0.hasPrefix("USAGE") }
    #expect(examples.contains { $0.hasPrefix("  normfold \(command) gpt2") })
    #expect(examples.allSatisfy { $0.hasPrefix("  normfold ") })
    let general = try Command.run("--help")
    #expect(general.status == 0)
    #expect(general.output.contains("EXIT STATUS"))
    #expect(general.output.contains("7  the logits are not the same"))
    #expect(general.output.contains("EXAMPLES"))
  }

  @Test("A plan takes what its conversion takes of the tokenizer")
  func planTokenizer() throws {
    let place = try TemporaryDirectory()
    try place.write(
      Array(#"{"pre_tokenizer": {"type": "Whitespace"}, "model": {"vocab": {}, "merges": []}}"#.utf8),
      to: "tokenizer.json")
    let refused = try Command.run("plan", "lnfree", "--for", "llama.cpp", "--tokenizer", place.path)
    #expect(refused.status == 4)
    #expect(refused.error.contains("pass --tokenizer none"))
    #expect(try Command.run("plan", "lnfree", "--for", "llama.cpp", "--tokenizer", "none").status == 0)
  }

  @Test("Help on converting names every target")
  func targets() throws {
    let help = try Command.run("convert", "--help").output
    #expect(help.contains("  transformers: the Auto class of the source's head"))
    #expect(help.contains("  gpt2: stock GPT2LMHeadModel"))
  }

  @Test("The version is one line")
  func version() throws {
    let result = try Command.run("--version")
    #expect(result.status == 0)
    #expect(result.output.hasPrefix("normfold ") && result.output.split(separator: "\n").count == 1)
  }

  @Test("A name in a file cannot give a terminal orders")
  func controlCharacters() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors["a\u{1B}[2Jb"] = .init([1], shape: [1])
    }
    let result = try Command.run("inspect", "model", in: altered.directory.path)
    #expect(result.status == 4)
    #expect(!result.error.contains("\u{1B}"))
    #expect(result.error.contains("a\\u{1b}[2Jb"))
  }
}
