import Formats

/// The fields of a JSON object, checked.
struct Fields {
  let json: JSONValue
  let path: String

  private func refusal(_ key: String, expected: String) -> Refusal {
    Refusal(.malformed, file: path, subject: key, "expected \(expected), found \(json[key]?.kind ?? "nothing")")
  }

  func count(_ key: String) throws(Refusal) -> Int? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let count = value.count, count < 1 << 32 else { throw refusal(key, expected: "a whole number below 2^32") }
    return count
  }

  func requiredCount(_ key: String) throws(Refusal) -> Int {
    guard let count = try count(key) else { throw refusal(key, expected: "a whole number") }
    return count
  }

  func requiredCount(_ key: String, advice: String) throws(Refusal) -> Int {
    guard let count = try count(key) else {
      throw Refusal(.malformed, file: path, subject: key, "is missing", advice: advice)
    }
    return count
  }

  func string(_ key: String) throws(Refusal) -> String? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let string = value.string else { throw refusal(key, expected: "a string") }
    return string
  }

  func bool(_ key: String) throws(Refusal) -> Bool? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let bool = value.bool else { throw refusal(key, expected: "true or false") }
    return bool
  }

  /// A positive number, `usual` where nothing is said.
  func positiveNumber(_ key: String, usual: Double) throws(Refusal) -> Double {
    guard let value = json[key] else { return usual }
    guard let number = value.double, number > 0, number.isFinite else {
      throw refusal(key, expected: "a positive, finite number")
    }
    return number
  }

  func keptNorms(_ key: String) throws(Refusal) -> [String: Configuration.KeptPath] {
    guard let value = json[key], !value.isNull else { return [:] }
    guard let members = value.members else { throw refusal(key, expected: "an object") }
    var norms: [String: Configuration.KeptPath] = [:]
    for member in members {
      guard let path = member.value.string.flatMap(Configuration.KeptPath.init) else {
        throw refusal(key, expected: "an object of all, queries_keys or values")
      }
      norms[member.key] = path
    }
    return norms
  }

  func requiredNumber(_ key: String) throws(Refusal) -> Double {
    guard let number = json[key]?.double, number.isFinite else { throw refusal(key, expected: "a finite number") }
    return number
  }

  func slopes(_ key: String) throws(Refusal) -> [Double]? {
    guard let value = json[key], !value.isNull else { return nil }
    let numbers = value.array?.compactMap { $0.double.flatMap { $0.isFinite ? $0 : nil } }
    guard let numbers, numbers.count == value.array?.count else {
      throw refusal(key, expected: "an array of finite numbers")
    }
    return numbers
  }

  /// One of the words that a type knows.
  func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String
  ) throws(Refusal) -> Choice? where Choice.RawValue == String {
    guard let word = try string(key) else { return nil }
    guard let choice = Choice(rawValue: word) else {
      let known = Choice.allCases.map(\.rawValue).joined(separator: " or ")
      throw Refusal(.unsupported, file: path, subject: key, "expected \(known), found \(json[key]?.kind ?? "nothing")")
    }
    return choice
  }

  /// What relu-revival-normfree calls the norms of its blocks: LayerNorms or identities.
  func hasBlockNorms(_ key: String) throws(Refusal) -> Bool? {
    switch try string(key) {
    case nil: return nil
    case "ln": return true
    case "free": return false
    default:
      throw Refusal(
        .unsupported, file: path, subject: key, "expected ln or free, found \(json[key]?.kind ?? "nothing")")
    }
  }

  func activation(_ key: String, usual: Activation = .geluTanh) throws(Refusal) -> Activation {
    guard let value = json[key], !value.isNull else { return usual }
    guard let name = value.string else { throw refusal(key, expected: "a name") }
    guard let activation = Activation(configName: name) else {
      throw Refusal(
        .unsupported, file: path, subject: key, "the activation '\(name)' is unknown",
        advice: "known are \(Activation.knownConfigNames)")
    }
    return activation
  }
}
