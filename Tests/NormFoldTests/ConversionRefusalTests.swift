import Foundation
import NormFold
import NormFoldFormats
import NormFoldTargets
import Testing
import TestSupport

@Suite struct ConversionRefusalTests {
  private static let source = Fixtures.path("tiny-2x32/lnfree")
  private static let diverged = "the training run that wrote it may have diverged"

  // MARK: Arguments

  @Test("An unknown target is refused with those that there are")
  func unknownTarget() throws {
    let place = try Workplace()
    let refusal = try place.refusal(Self.source, to: ["transformers", "tensorrt"])
    let known = Targets.all.map(\.name).joined(separator: ", ")
    #expect(refusal?.description == "'tensorrt': there is no such target; known are \(known)")
    #expect(refusal?.category == .usage)
  }

  @Test("No target is refused")
  func noTarget() throws {
    let refusal = try Workplace().refusal(Self.source, to: [])
    #expect(refusal?.description == "no target is named; say what the output is for: targets = transformers")
    #expect(refusal?.category == .usage)
  }

  @Test(
    "A type that the target cannot hold is refused",
    arguments: [
      ("gpt2", ElementType.f16, "F16", "F32, BF16"), ("gpt2", .q8_0, "Q8_0", "F32, BF16"),
      ("transformers", .q4_0, "Q4_0", "F32, BF16, F16"), ("transformers", .f64, "F64", "F32, BF16, F16"),
    ])
  func type(target: String, type: ElementType, name: String, known: String) throws {
    let refusal = try Workplace().refusal(Self.source, to: [target]) { $0.type = type }
    #expect(
      refusal?.description
        == "'\(target)': cannot be stored as \(name); it takes \(known)")
    #expect(refusal?.category == .unsupported)
  }

  // MARK: The destination

  @Test("An existing destination is refused")
  func exists() throws {
    let place = try Workplace()
    try place.convert(Self.source)
    let refusal = try place.refusal(Self.source)
    #expect(
      place.short(refusal) == "out: exists already; choose another destination, or replace it with replacesDestination")
    #expect(refusal?.category == .output)
  }

  @Test("A file in the place of the destination is refused, even with --force")
  func isFile() throws {
    let place = try Workplace()
    try place.directory.write([1], to: "out")
    let refusal = try place.refusal(Self.source) { $0.replacesDestination = true }
    #expect(place.short(refusal) == "out: expected a directory or nothing, found a file; choose another destination")
  }

  @Test("A destination in a directory that is not there brings it along; a refusal leaves neither")
  func noParent() throws {
    let place = try Workplace()
    let report = try place.convert(Self.source) { $0.destination = place.output + "/deeper/still" }
    #expect(report.published)
    #expect(FileManager.default.fileExists(atPath: place.output + "/deeper/still/config.json"))
    let other = try Workplace()
    let refusal = try other.refusal(Self.source, to: ["gpt2"]) {
      $0.destination = other.output + "/deeper"
      $0.readingOptions.tokenizer = .directory(other.directory.path)
    }
    #expect(refusal?.problem == "holds neither tokenizer.json nor tokenizer.model nor vocab.json and merges.txt")
  }

  @Test("A directory of other things is not replaced")
  func foreign() throws {
    let place = try Workplace()
    try FileManager.default.createDirectory(atPath: place.output, withIntermediateDirectories: true)
    try place.directory.write([1], to: "out/thesis.tex")
    let refusal = try place.refusal(Self.source) { $0.replacesDestination = true }
    #expect(
      place.short(refusal)
        == "out, 'thesis.tex': expected a model directory to replace, found this file and no config.json, .safetensors, "
        + ".gguf or .onnx; remove it yourself, or choose another destination")
  }

  @Test("The output never replaces its own input, under whatever name", arguments: ["itself", "hard link", "link"])
  func overInput(_ how: String) throws {
    let place = try Workplace()
    let files = FileManager.default
    try files.createDirectory(atPath: place.output, withIntermediateDirectories: true)
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") { _ in }
    let (input, output) = (altered.path + "/model.safetensors", place.output + "/model.safetensors")
    switch how {
    case "hard link": try files.linkItem(atPath: input, toPath: output)
    case "link": try files.createSymbolicLink(atPath: output, withDestinationPath: input)
    default:
      try files.copyItem(atPath: input, toPath: output)
      try files.copyItem(atPath: altered.path + "/config.json", toPath: place.output + "/config.json")
    }
    let source = how == "itself" ? place.output : altered.path
    let refusal = try place.refusal(source) { $0.replacesDestination = true }
    #expect(
      place.short(refusal)
        == "out/model.safetensors: is a file of the input, and would be replaced; choose another destination")
    #expect(refusal?.category == .output)
  }

  // MARK: The numbers

  @Test(
    "A weight that is no number is named, with its index",
    arguments: [
      ("transformer.h.0.mlp.c_proj.weight", 5), ("transformer.h.1.attn.c_attn.weight", 3_000),
      ("transformer.wte.weight", 16_383), ("transformer.wpe.weight", 0), ("transformer.h.1.ln_2.weight", 31),
      ("transformer.h.0.ln_1.bias", 4), ("transformer.ln_f.bias", 9),
    ], [("nan", Float.nan), ("inf", .infinity), ("-inf", -.infinity)])
  func nonFinite(place tensor: (name: String, index: Int), value: (text: String, number: Float)) throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change(tensor.name) { $0[tensor.index] = value.number }
    }
    for target in ["transformers", "gpt2"] {
      let refusal = try Workplace().refusal(altered.path, to: [target])
      #expect(
        refusal.map(altered.short)
          == "model.safetensors, '\(tensor.name)': element \(tensor.index) is \(value.text); \(Self.diverged)")
      #expect(refusal?.category == .nonFinite)
    }
  }

  @Test("A weight that is too large for the type is named, with its index")
  func overflow() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      $0.tensors.change("transformer.h.0.mlp.c_proj.weight") { $0[5] = 70_000 }
    }
    let refusal = try Workplace().refusal(altered.path) { $0.type = .f16 }
    #expect(
      refusal?.description
        == "model.safetensors, 'transformer.h.0.mlp.c_proj.weight': element 5 is 70000.0, too large for F16; "
        + "choose a wider type with type")
    #expect(refusal?.category == .nonFinite)
  }

  @Test("A double that no Float holds is not written as infinity")
  func doubleOverflow() throws {
    let altered = try AlteredCheckpoint(of: "tiny-2x32/lnfree") {
      var values = [Double](repeating: 0.5, count: 64 * 32)
      values[40] = 1e300
      $0.tensors["transformer.wpe.weight"] = .init(values, shape: [64, 32], type: .f64)
    }
    let refusal = try Workplace().refusal(altered.path)
    #expect(
      refusal?.description
        == "model.safetensors, 'transformer.wpe.weight': element 40 is 1e+300, too large for F32; "
        + "choose a wider type with type")
  }

  // MARK: The source

  @Test("An ordinary GPT-2 is refused with advice", arguments: ["tiny-2x32/vanilla", "found/capp-gpt"])
  func ordinary(_ source: String) throws {
    let refusal = try Workplace().refusal(Fixtures.path(source))
    #expect(refusal?.category == .notFoldable)
    #expect(
      refusal?.description
        == "this is an ordinary GPT-2: the deviations of all its norms are computed, so none is a linear map; "
        + "remove its LayerNorms by fine-tuning first (arXiv 2409.13710), give fixed deviations with deviations, or keep the norms in another form with normForm"
    )
  }

  @Test("A source that is not there is refused")
  func noSource() throws {
    let place = try Workplace()
    let refusal = try place.refusal(place.directory / "nothing")
    #expect(place.short(refusal) == "nothing: there is no such file or directory; check the path")
    #expect(refusal?.category == .malformed)
  }
}
