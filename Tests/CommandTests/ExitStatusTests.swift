import Formats
import Foundation
import Targets
import TestSupport
import Testing

@testable import NormFoldCommand

/// In the order in which the command lists them.
private let knownTargets = Targets.all.map(\.name).joined(separator: ", ")

@Suite struct ExitStatusTests {
  private static let refusals: [(arguments: [String], status: Int32, message: String)] = [
    (["lnfree", "OUT", "--for", "tensorrt"], 2, "'tensorrt': there is no such target; known are \(knownTargets)"),
    (
      ["lnfree", "OUT", "--for", "gpt2", "--type", "f8"], 2,
      "'f8': is not a type that can be written; known are f16, bf16, f32, f64, q4_0, q4_1, q5_0, q5_1, q8_0"
    ),
    (["absent", "OUT", "--for", "gpt2"], 3, "absent: there is no such file or directory; check the path"),
    (
      ["tokenizer", "OUT", "--for", "gpt2"], 3,
      "tokenizer: holds no checkpoint; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
        + "pytorch_model.bin.index.json, ckpt.pt, model.gguf, or one .gguf file"
    ),
    (
      ["lnfree", "OUT", "--for", "gpt2", "--type", "f16"], 4,
      "'gpt2': cannot be stored as F16; it takes F32, BF16"
    ),
    (
      ["vanilla", "OUT", "--for", "gpt2"], 5,
      "this is an ordinary GPT-2: the deviations of all its norms are computed, so none is a linear map; "
        + "remove its LayerNorms by fine-tuning first (arXiv 2409.13710), give fixed deviations with --deviations, or keep the norms in another form with --to-norm"
    ),
    (
      ["lnfree", "OUT/deeper", "--for", "gpt2"], 8,
      "OUT/deeper: the directory 'OUT' does not exist; create it first"
    ),
  ]

  @Test(
    "Each kind of refusal has a status of its own",
    arguments: [
      (Refusal.Category.usage, Int32(2)), (.malformed, 3), (.unsupported, 4), (.notFoldable, 5), (.nonFinite, 6),
      (.mismatch, 7),
      (.output, 8), (.interrupted, 9),
    ])
  func mapping(category: Refusal.Category, status: Int32) { #expect(ExitStatus(category).rawValue == status) }

  @Test("A conversion that succeeds ends with 0, says what it did, and nothing on standard error")
  func success() throws {
    let place = try TemporaryDirectory()
    let result = try Command.run("convert", "lnfree", place / "out", "--for", "transformers")
    #expect(result.status == 0)
    #expect(result.error == "")
    #expect(result.output.hasPrefix("lnfree: published LN-removed form (epsilon 1e+12)\n"))
    #expect(result.output.contains("folded weights compute the source's logits (float64)"))
    #expect(result.output.contains("Wrote \(place.path)/out for transformers"))
    #expect(try content(ofDirectory: place.path)["out/model.safetensors"] != nil)
    #expect(try Command.run("verify", "lnfree", place / "out").status == 0)
    #expect(try Command.run("inspect", place / "out").output.contains("No norms."))
  }

  @Test(
    "A refusal ends with its status, one sentence on standard error, nothing else, and leaves nothing",
    arguments: refusals)
  func refusal(arguments: [String], status: Int32, message: String) throws {
    let place = try TemporaryDirectory()
    let given = ["convert"] + arguments.map { $0.replacing("OUT", with: place / "out") }
    let result = try Command.run(given, in: Fixtures.path("tiny-2x32"))
    #expect(result.status == status)
    #expect(result.error.replacing(place / "out", with: "OUT") == "error: \(message)\n")
    #expect(result.output.isEmpty)
    #expect(try content(ofDirectory: place.path).isEmpty)
  }

  @Test("NaN in a weight ends with 6")
  func nonFinite() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.wpe.weight") { $0[3] = .nan }
    }
    let result = try Command.run("convert", "model", "out", "--for", "gpt2", in: altered.directory.path)
    #expect(result.status == 6)
    #expect(
      result.error
        == "error: model/model.safetensors, 'transformer.wpe.weight': element 3 is nan; the training run that wrote it diverged\n"
    )
  }

  @Test("Networks that differ end with 7, and the table is shown all the same")
  func mismatch() throws {
    let result = try Command.run("verify", "lnfree", "vanilla")
    #expect(result.status == 7)
    #expect(result.output.hasSuffix("\n\nNOT the same network.\n"))
    #expect(result.error == "")
  }

  @Test("A source that overflows on every token ends with 6, not with a mismatch, and writes nothing")
  func overflow() throws {
    // Products of queries and keys that a Double holds and a Float does not.
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.wte.weight") { entry in for index in 0..<512 * 32 { entry[index] *= 1e22 } }
    }
    let result = try Command.run("convert", "model", "out", "--for", "transformers", in: altered.directory.path)
    #expect(result.status == 6)
    #expect(
      result.error
        == "error: the logits of the source are themselves NaN or infinite on every probe, in double or single precision, "
        + "so there is nothing to hold another network against; check the weights\n")
    #expect(result.output == "")
    #expect(try FileManager.default.contentsOfDirectory(atPath: altered.directory.path) == ["model"])
  }

  @Test("An existing destination ends with 8; --force replaces it")
  func exists() throws {
    let place = try TemporaryDirectory()
    #expect(try Command.run("convert", "lnfree", place / "out", "--for", "gpt2").status == 0)
    let before = try content(ofDirectory: place.path)
    let refused = try Command.run("convert", "lnfree-bf16", place / "out", "--for", "gpt2")
    #expect(refused.status == 8)
    #expect(try content(ofDirectory: place.path) == before)
    #expect(try Command.run("convert", "lnfree-bf16", place / "out", "--for", "gpt2", "--force").status == 0)
    #expect(try content(ofDirectory: place.path) != before)
  }

  @Test(
    "Wrong arguments end with 2 and the usage on standard error",
    arguments: [
      ["nonsense"], ["convert"], ["convert", "lnfree"], ["convert", "lnfree", "out"], ["inspect"],
      ["verify", "lnfree"],
      ["convert", "lnfree", "out", "--for", "gpt2", "--tpye", "f32"],
      ["verify", "lnfree", "lnfree", "--probe-length", "0"],
      ["verify", "lnfree", "lnfree", "--seed", "-1"], ["inspect", "lnfree", "--head", "maybe"],
    ])
  func usage(arguments: [String]) throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(arguments, in: place.path)
    #expect(result.status == 2)
    #expect(result.error.hasPrefix("Error: "))
    #expect(result.error.contains("Usage: normfold"))
    #expect(result.output.isEmpty)
  }
}
