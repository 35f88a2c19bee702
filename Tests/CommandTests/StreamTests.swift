import Foundation
import NormFoldFormats
import Testing
import TestSupport

@Suite("Standard streams, and the documents on them")
struct StreamTests {
  private static let family = Fixtures.path("shakespeare-4x128")

  @Test("- is standard input, for texts, ids and prompts")
  func standardInput() throws {
    let text = "To be, or not to be\n"
    func run(_ arguments: String..., input: String? = nil) throws -> Command.Result {
      try Command.run(arguments, in: Self.family, input: input)
    }
    let ids = try run("tokenize", "tokenizer", text)
    #expect(ids.status == 0)
    #expect(try run("tokenize", "tokenizer", "-", input: text).output == ids.output)
    #expect(try run("tokenize", "tokenizer", "--text", "-", input: text).output == ids.output)
    #expect(try run("tokenize", "tokenizer", "-", "--decode", input: ids.output).output == text)
    let prompt = ["generate", "lnfree", "--tokenizer", "tokenizer", "-n", "5"]
    let expected = try Command.run(prompt + ["--prompt", "To be, or not to be"], in: Self.family)
    #expect(try Command.run(prompt + ["--prompt", "-"], in: Self.family, input: text).output == expected.output)
    let numbers = try Command.run(prompt + ["--tokens", "-", "--json"], in: Self.family, input: "41 467\n259").json()
    #expect(numbers["promptTokens"] as? [Int] == [41, 467, 259])
    let passage = try String(contentsOfFile: Self.family + "/measured/passage.txt", encoding: .utf8)
    let evaluated = try run("eval", "lnfree", "--text", "-", "--tokenizer", "tokenizer", "--json", input: passage)
      .json()
    let direct = try run("eval", "lnfree", "--text", "measured/passage.txt", "--tokenizer", "tokenizer", "--json")
      .json()
    #expect((evaluated["loss"] as? NSDictionary) == (direct["loss"] as? NSDictionary))
  }

  @Test("A number behind generate's --tokens is answered with the name that it wants")
  func tokenCount() throws {
    let result = try Command.run("generate", "lnfree", "--prompt-tokens", "41", "--tokens", "20")
    #expect(result.status == 2)
    #expect(result.error.contains("--tokens is a file of ids; how many to add at most is --max-tokens 20, or -n 20"))
  }

  @Test("--quiet leaves the verdict")
  func quiet() throws {
    let place = try TemporaryDirectory()
    let conversion = try Command.run("convert", "lnfree", place / "out", "--for", "gpt2", "--quiet")
    #expect(conversion.status == 0)
    // A long path makes a line of its own.
    #expect(
      conversion.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        == "\(place / "out"): every claim holds.")
    #expect(
      try Command.run("verify", "lnfree", place / "out", "--quiet").output == "The same network, for every input.\n")
    #expect(try Command.run("verify", "lnfree", "vanilla", "-q").output == "NOT the same network.\n")
  }

  @Test("A document says what run printed it, and what it was told", arguments: DigestAlgorithm.allCases)
  func record(algorithm: DigestAlgorithm) throws {
    let place = try TemporaryDirectory()
    let document = try Command.run(
      "convert", "lnfree", place / "out", "--for", "gpt2", "--seed", "7", "--digest", algorithm.rawValue, "--json"
    ).json()
    #expect(document["schemaVersion"] as? Int == 1)
    let run = try #require(document["run"] as? [String: Any])
    #expect(
      run["arguments"] as? [String] == [
        "convert", "lnfree", place / "out", "--for", "gpt2", "--seed", "7", "--digest", algorithm.rawValue, "--json",
      ])
    let date = try Date(#require(run["date"] as? String), strategy: .iso8601)
    #expect(abs(date.timeIntervalSinceNow) < 3600)
    let options = try #require(document["options"] as? [String: Any])
    #expect((options["probeOptions"] as? [String: Any])?["seed"] as? Int == 7)
    #expect(options["type"] as? String == "f32")
    let output = try #require((document["outputs"] as? [[String: Any]])?.first)
    let files = try #require(output["files"] as? [[String: Any]])
    #expect(files.count >= 3)
    for file in files {
      let name = try #require(file["name"] as? String)
      let written = try MappedFile(path: place / "out/\(name)")
      #expect(file["digest"] as? String == algorithm.digest(of: written, workers: .one), "\(name)")
      #expect(file["byteCount"] as? Int == written.byteCount)
    }
  }

  @Test("Progress is told in lines to a program that asks")
  func progressLines() throws {
    let place = try TemporaryDirectory()
    let result = try Command.run("convert", "lnfree", place / "out", "--for", "gpt2", "--progress-lines")
    let stages = try result.error.split(separator: "\n").map { line in
      let document = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: [String: Any]]
      return try #require(document?["progress"]?["stage"] as? String)
    }
    #expect(Set(stages) == ["writing", "verifying"])
  }
}
