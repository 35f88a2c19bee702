import Foundation
import NormFoldFormats
import NormFoldTargets
import Testing
import TestSupport

@testable import NormFoldCommand

/// In the order in which the command lists them.
private let knownTargets = Targets.all.map(\.name).joined(separator: ", ")

@Suite struct ExitStatusTests {
  private static let refusals: [(arguments: [String], status: Int32, message: String)] = [
    (["lnfree", "OUT", "--for", "tensorrt"], 2, "'tensorrt': there is no such target; known are \(knownTargets)"),
    (
      ["lnfree", "OUT", "--for", "gpt2", "--type", "f8"], 2,
      "'f8': is not a type that can be written; known are f16, bf16, f32, q4_0, q4_1, q5_0, q5_1, q8_0"
    ),
    (
      ["lnfree", "OUT", "--for", "gpt2", "--type", "fp16"], 2,
      "'fp16': is not a type that can be written; did you mean f16? known are f16, bf16, f32, q4_0, q4_1, q5_0, q5_1, q8_0"
    ),
    (
      ["lnfree", "OUT", "--for", "llama.cpp", "--type", "Q4_K_M"], 2,
      "'Q4_K_M': is not a type that can be written; known are f16, bf16, f32, q4_0, q4_1, q5_0, q5_1, q8_0; for others of "
        + "llama.cpp write f16, which its own quantiser takes: normfold convert SOURCE OUT --for llama.cpp --type f16, then "
        + "llama-quantize OUT/model.gguf OUT/model-q4_k_m.gguf Q4_K_M"
    ),
    (
      ["lnfree", "OUT", "--for", "tranformers"], 2,
      "'tranformers': there is no such target; did you mean transformers? known are \(knownTargets)"
    ),
    (
      ["lnfree", "OUT", "--for", "vLLM"], 2,
      "'vLLM': there is no such target, but one that serves it; use --for gpt2; known are \(knownTargets)"
    ),
    (
      ["lnfree", "OUT", "--for", "gpt2,onnx"], 2,
      "'onnx': there is no such target, but one that serves it; use --for onnxruntime; known are \(knownTargets)"
    ),
    (
      ["lnfree", "OUT.gguf", "--for", "llama.cpp"], 2,
      "OUT.gguf: is named like a file, and a directory would appear, with the weights and what belongs to them; name a "
        + "directory, as in 'OUT'"
    ),
    (
      ["absent", "OUT", "--for", "gpt2"], 3,
      "absent: there is no such file or directory; check the path, or run 'hf download absent' if it is a model of the Hub"
    ),
    (
      ["tokenizer", "OUT", "--for", "gpt2"], 3,
      "tokenizer: holds no checkpoint; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
        + "pytorch_model.bin.index.json, ckpt.pt, model.pt, model.gguf, or one .gguf file"
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
      ["lnfree", "lnfree/config.json/deeper", "--for", "gpt2"], 8,
      "lnfree/config.json/deeper: 'lnfree/config.json' is not a directory; choose another destination"
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
        == "error: model/model.safetensors, 'transformer.wpe.weight': element 3 is nan; the training run that wrote it may have diverged\n"
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

  @Test(
    "Names of targets in any case, with anything between their words",
    arguments: [
      ["TransformerLens"], ["llama_cpp"], ["LLAMACPP"], ["Onnx-Runtime"], ["gpt2,transformers"],
      ["gpt2", "GPT2", "transformers"],
    ])
  func targetNames(_ names: [String]) throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(
      ["convert", "lnfree", place / "out", "--for"] + names, in: Fixtures.path("tiny-2x32"))
    #expect(result.status == 0)
    #expect(result.error == "")
  }

  @Test(
    "Arguments in another program's order are told apart from a misspelling",
    arguments: [
      (
        ["convert", "--for", "gpt2", "lnfree", "out"],
        "Error: Missing expected argument '<source>'. Paths come before --for, which takes everything up to the next option."
      ),
      (
        ["convert", "lnfree", "--out", "there", "--for", "gpt2"],
        "Error: There is no option --out: the destination is the second path, behind the source."
      ),
      (
        ["convert", "lnfree", "--outfile=there", "--for", "gpt2"],
        "Error: There is no option --outfile: the destination is the second path, behind the source."
      ),
      (
        ["convert", "lnfree", "out", "--for", "gpt2", "--tpye", "f32"],
        "Error: Unknown option '--tpye'. Did you mean '--type'?"
      ),
    ])
  func order(arguments: [String], message: String) throws {
    let place = try TemporaryDirectory()
    let result = try Command.run(arguments, in: place.path)
    #expect(result.status == 2)
    #expect(result.error.hasPrefix(message + "\n"))
  }

  @Test("A candidate that gives no numbers ends with 6, and nothing is printed of it")
  func candidateWithoutNumbers() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.wte.weight") { entry in for index in 0..<512 * 32 { entry[index] = .infinity } }
    }
    let result = try Command.run("verify", Fixtures.path("tiny-2x32/lnfree"), "model", in: altered.directory.path)
    #expect(result.status == 6)
    #expect(result.output == "")
    #expect(result.error.hasPrefix("error: model: its logits are NaN or infinite on every token on which those of "))
  }

  @Test("A candidate that gives no numbers on some tokens is another network, and no NaN is printed as a share")
  func candidateWithoutSomeNumbers() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.wpe.weight") { $0[60 * 32] = .infinity }
    }
    let result = try Command.run("verify", Fixtures.path("tiny-2x32/lnfree"), "model", in: altered.directory.path)
    #expect(result.status == 7)
    #expect(result.output.contains("The candidate's logits are NaN or infinite on "))
    #expect(!result.output.contains("nan"))
  }

  @Test("F16 in the published form ends with 6 in every command", arguments: ["inspect", "plan", "convert", "verify"])
  func narrow(_ command: String) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { content in
      content.tensors["transformer.h.0.ln_1.weight"] = .init(
        [Double](repeating: 6.5e6, count: 32), shape: [32], type: .f16)
    }
    let more = ["convert": ["out", "--for", "gpt2"], "verify": ["model"]][command] ?? []
    let result = try Command.run([command, "model"] + more, in: altered.directory.path)
    #expect(result.status == 6)
    #expect(result.output == "")
    #expect(
      result.error
        == "error: model/model.safetensors, 'transformer.h.0.ln_1.weight': element 0 is inf, and F16 ends at 65504; if the "
        + "number was larger before it was saved so, save the checkpoint in F32 or BF16\n")
  }

  @Test("inspect says what wrappers had put into the names")
  func wrappers() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { content in
      for name in content.tensors.names { content.tensors.rename(name, to: "module._orig_mod." + name) }
    }
    let result = try Command.run("inspect", "model", in: altered.directory.path)
    #expect(result.output.contains("\nNames are read without '_orig_mod.' and 'module.'.\n"))
    let document = try Command.run("inspect", "model", "--json", in: altered.directory.path).json()
    #expect(document["wrappers"] as? [String] == ["_orig_mod.", "module."])
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
