/// The name of a file that holds a part of a model, as transformers and llama.cpp write it:
/// `model-00001-of-00003.safetensors`. It says what the file was meant to be, not what it is.
struct ShardName {
  let name: String
  /// `model`
  let stem: String
  /// From 1.
  let number: Int
  let count: Int
  /// `.safetensors`, `.bin` or `.gguf`
  let suffix: String

  /// - Returns: nil for other names.
  init?(_ name: String) {
    guard let suffix = [".safetensors", ".bin", ".gguf"].first(where: { name.hasSuffix($0) }) else { return nil }
    let parts = name.dropLast(suffix.count).split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count > 3, parts[parts.count - 2] == "of",
      let number = Self.number(parts[parts.count - 3]), let count = Self.number(parts[parts.count - 1])
    else { return nil }
    self.name = name
    self.suffix = suffix
    self.number = number
    self.count = count
    stem = parts.dropLast(3).joined(separator: "-")
  }

  private static func number(_ digits: Substring) -> Int? {
    digits.utf8.count == 5 && digits.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(digits) : nil
  }

  /// `model.safetensors.index.json`
  var indexName: String { stem + suffix + ".index.json" }

  /// `model-00001-of-00003.gguf`
  var firstName: String { "\(stem)-00001-\(name.dropFirst(stem.count + 7))" }
}
