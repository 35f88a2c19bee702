/// Hints on arguments that other programs take, or take in another order, where the parser can only say that they do
/// not fit.
enum UsageHint {
  /// The options with which other converters have the destination named.
  private static let destinations: Set<String> = ["--out", "--output", "--outfile", "--output-dir", "-o"]
  /// Options that take everything up to the next option.
  private static let greedy: Set<String> = ["--for", "--text"]

  /// - Parameters:
  ///   - message: the parser's: `Error: …`, then the usage.
  ///   - arguments: without the program's name.
  static func mend(_ message: String, for arguments: [String]) -> String {
    let (first, rest) = split(message)
    let isMissing = first.contains("issing expected argument")
    if isMissing || first.contains("nknown option"),
      let option = arguments.map(name).first(where: destinations.contains)
    {
      return "Error: There is no option \(option): the destination is the second path, behind the source.\(rest)"
    }
    if isMissing, let option = arguments.first(where: greedy.contains),
      let place = arguments.firstIndex(of: option),
      arguments.dropFirst(place + 1).prefix(while: { !$0.hasPrefix("-") }).count > 1
    {
      return "\(first). Paths come before \(option), which takes everything up to the next option.\(rest)"
    }
    return message
  }

  /// `--out` of `--out=there`.
  private static func name(_ argument: String) -> String { String(argument.prefix { $0 != "=" }) }

  private static func split(_ message: String) -> (first: String, rest: String) {
    guard let end = message.firstIndex(of: "\n") else { return (message, "") }
    return (String(message[..<end]), String(message[end...]))
  }
}
