import NormFoldFormats

/// A JSON file beside a checkpoint.
package struct JSONFile {
  let path: String
  let value: JSONValue

  init(path: String, value: JSONValue) {
    self.path = path
    self.value = value
  }

  init(path: String) throws(Refusal) {
    let file = try MappedFile(path: path)
    self.path = path
    value = try file.parse { (bytes) throws(Refusal) in
      try Substitute.refuse(bytes, file: path)
      return try JSONValue(parsing: bytes, file: path)
    }
  }

  init?(ifPresentAt path: String) throws(Refusal) {
    guard FileIdentity(ofItemAt: path) != nil else { return nil }
    try self.init(path: path)
  }

  func refusal(_ key: String, expected: String, _ found: JSONValue?) -> Refusal {
    Refusal(.malformed, file: path, subject: key, "expected \(expected), found \(found?.kind ?? "nothing")")
  }
}

extension JSONFile {
  /// Reads `model.merges` of a `tokenizer.json`, of which each item is a text with a space or two texts.
  ///
  /// - Parameter joined: makes of two texts one, where they are apart.
  func merges(joined: (String, String) -> String) throws(Refusal) -> [String] {
    let value = value["model"]?["merges"]
    guard let list = value?.array else { throw refusal("model.merges", expected: "an array", value) }
    var merges: [String] = []
    merges.reserveCapacity(list.count)
    for (index, item) in list.enumerated() {
      // Written as "a b" by older versions of the library, as ["a", "b"] by newer ones.
      if let text = item.string, Self.isMerge(text) {
        merges.append(text)
      } else if let parts = item.array, parts.count == 2, let left = parts[0].string, let right = parts[1].string {
        merges.append(joined(left, right))
      } else {
        throw refusal("model.merges[\(index)]", expected: "two parts", item)
      }
    }
    return merges
  }

  /// Returns whether a text is two with one space between.
  static func isMerge(_ text: String) -> Bool {
    let spaces = text.utf8.count { $0 == UInt8(ascii: " ") }
    return spaces == 1 && text.utf8.first != UInt8(ascii: " ") && text.utf8.last != UInt8(ascii: " ")
  }
}
