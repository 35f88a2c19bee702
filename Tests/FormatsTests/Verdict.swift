import Foundation
import NormFoldFormats
import Testing

/// What a reader makes of an input: the exact refusal, or what it accepts and says about it.
enum Verdict: Equatable, CustomStringConvertible {
  case accepted(String, warnings: [String] = [])
  case refused(String)

  /// - Parameter directory: is left out of messages, so that a row can state them in full.
  init(in directory: String, _ body: () throws -> (summary: String, warnings: [String])) {
    func short(_ text: String) -> String {
      text.replacingOccurrences(of: directory + "/", with: "").replacingOccurrences(of: directory, with: ".")
    }
    do {
      let (summary, warnings) = try body()
      self = .accepted(summary, warnings: warnings.map(short))
    } catch {
      self = .refused(short("\(error)"))
    }
  }

  var isAccepted: Bool { if case .accepted = self { true } else { false } }

  var description: String {
    switch self {
    case .accepted(let summary, let warnings): "accepted: \(summary)\(warnings.map { "\nwarning: \($0)" }.joined())"
    case .refused(let sentence): "refused: \(sentence)"
    }
  }
}

extension Checkpoint {
  /// `a F32 [2, 2], b U8 []`
  var summary: String {
    tensors.map { "\($0.name.prefix(16)) \($0.info.type.displayName) \($0.shape)" }.joined(separator: ", ")
  }
}
