import ArgumentParser
import Glibc
import Synchronization

/// When verdicts have a colour.
enum ColorChoice: String, ExpressibleByArgument, CaseIterable {
  /// Colours are written to a terminal that shows them, unless NO_COLOR (no-color.org) is set.
  case auto
  case always, never

  private static let chosen = Mutex(ColorChoice.auto)

  /// Takes the user's choice, for the rest of the run.
  static func choose(_ choice: ColorChoice) { chosen.withLock { $0 = choice } }

  /// Returns whether what is written to a descriptor has colours.
  static func isOn(for descriptor: Int32) -> Bool {
    switch chosen.withLock(\.self) {
    case .always: true
    case .never: false
    case .auto:
      isatty(descriptor) == 1 && variable("NO_COLOR").isEmpty
        && !["", "dumb"].contains(variable("TERM"))
    }
  }

  private static func variable(_ name: String) -> String {
    guard let value = unsafe getenv(name) else { return "" }
    return unsafe String(cString: value)
  }
}

/// The kind of a sentence about the run: a verdict that holds, one that does not, or a warning.
enum Tone: String {
  case good = "32"
  case bad = "1;31"
  case warning = "33"

  init(_ holds: Bool) { self = holds ? .good : .bad }
}

extension String {
  /// The text in the colour of its tone, where there are colours.
  func toned(_ tone: Tone, for descriptor: Int32 = STDOUT_FILENO) -> String {
    ColorChoice.isOn(for: descriptor) ? "\u{1B}[\(tone.rawValue)m\(self)\u{1B}[0m" : self
  }

  /// Columns that the text takes: colours take none.
  var columnCount: Int {
    guard contains("\u{1B}") else { return count }
    var count = 0
    var isCode = false
    for character in self {
      if character == "\u{1B}" { isCode = true }
      if !isCode { count += 1 }
      if character == "m" { isCode = false }
    }
    return count
  }
}
