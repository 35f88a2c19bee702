import NormFoldFormats
import NormFoldNetworks

/// A picture as a network reads it: [channels, height, width].
package struct Picture {
  let name: String
  let pixels: [Double]

  /// Reads a file: a PPM or PGM with a byte for each number (P6, P5), or a safetensors file with `pixel_values` [pictures, channels,
  /// height, width] as an image processor makes them.
  ///
  /// - Parameters:
  ///   - image: what the network reads. Nothing is resized.
  ///   - preprocessor: which says how bytes become numbers; nil for numbers from 0 to 1.
  /// - Throws: `.malformed` for a damaged file; `.unsupported` for another kind or size.
  package static func all(in path: String, for image: ImageGrid, _ preprocessor: Preprocessor?) throws(Refusal)
    -> [Picture]
  {
    if path.hasSuffix(".safetensors") { return try tensors(in: path, for: image) }
    return [try map(in: path, for: image, preprocessor)]
  }

  private static func sizeRefusal(_ found: String, _ image: ImageGrid, _ path: String) -> Refusal {
    Refusal(
      .unsupported, file: path,
      "expected \(image.channels) × \(image.height) × \(image.width) numbers (channels, height, width), found \(found)",
      advice:
        "bring the picture to this size first, for instance with 'magick IN -resize \(image.width)x\(image.height)! OUT.ppm'"
    )
  }

  private static func tensors(in path: String, for image: ImageGrid) throws(Refusal) -> [Picture] {
    let file = try Checkpoint(safetensors: path)
    guard let tensor = file["pixel_values"] else {
      throw Refusal(
        .malformed, file: path, "has no tensor pixel_values", advice: "an image processor of transformers makes it")
    }
    try tensor.requireWeights(in: path)
    let shape = tensor.shape.count == 3 ? [1] + tensor.shape : tensor.shape
    guard shape.count == 4, Array(shape[1...]) == [image.channels, image.height, image.width] else {
      throw sizeRefusal("\(tensor.shape)", image, path)
    }
    let values = tensor.decoded(as: Double.self)
    return (0..<shape[0]).map { number in
      Picture(
        name: "\(path) [\(number)]", pixels: Array(values[number * image.pixelCount..<(number + 1) * image.pixelCount]))
    }
  }

  /// Source: Netpbm's specifications of the formats PPM and PGM.
  private static func map(
    in path: String, for image: ImageGrid, _ preprocessor: Preprocessor?
  ) throws(Refusal) -> Picture {
    let file = try MappedFile.readable(at: path)
    let bytes = try file.parse { (bytes) throws(Refusal) in unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) } }
    var place = 2
    func number() -> Int? {
      while place < bytes.count {
        if bytes[place] == UInt8(ascii: "#") {
          while place < bytes.count, bytes[place] != UInt8(ascii: "\n") { place += 1 }
        } else if [9, 10, 13, 32].contains(bytes[place]) {
          place += 1
        } else {
          break
        }
      }
      let start = place
      while place < bytes.count, place - start < 7, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[place]) {
        place += 1
      }
      return Int(String(decoding: bytes[start..<place], as: UTF8.self))
    }
    let channels = bytes.starts(with: "P6".utf8) ? 3 : bytes.starts(with: "P5".utf8) ? 1 : nil
    guard let channels, let width = number(), let height = number(), let largest = number(), largest == 255 else {
      throw Refusal(
        .unsupported, file: path,
        "expected a PPM or PGM with a byte for each number (P6 or P5, 255), or a .safetensors",
        advice: "make one of it, for instance with 'magick IN OUT.ppm'")
    }
    guard [channels, height, width] == [image.channels, image.height, image.width] else {
      throw sizeRefusal("\([channels, height, width])", image, path)
    }
    // One white space ends the header.
    let start = place + 1
    guard bytes.count >= start + image.pixelCount else {
      throw Refusal(
        .malformed, file: path, "expected \(image.pixelCount) bytes of pixels, found \(max(0, bytes.count - start))")
    }
    let scaling = try Scaling(preprocessor, channels: channels)
    var pixels = [Double](repeating: 0, count: image.pixelCount)
    for row in 0..<height {
      for column in 0..<width {
        for channel in 0..<channels {
          let byte = bytes[start + (row * width + column) * channels + channel]
          pixels[(channel * height + row) * width + column] = scaling.number(byte, channel)
        }
      }
    }
    return Picture(name: path, pixels: pixels)
  }

  /// `preprocessor_config.json` of a model.
  package struct Preprocessor {
    let path: String
    let content: JSONValue

    /// - Returns: nil where the directory has none.
    package init?(in directory: String) throws(Refusal) {
      path = "\(directory)/preprocessor_config.json"
      guard FileIdentity(ofItemAt: path) != nil else { return nil }
      content = try JSONValue(configurationAt: path)
    }
  }

  /// The rule by which a byte becomes a number.
  private struct Scaling {
    let factor: Double
    let means: [Double]
    let deviations: [Double]

    init(_ preprocessor: Preprocessor?, channels: Int) throws(Refusal) {
      func numbers(_ key: String, usual: Double) throws(Refusal) -> [Double] {
        guard let preprocessor, preprocessor.content["do_normalize"]?.bool == true else {
          return [Double](repeating: usual, count: channels)
        }
        let isDivisor = usual != 0
        let values = preprocessor.content[key]?.array?.compactMap(\.double) ?? []
        guard values.count == channels, values.allSatisfy({ $0.isFinite && (!isDivisor || $0 > 0) }) else {
          throw Refusal(
            .malformed, file: preprocessor.path, subject: key,
            "expected a \(isDivisor ? "positive " : "")number for each of \(channels) channels, found "
              + (preprocessor.content[key]?.array?.map(\.kind).listed(limit: 4) ?? "none"))
        }
        return values
      }
      let content = preprocessor?.content
      factor = content?["do_rescale"]?.bool == false ? 1 : content?["rescale_factor"]?.double ?? 1.0 / 255
      means = try numbers("image_mean", usual: 0)
      deviations = try numbers("image_std", usual: 1)
    }

    func number(_ byte: UInt8, _ channel: Int) -> Double {
      (Double(byte) * factor - means[channel]) / deviations[channel]
    }
  }
}
