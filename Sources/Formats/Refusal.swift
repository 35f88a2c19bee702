/// Why an input, a fold or an output was refused: one sentence that lets its reader mend the matter without
/// reading our source. Every module throws this one type, so that one place renders it and one table maps it to
/// exit statuses.
///
///     do throws(Refusal) {
///       print(try Inspection(of: "model.safetensors").dialect)
///     } catch {
///       print(error.category, error.file ?? "", error.problem, error.advice)
///     }
public struct Refusal: Error, Equatable, Sendable {
  public enum Category: String, Sendable, CaseIterable {
    /// Arguments that contradict each other or the input.
    case usage
    /// Bytes that break the rules of their format.
    case malformed
    /// Valid, but in a dialect that is unknown or ambiguous, or that a target cannot express.
    case unsupported
    /// A norm whose scale is not fixed, or not in a form that a linear map can absorb.
    case notFoldable
    /// NaN, infinity or overflow.
    case nonFinite
    /// The converted network does not compute what the source computes.
    case mismatch
    /// The destination exists, cannot be written, or the disk is full.
    case output
    /// A signal ended the run.
    case interrupted
  }

  public var category: Category
  /// The file, as the user would name it.
  public var file: String?
  /// The place of the problem in the file, in bytes from the start of the file.
  public var byteOffset: Int?
  /// The tensor, norm or key concerned, exactly as it is spelt in the file; or the setting.
  public var subject: Message?
  /// The problem: expected against found, without a full stop.
  public var problem: String
  /// The remedy of the problem: a clause without a full stop, empty where nothing useful can be said.
  public var advice: Message

  public init(
    _ category: Category, file: String? = nil, at byteOffset: Int? = nil, subject: String? = nil,
    _ problem: String, advice: Message = ""
  ) {
    self.category = category
    self.file = file
    self.byteOffset = byteOffset
    self.subject = subject.map { Message($0) }
    self.problem = problem
    self.advice = advice
  }

  /// A refusal of what a setting asks for: `Refusal(.usage, subject: "\(.stride)", "expected 1 or more")`.
  public init(_ category: Category, file: String? = nil, subject: Message, _ problem: String, advice: Message = "") {
    self.init(category, file: file, problem, advice: advice)
    self.subject = subject
  }
}

extension Refusal: CustomStringConvertible {
  /// `model.safetensors at byte 368, 'h.0.attn.c_attn.weight': data_offsets: expected 176 bytes, found 192; do this`, with
  /// the library's names for what can be set.
  public var description: String { text(naming: .library) }

  /// Returns the sentence with every setting under the name that it has for the reader.
  public func text(naming names: SettingNames) -> String {
    var place = file.map { $0.printable } ?? ""
    if let byteOffset { place += place.isEmpty ? "byte \(byteOffset)" : " at byte \(byteOffset)" }
    if let subject { place += (place.isEmpty ? "" : ", ") + "'\(subject.text(naming: names).printable)'" }
    let sentence = place.isEmpty ? problem.printable : "\(place): \(problem.printable)"
    return advice.isEmpty ? sentence : "\(sentence); \(advice.text(naming: names).printable)"
  }
}

extension Int {
  /// `1 byte`, `2 bytes`: for messages.
  package var bytes: String { self == 1 ? "1 byte" : "\(self) bytes" }
}

extension String {
  /// The string with control characters escaped and cut to a readable length: names come from files, and a
  /// terminal obeys what it is sent.
  package var printable: String {
    let limit = 2_000
    let start = String(unicodeScalars.prefix(limit)).withControlsEscaped
    return unicodeScalars.count > limit ? start + "…" : start
  }

  /// The string with what steers terminals and turns the direction of a line spelt out.
  package var withControlsEscaped: String {
    var result = ""
    for scalar in unicodeScalars {
      let isHarmless = scalar.value >= 0x20 && !(0x7F...0x9F).contains(scalar.value)
      let isDirectional = (0x202A...0x202E).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
      if isHarmless && !isDirectional {
        result.unicodeScalars.append(scalar)
      } else {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return result
  }
}
