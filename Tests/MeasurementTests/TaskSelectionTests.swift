import Foundation
import NormFoldArithmetic
import NormFoldFormats
import NormFoldMeasurement
import NormFoldNetworks
import Testing
import TestSupport

/// Which task a picture belongs to, held against what was computed beside the fixture (`fixtures/generate/vision.py`).
@Suite struct TaskSelectionTests {
  private static let model = Fixtures.path("vision/tasks/model.pth")
  private static let picture = Fixtures.path("vision/tasks/picture.ppm")

  private static func reference(_ name: String) throws -> EditableTensors.Entry {
    try #require(
      EditableTensors(of: Checkpoint(safetensors: Fixtures.path("vision/reference.safetensors"))).entries[name])
  }

  private static func numbers(_ name: String) throws -> [Double] {
    try #require(try Checkpoint(safetensors: Fixtures.path("vision/reference.safetensors"))[name]).decoded()
  }

  private static func similarities(_ images: [String], _ alter: (inout TaskSelection) -> Void = { _ in }) throws
    -> TaskSelectionReport
  {
    var selection = TaskSelection(model: model, images: images)
    selection.precision = .double
    alter(&selection)
    return try selection.run()
  }

  @Test("Cosines to the keys are those of the untuned network")
  func cosines() throws {
    let place = try TemporaryDirectory()
    var tensors = EditableTensors()
    tensors["pixel_values"] = try Self.reference("pixels")
    try tensors.write(to: place / "pixels.safetensors")
    let report = try Self.similarities([Self.picture, place / "pixels.safetensors"])
    let expected = try Self.numbers("tasks.picture.similarities") + Self.numbers("tasks.similarities")
    #expect(report.images.count == 4)
    let found = report.images.flatMap(\.similarities)
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-13 } && found.count == 12)
    #expect(report.images.map(\.task) == [0, 0, 2, 0])
    let single = try Self.similarities([Self.picture]) { $0.precision = .single }
    #expect(zip(single.images[0].similarities, expected).allSatisfy { abs($0 - $1) < 1e-5 })
  }

  @Test("Bytes become numbers as the preprocessor's file says")
  func normalised() throws {
    let place = try TemporaryDirectory()
    for (name, source) in [("model.pth", "tasks/model.pth"), ("config.json", "tasks/config.json")] {
      try place.write(Fixtures.bytes("vision/" + source), to: name)
    }
    let json = #"{"do_normalize": true, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}"#
    try place.write(Array(json.utf8), to: "preprocessor_config.json")
    let bytes = try Fixtures.bytes("vision/tasks/picture.ppm").suffix(16 * 24 * 3)
    var pixels: [Double] = []
    for (mean, (deviation, channel)) in zip([0.5, 0.4, 0.3], zip([0.2, 0.25, 0.5], 0..<3)) {
      for pixel in 0..<16 * 24 {
        pixels.append((Double(bytes[bytes.startIndex + 3 * pixel + channel]) / 255 - mean) / deviation)
      }
    }
    var tensors = EditableTensors()
    tensors["pixel_values"] = .init(pixels, shape: [1, 3, 16, 24], type: .f64)
    try tensors.write(to: place / "pixels.safetensors")
    let report = try Self.similarities([Self.picture, place / "pixels.safetensors"]) { $0.model = place / "model.pth" }
    let (bytesFound, numbersFound) = (report.images[0].similarities, report.images[1].similarities)
    #expect(zip(bytesFound, numbersFound).allSatisfy { abs($0 - $1) < 1e-13 })
    #expect(bytesFound != (try Self.similarities([Self.picture])).images[0].similarities)
  }

  @Test(
    "Pictures of another kind or size are refused",
    arguments: [
      ("P6\n16 24\n255\n", "expected 3 × 16 × 24 numbers (channels, height, width), found [3, 24, 16]"),
      ("P5\n24 16\n255\n", "expected 3 × 16 × 24 numbers (channels, height, width), found [1, 16, 24]"),
      ("P6\n# made by hand\n24 16\n255\nab", "expected 1152 bytes of pixels, found 2"),
      ("P6\n24 16\n65535\n", "expected a PPM or PGM with a byte for each number (P6 or P5, 255), or a .safetensors"),
      ("\u{89}PNG", "expected a PPM or PGM with a byte for each number (P6 or P5, 255), or a .safetensors"),
      ("", "expected a PPM or PGM with a byte for each number (P6 or P5, 255), or a .safetensors"),
    ])
  func pictures(content: String, problem: String) throws {
    let place = try TemporaryDirectory()
    let path = try place.write(Array(content.utf8), to: "picture.ppm")
    let refusal = #expect(throws: Refusal.self) { try Self.similarities([path]) }
    #expect(refusal?.problem == problem)
  }

  @Test(
    "Networks without such keys are refused",
    arguments: ["vision/tasks-single/model.pth", "vision/timm", "encoders/bert-model"])
  func others(name: String) throws {
    let refusal = #expect(throws: Refusal.self) {
      try Self.similarities([Self.picture]) { $0.model = Fixtures.path(name) }
    }
    #expect(refusal?.problem == "has no keys of tasks for a whole image (wsm.key)")
  }
}
