import NormFoldFormats

/// The keys of a config, each with the hyperparameter that it stands for. The same table reads and writes.
package struct ConfigurationTable: Sendable {
  package struct Key: Sendable {
    package enum Kind: Sendable {
      case count, number, flag, other
    }

    /// The meaning of a key, where other code has to find the key by it.
    package enum Role: Sendable {
      case epsilon
    }

    package let name: String
    package let kind: Kind
    package let role: Role?
    /// Nil for a key that is only written.
    let read: (@Sendable (Fields, inout Hyperparameters) throws(Refusal) -> Void)?
    /// Nil for a key that is only read; no value where there is nothing to say.
    let write: (@Sendable (Hyperparameters) -> JSONValue?)?

    package init(
      _ name: String, _ kind: Kind = .other, role: Role? = nil,
      read: (@Sendable (Fields, inout Hyperparameters) throws(Refusal) -> Void)? = nil,
      write: (@Sendable (Hyperparameters) -> JSONValue?)? = nil
    ) {
      self.name = name
      self.kind = kind
      self.role = role
      self.read = read
      self.write = write
    }
  }

  let keys: [Key]

  package init(_ keys: [Key]) { self.keys = keys }

  /// - Throws: `.malformed` for a field of the wrong type or one that is missing, `.unsupported` for a value that is not
  ///   known.
  package func read(_ fields: Fields, into hyperparameters: inout Hyperparameters) throws(Refusal) {
    for key in keys { try key.read?(fields, &hyperparameters) }
  }

  /// The names of all keys.
  package var keyNames: [String] { keys.map(\.name) }

  /// The names of the keys that have a role.
  package func keyNames(of role: Key.Role) -> [String] { keys.filter { $0.role == role }.map(\.name) }

  /// The keys with their values for a network, in the order of the table.
  package func members(of hyperparameters: Hyperparameters) -> [(key: Key, value: JSONValue)] {
    keys.compactMap { key in key.write?(hyperparameters).map { (key, $0) } }
  }
}

extension ConfigurationTable.Key {
  package typealias Key = ConfigurationTable.Key

  /// A size. Where several keys state one size, each is held against the tensors; the first one that is there counts.
  ///
  /// - Parameters:
  ///   - required: where the key must be there, what to say if it is not.
  ///   - usual: what a missing key stands for where no tensor says it.
  ///   - isWritten: whether the key is written, too.
  package static func size(
    _ name: String, _ size: Hyperparameters.Size, required advice: Message? = nil, usual: Int? = nil,
    isWritten: Bool = true
  ) -> Key {
    let write: @Sendable (Hyperparameters) -> JSONValue? = { isWritten ? .number($0[size]) : nil }
    return Key(
      name, .count,
      read: { (fields, hyperparameters) throws(Refusal) in
        var value: Int?
        if let advice { value = try fields.requiredCount(name, advice: advice) } else { value = try fields.count(name) }
        guard let value = value ?? usual else { return }
        hyperparameters.statements.append(.init(key: fields.fullName(name), size: size, value: value))
      },
      write: write)
  }

  /// Under the root of every norm.
  ///
  /// - Parameter usual: where the key is missing; nil where it may not be.
  package static func epsilon(_ name: String, usual: Double?) -> Key {
    Key(
      name, .number, role: .epsilon,
      read: { (fields, hyperparameters) throws(Refusal) in
        hyperparameters.epsilon = try fields.positiveNumber(name, usual: usual)
      },
      write: { .number($0.epsilon) })
  }

  package static func activation(_ name: String, usual: Activation) -> Key {
    Key(
      name,
      read: { (fields, hyperparameters) throws(Refusal) in
        hyperparameters.activation = try fields.activation(name, usual: usual)
      },
      write: { .string($0.activation.configName) })
  }

  package static func tied(_ name: String = "tie_word_embeddings", usual: Bool) -> Key {
    Key(
      name, .flag,
      read: { (fields, hyperparameters) throws(Refusal) in
        hyperparameters.isTied = try fields.bool(name) ?? usual
      },
      write: { .bool($0.isTied) })
  }

  /// A token that only the architecture's own forward pass reads.
  ///
  /// - Parameter check: what else has to hold for it.
  package static func token(
    _ name: String, usual: Int, check: @escaping @Sendable (Fields, Int) throws(Refusal) -> Void
  ) -> Key {
    Key(
      name, .count,
      read: { (fields, hyperparameters) throws(Refusal) in
        let token = try fields.count(name) ?? usual
        try check(fields, token)
        hyperparameters.own[name] = .number(token)
      },
      write: { $0.own[name] ?? .number(usual) })
  }

  /// A choice that only the architecture's own forward pass and tensors read.
  package static func flag(_ name: String, usual: Bool) -> Key {
    Key(
      name, .flag,
      read: { (fields, hyperparameters) throws(Refusal) in
        hyperparameters.own[name] = .bool(try fields.bool(name) ?? usual)
      },
      write: { $0.own[name] ?? .bool(usual) })
  }

  /// The base of rotary positions of all features of a head, or of the share that another key says.
  package static func rotaryBase(_ name: String, usual: Double) -> Key {
    Key(
      name, .number,
      read: { (fields, hyperparameters) throws(Refusal) in
        hyperparameters.rotaryBase = try fields.positiveNumber(name, usual: usual)
      },
      write: { $0.rotaryBase.map { .number($0) } })
  }

  /// The token that ends a text, or several of them. Which token a target writes is the target's to say.
  package static func endOfText(_ name: String = "eos_token_id") -> Key {
    Key(
      name,
      read: { (fields, hyperparameters) throws(Refusal) in
        guard let value = fields[name], !value.isNull else { return }
        let tokens = (value.array ?? [value]).map(\.integer)
        hyperparameters.endsOfText = tokens.compactMap { $0 }
        guard !tokens.contains(nil) else { throw fields.refusal(name, expected: "a token, or several of them") }
      })
  }

  /// A choice of which one answer is known, which a missing key stands for, too.
  ///
  /// - Parameter reason: why no other answer is, for the message.
  package static func only(
    _ name: String, _ value: JSONValue, _ kind: Key.Kind = .other, because reason: String
  ) -> Key {
    Key(
      name, kind,
      read: { (fields, _) throws(Refusal) in
        guard let found = fields[name], !found.isNull, found != value else { return }
        throw Refusal(
          .unsupported, file: fields.path, subject: fields.fullName(name),
          "expected \(value.kind), found \(found.kind): \(reason)")
      },
      write: { _ in value })
  }

  /// A key that is written with the same value always.
  package static func constant(_ name: String, _ value: JSONValue) -> Key { Key(name, write: { _ in value }) }

  /// A size that is written under one more name.
  package static func written(_ name: String, _ value: @escaping @Sendable (Hyperparameters) -> JSONValue?) -> Key {
    Key(name, write: value)
  }
}
