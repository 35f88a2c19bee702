/// A choice that a caller of the library can make, by the name that the choice has in the library. A message that holds
/// a setting can speak of it wherever the message is read: a program sets `probeLength`, the command's user gives
/// `--probe-length`.
///
///     let names = SettingNames { setting, _ in "the field '\(setting.rawValue)'" }
///     print(refusal.text(naming: names))
public enum Setting: String, CaseIterable, Sendable {
  // What is read.
  case adapters
  case assumesEndOfTextDisabled
  case deviationAxis
  case deviations
  case head
  case ignoredTensors
  case layout
  case missingNorms
  case modality
  case normScaling
  case permutesHeadScales
  case removalStep
  case strippedPrefixes
  case task
  case tokenizer
  // What is written.
  case allowsApproximateActivation
  case allowsPartial
  case normForm
  case onnxForm
  case onnxLength
  case replacesDestination
  case rules
  case targets
  case type
  // On what a verification looks.
  case probeLength
  // What is measured, and on which text.
  case contextLength
  case integers
  case keepsRemainder
  case other
  case precision
  case prependsEndOfText
  case stride
  case text
  case tokenLimit
  // How a network is trained.
  case recipe
  case resumes
  case sites
  // How a file holds tokens.
  case format
}

/// The names that settings have where a message is read.
///
/// The library's own names are ``library``; a program with a user interface of its own makes another:
///
///     let names = SettingNames { setting, value in
///       value.map { "\(setting.rawValue): \($0)" } ?? setting.rawValue
///     }
///     print(refusal.text(naming: names))
public struct SettingNames: Sendable {
  private let name: @Sendable (Setting, _ value: String?) -> String

  public init(_ name: @escaping @Sendable (_ setting: Setting, _ value: String?) -> String) { self.name = name }

  /// `probeLength`, and `normForm = unit` with a value.
  public static let library = SettingNames { setting, value in
    setting.rawValue + (value.map { " = \($0)" } ?? "")
  }

  func callAsFunction(_ setting: Setting, _ value: String?) -> String { name(setting, value) }
}

/// A text that may speak of settings, which it holds as values and not by a name.
///
///     let advice: Message = "give \(.probeLength) \(context) or less"
///     print(advice)  // give probeLength 32 or less
public struct Message: Sendable, Equatable {
  fileprivate enum Part: Sendable, Equatable {
    case text(String)
    case setting(Setting, value: String?)
  }

  /// Texts that follow each other are one part, so that equal messages are equal however they were put together.
  private var parts: [Part] = []

  fileprivate init(_ parts: [Part]) { for part in parts { append(part) } }

  public init(_ text: String) { append(.text(text)) }

  private mutating func append(_ part: Part) {
    guard case .text(let text) = part else { return parts.append(part) }
    if text.isEmpty { return }
    if case .text(let last) = parts.last {
      parts[parts.count - 1] = .text(last + text)
    } else {
      parts.append(part)
    }
  }

  public var isEmpty: Bool { parts.isEmpty }

  /// Returns the text with every setting under the name that it has for the reader.
  public func text(naming names: SettingNames) -> String {
    parts.map { part in
      switch part {
      case .text(let text): text
      case .setting(let setting, let value): names(setting, value)
      }
    }.joined()
  }

  public static func + (left: Message, right: Message) -> Message { Message(left.parts + right.parts) }
}

extension Sequence<Message> {
  package func joined(separator: String) -> Message {
    var result: Message = ""
    for (index, message) in enumerated() { result = index == 0 ? message : result + Message(separator) + message }
    return result
  }
}

extension Message: CustomStringConvertible {
  /// The text with the library's own names.
  public var description: String { text(naming: .library) }
}

extension Message: ExpressibleByStringInterpolation {
  public init(stringLiteral text: String) { self.init(text) }

  public init(stringInterpolation: StringInterpolation) { self.init(stringInterpolation.parts) }

  public struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var parts: [Part] = []

    public init(literalCapacity: Int, interpolationCount: Int) { parts.reserveCapacity(2 * interpolationCount + 1) }

    public mutating func appendLiteral(_ text: String) { parts.append(.text(text)) }

    public mutating func appendInterpolation(_ value: some Any) { parts.append(.text("\(value)")) }

    /// `\(.probeLength)`
    public mutating func appendInterpolation(_ setting: Setting) { parts.append(.setting(setting, value: nil)) }

    /// `\(.targets, "transformers")`
    public mutating func appendInterpolation(_ setting: Setting, _ value: String) {
      parts.append(.setting(setting, value: value))
    }

    /// `\(.normForm, NormForm.unit)`
    public mutating func appendInterpolation(_ setting: Setting, _ value: some RawRepresentable<String>) {
      appendInterpolation(setting, value.rawValue)
    }

    public mutating func appendInterpolation(_ message: Message) { parts += message.parts }
  }
}

extension CodingUserInfoKey {
  /// The ``SettingNames`` of an encoder, where messages shall not have the library's.
  public static let settingNames: CodingUserInfoKey = {
    let key = CodingUserInfoKey(rawValue: "NormFold.settingNames")
    guard let key else { preconditionFailure("every text is a key") }
    return key
  }()
}

extension Message: Encodable {
  /// Encodes the text, under the names that the encoder has for ``Swift/CodingUserInfoKey/settingNames``.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text(naming: encoder.userInfo[.settingNames] as? SettingNames ?? .library))
  }
}
