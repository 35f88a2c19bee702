import NormFoldFormats

/// The fields of a config, checked: the members of a JSON object, or metadata of a checkpoint under a prefix.
package struct Fields: Sendable {
  private enum Source: Sendable {
    case json(JSONValue)
    case metadata([String: MetadataValue], prefix: String)
  }

  private let source: Source
  /// The file that the fields are from.
  package let path: String

  package init(json: JSONValue, path: String) {
    source = .json(json)
    self.path = path
  }

  package init(metadataOf checkpoint: Checkpoint, prefix: String) {
    source = .metadata(checkpoint.metadata, prefix: prefix)
    path = checkpoint.path
  }

  /// The key as the file spells it.
  package func fullName(_ key: String) -> String {
    if case .metadata(_, let prefix) = source { prefix + key } else { key }
  }

  /// The value under a key; nil where there is none.
  package subscript(key: String) -> JSONValue? {
    switch source {
    case .json(let json): json[key]
    case .metadata(let metadata, let prefix): metadata[prefix + key].map(JSONValue.init)
    }
  }

  package var members: [JSONValue.Member] { if case .json(let json) = source { json.members ?? [] } else { [] } }

  /// The keys of metadata that begin with some text, without the prefix.
  package func members(under start: String) -> [String] {
    guard case .metadata(let metadata, let prefix) = source else { return [] }
    return metadata.keys.filter { $0.hasPrefix(prefix + start) }.map { String($0.dropFirst(prefix.count)) }.sorted()
  }

  package func refusal(_ key: String, expected: String) -> Refusal {
    let problem =
      switch source {
      case .json(let json): "expected \(expected), found \(json[key]?.kind ?? "nothing")"
      case .metadata: "expected \(expected)"
      }
    return Refusal(.malformed, file: path, subject: fullName(key), problem)
  }

  package func count(_ key: String) throws(Refusal) -> Int? {
    guard let value = self[key], !value.isNull else { return nil }
    guard let count = value.count, count < 1 << 32 else { throw refusal(key, expected: "a whole number below 2^32") }
    return count
  }

  package func requiredCount(_ key: String) throws(Refusal) -> Int {
    guard let count = try count(key) else { throw refusal(key, expected: "a whole number") }
    return count
  }

  package func requiredCount(_ key: String, advice: Message) throws(Refusal) -> Int {
    guard let count = try count(key) else {
      throw Refusal(.malformed, file: path, subject: fullName(key), "is missing", advice: advice)
    }
    return count
  }

  package func string(_ key: String) throws(Refusal) -> String? {
    guard let value = self[key], !value.isNull else { return nil }
    guard let string = value.string else { throw refusal(key, expected: "a string") }
    return string
  }

  package func bool(_ key: String) throws(Refusal) -> Bool? {
    guard let value = self[key], !value.isNull else { return nil }
    guard let bool = value.bool else { throw refusal(key, expected: "true or false") }
    return bool
  }

  /// A positive number, `usual` where there is none. A number in metadata is stored as a Float: what was meant is the
  /// shortest decimal that it stands for, 1e12 and not 999999995904.
  package func positiveNumber(_ key: String, usual: Double?) throws(Refusal) -> Double {
    switch source {
    case .json(let json):
      guard let value = json[key] else {
        if let usual { return usual }
        throw refusal(key, expected: "a positive, finite number")
      }
      guard let number = value.double, number > 0, number.isFinite else {
        throw refusal(key, expected: "a positive, finite number")
      }
      return number
    case .metadata(let metadata, let prefix):
      if let usual, metadata[prefix + key] == nil { return usual }
      let stored = metadata[prefix + key]?.double
      guard let number = stored.flatMap({ Double(String(Float($0))) }), number > 0, number.isFinite else {
        var refusal = refusal(key, expected: "a positive, finite number")
        refusal.advice = "the file cannot be computed without it"
        throw refusal
      }
      return number
    }
  }

  package func requiredNumber(_ key: String) throws(Refusal) -> Double {
    guard let number = self[key]?.double, number.isFinite else { throw refusal(key, expected: "a finite number") }
    return number
  }

  /// Finite numbers.
  package func numbers(_ key: String) throws(Refusal) -> [Double]? {
    guard let value = self[key], !value.isNull else { return nil }
    let numbers = value.array?.compactMap { $0.double.flatMap { $0.isFinite ? $0 : nil } }
    guard let numbers, numbers.count == value.array?.count else {
      throw refusal(key, expected: "an array of finite numbers")
    }
    return numbers
  }

  /// One of the words that a type knows.
  package func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String
  ) throws(Refusal) -> Choice? where Choice.RawValue == String {
    guard let word = try string(key) else { return nil }
    guard let choice = Choice(rawValue: word) else {
      let known = Choice.allCases.map(\.rawValue).joined(separator: " or ")
      throw Refusal(
        .unsupported, file: path, subject: fullName(key), "expected \(known), found \(self[key]?.kind ?? "nothing")")
    }
    return choice
  }

  package func activation(_ key: String, usual: Activation) throws(Refusal) -> Activation {
    guard let value = self[key], !value.isNull else { return usual }
    guard let name = value.string else { throw refusal(key, expected: "a name") }
    guard let activation = Activation(configName: name) else {
      throw Refusal(
        .unsupported, file: path, subject: fullName(key), "the activation '\(name)' is unknown",
        advice: "known are \(Activation.knownConfigNames)")
    }
    return activation
  }

  /// The members of an object.
  package func object(_ key: String) throws(Refusal) -> Fields? {
    guard let value = self[key], !value.isNull else { return nil }
    guard value.members != nil else {
      throw Refusal(.malformed, file: path, subject: fullName(key), "expected an object, found \(value.kind)")
    }
    return Fields(json: value, path: path)
  }
}

extension JSONValue {
  fileprivate init(_ value: MetadataValue) {
    switch value {
    case .string(let text): self = .string(text)
    case .integer(let number): self = .number(number)
    case .large(let number): self = .number(String(number))
    case .double(let number): self = .number(String(number))
    case .bool(let flag): self = .bool(flag)
    case .array(let values): self = .array(values.map(JSONValue.init))
    case .null: self = .null
    }
  }
}
