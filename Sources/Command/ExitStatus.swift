import ArgumentParser
import Glibc
import NormFoldFormats

/// The status that the process ends with. `normfold --help` lists it.
enum ExitStatus: Int32 {
  case success = 0
  case usage = 2
  case malformed = 3
  case unsupported = 4
  case notFoldable = 5
  case nonFinite = 6
  case mismatch = 7
  case output = 8
  case interrupted = 9
  case internalError = 10

  init(_ category: Refusal.Category) {
    switch category {
    case .usage: self = .usage
    case .malformed: self = .malformed
    case .unsupported: self = .unsupported
    case .notFoldable: self = .notFoldable
    case .nonFinite: self = .nonFinite
    case .mismatch: self = .mismatch
    case .output: self = .output
    case .interrupted: self = .interrupted
    }
  }

  /// A verdict that was already shown.
  struct Verdict: Error {
    let status: ExitStatus
  }

  /// Says on standard error what went wrong, as JSON on standard output too where that was asked for, and ends.
  static func exit(with error: any Error) -> Never {
    Interruption.waitIfUnderway()
    switch error {
    case let verdict as Verdict: Glibc.exit(verdict.status.rawValue)
    case let refusal as Refusal:
      let status = ExitStatus(refusal.category)
      StandardError.write(
        "\("error:".toned(.bad, for: STDERR_FILENO)) \(refusal.text(naming: .flags))\n")
      if CommandLine.arguments.contains("--json") {
        try? StandardOutput.print(json: RefusalDocument(refusal, status: status))
      }
      Glibc.exit(status.rawValue)
    default:
      let code = RootCommand.exitCode(for: error)
      let message = RootCommand.fullMessage(for: error)
      if code == .success {
        do { try StandardOutput.print(message) } catch { exit(with: error) }
        Glibc.exit(success.rawValue)
      }
      let mended = UsageHint.mend(message, for: Array(CommandLine.arguments.dropFirst()))
      let head = "Error:"
      StandardError.write(
        (mended.hasPrefix(head)
          ? head.toned(.bad, for: STDERR_FILENO) + mended.dropFirst(head.count) : mended) + "\n")
      Glibc.exit(code == .validationFailure ? usage.rawValue : internalError.rawValue)
    }
  }
}

/// A refusal, for programs.
private struct RefusalDocument: Encodable {
  struct Content: Encodable {
    let category: String
    let status: Int32
    let message: String
    let file: String?
    let byteOffset: Int?
    let subject: Message?
    let problem: String
    let advice: Message
  }

  let error: Content

  init(_ refusal: Refusal, status: ExitStatus) {
    error = Content(
      category: refusal.category.rawValue, status: status.rawValue, message: refusal.text(naming: .flags),
      file: refusal.file,
      byteOffset: refusal.byteOffset, subject: refusal.subject, problem: refusal.problem, advice: refusal.advice)
  }
}
