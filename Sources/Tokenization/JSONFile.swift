import Formats

/// A JSON file beside a checkpoint.
struct JSONFile {
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
      try GitLFSPointer.refuse(bytes, file: path)
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
