import Foundation
import NormFoldFormats
import Testing
import TestSupport

@Suite struct MeasurementTests {
  private static let family = Fixtures.path("shakespeare-4x128")
  private static let text = ["--text", "measured/passage.txt", "--tokenizer", "tokenizer"]

  private func run(_ arguments: String...) throws -> Command.Result {
    try Command.run(arguments, in: Self.family)
  }

  private func measure(_ arguments: String...) throws -> Command.Result {
    try Command.run(arguments + Self.text, in: Self.family)
  }

  @Test("eval says how it cut the text, the loss, and what another model costs")
  func eval() throws {
    let result = try measure("eval", "vanilla", "--compare", "lnfree")
    #expect(result.status == 0)
    #expect(result.error == "")
    #expect(result.output.contains("889 scored tokens in 7 chunks, 6 dropped of measured/passage.txt"))
    #expect(result.output.contains("chunks of 128 tokens, no token prepended, remainder dropped; float32"))
    #expect(result.output.contains("4.20519           4.16396"))
    #expect(result.output.contains("-0.0412"))
    #expect(result.output.split(separator: "\n").filter { $0.count > 100 } == [])
    let document = try measure("eval", "vanilla", "--json", "--precision", "double", "--context", "64").json()
    #expect((document["chunking"] as? [String: Any])?["contextLength"] as? Int == 64)
    #expect((document["loss"] as? [String: Any])?["tokenCount"] as? Int == 14 * 63)
  }

  @Test("calibrate writes what convert takes, and eval says what it costs")
  func calibrate() throws {
    let place = try TemporaryDirectory()
    let file = place / "deviations.json"
    let result = try measure("calibrate", "vanilla", "-o", file)
    #expect(result.status == 0)
    // Where the path is long, the line is broken.
    let words = result.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    #expect(words.contains("Wrote \(file), for --deviations."))
    #expect(result.output.split(separator: "\n").filter { $0.count > 100 + place.path.count } == [])
    #expect(try measure("calibrate", "vanilla", "-o", file).status == 8)
    #expect(try measure("calibrate", "vanilla", "-o", file, "--force", "--json").status == 0)
    let conversion = try run("convert", "vanilla", place / "out", "--for", "gpt2", "--deviations", file)
    #expect(conversion.status == 0)
    let source = try measure("eval", "vanilla", "--deviations", file, "--json", "--compare", "vanilla").json()
    let comparison = try #require(source["comparison"] as? [String: Any])
    #expect(comparison["meanDivergence"] as? Double ?? 0 > 1e-3)
    let converted = try measure("eval", place / "out", "--json").json()
    let losses = [source, converted].map { ($0["loss"] as? [String: Any])?["mean"] as? Double ?? .nan }
    #expect(abs(losses[0] - losses[1]) < 5e-6)
    // One file is not both the deviations and the report.
    let both = try measure("calibrate", "vanilla", "-o", place / "both", "--report", place / "both")
    #expect(both.status == 8)
    #expect(both.error.contains("is the destination of the output"))
    #expect(!FileManager.default.fileExists(atPath: place / "both"))
    // A file that is read is not written over, whatever it is called.
    #expect(
      try run("calibrate", "vanilla", "--tokens", file, "-o", file, "--force").status == 8)
  }

  @Test("diagnose has every head, and tables of a hundred columns")
  func diagnose() throws {
    let result = try measure("diagnose", "vanilla")
    #expect(result.status == 0)
    #expect(result.output.contains("0 of 4"))
    #expect(result.output.split(separator: "\n").filter { $0.count > 100 } == [])
    let document = try measure("diagnose", "vanilla", "--json").json()
    #expect(((document["attention"] as? [String: Any])?["entropy"] as? [[Double]])?.count == 4)
  }

  @Test("generate prints the prompt and what follows; without a tokenizer, ids")
  func generate() throws {
    let text = try run(
      "generate", "lnfree", "--prompt", "To be, or not to be", "--tokenizer", "tokenizer", "-n", "30")
    #expect(text.status == 0)
    #expect(text.output.hasPrefix("To be, or not to be"))
    let ids = try run("generate", "lnfree", "--prompt-tokens", "41,467, 259", "-n", "5", "--ignore-eot")
    #expect(ids.output.split(separator: " ").compactMap { Int($0) }.count == 5)
    let sampled = ["generate", "lnfree", "--prompt-tokens", "41", "--temperature", "1.2", "--top-k", "50", "--seed"]
    #expect(
      try Command.run(sampled + ["3"], in: Self.family).output == Command.run(sampled + ["3"], in: Self.family).output)
    #expect(
      try Command.run(sampled + ["3"], in: Self.family).output != Command.run(sampled + ["4"], in: Self.family).output)
    let document = try run("generate", "lnfree", "--prompt-tokens", "41", "-n", "200", "--ignore-eot", "--json")
      .json()
    #expect(document["end"] as? String == "context")
    #expect((document["tokens"] as? [Int])?.count == 127)
  }

  @Test("generate prints nothing of a prompt that it cannot read, and ends at any token that ends a text")
  func generateRefusals() throws {
    let result = try run("generate", "lnfree", "--prompt", "hello", "--tokenizer", "none")
    #expect(result.status == 2)
    #expect(result.output == "")
    let long = try run("generate", "lnfree", "--prompt-tokens", "41", "-n", "3", "--ignore-eot", "--json").json()
    let tokens = try #require(long["tokens"] as? [Int])
    let altered = try AlteredCheckpoint(of: "shakespeare-4x128/lnfree") {
      $0.config["eos_token_id"] = .array([.number(0), .number(tokens[1])])
    }
    let short = try Command.run(
      ["generate", "model", "--prompt-tokens", "41", "-n", "3", "--json"], in: altered.directory.path
    ).json()
    #expect(short["end"] as? String == "end of text")
    #expect(short["tokens"] as? [Int] == (tokens[0] == tokens[1] ? [] : [tokens[0]]))
  }

  @Test("A text is a probe of verify and convert")
  func probes() throws {
    let verification = try measure("verify", "lnfree", "fakeln", "--json")
    #expect(verification.status == 0)
    #expect((try verification.json()["probes"] as? [String])?.contains("text (128)") == true)
    let place = try TemporaryDirectory()
    let result = try measure(
      "convert", "lnfree", place / "out", "--for", "gpt2", "--probe-length", "40", "--probe-count", "2")
    #expect(result.status == 0)
    #expect(result.output.contains("text (40), text 2 (40)"))
    let refused = try run(
      "convert", "lnfree", place / "other", "--for", "gpt2", "--text", "measured/passage.txt")
    #expect(refused.status == 2)
  }

  @Test(
    "Arguments that contradict each other",
    arguments: [
      ["eval", "vanilla"], ["eval", "vanilla", "--text", "a", "--tokens", "b"], ["generate", "vanilla"],
      ["eval", "vanilla", "--tokens", "b", "--limit", "0"],
      ["generate", "vanilla", "--prompt", "a", "--prompt-tokens", "1"],
      ["generate", "vanilla", "--prompt-tokens", "1", "--greedy", "--seed", "1"],
      ["generate", "vanilla", "--prompt-tokens", "1", "--tokens", "measured/tokens.txt"],
      ["generate", "vanilla", "--prompt-tokens", "x"], ["generate", "vanilla", "--prompt-tokens", "1", "--top-p", "2"],
      ["generate", "vanilla", "--prompt-tokens", "1", "--temperature", "0"],
      ["diagnose", "vanilla", "--tokens", "measured/measured.json", "--context", "129"],
    ])
  func contradictions(_ arguments: [String]) throws {
    #expect(try Command.run(arguments, in: Self.family).status == 2)
  }
}
