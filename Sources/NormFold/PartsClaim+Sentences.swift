import NormFoldVerify

extension PartsClaim.Part {
  /// The failure of the part, in a sentence without its full stop.
  package var sentence: String {
    if let problem { return "\(path): \(problem)" }
    let count = "\(Quantity.count(beyondCount)) element\(beyondCount == 1 ? "" : "s")"
    var places: [String] = []
    if let inputs, !path.hasSuffix(".bias") { places.append(Self.range(inputs, "input")) }
    if let outputs { places.append(Self.range(outputs, "output")) }
    var result = "\(path): \(count) beyond what rounding can do (\(places.joined(separator: ", ")))"
    if let expected, let found {
      result +=
        ", at worst \(Quantity.short(found)) in place of \(Quantity.short(expected)), "
        + "\(Quantity.scientific(ratio)) times its bound"
    }
    return result
  }

  private static func range(_ range: [Int], _ noun: String) -> String {
    range[0] == range[1] ? "\(noun) \(range[0])" : "\(noun)s \(range[0]) to \(range[1])"
  }
}

extension PartsClaim {
  /// Returns sentences on the parts that differ: the first few by name, and how many more there are.
  package func failureSentences(limit: Int = 5) -> [String] {
    let failures = failures
    var result = failures.prefix(limit).map { $0.sentence + "." }
    if failures.count > limit { result.append("\(failures.count - limit) more parts differ.") }
    return result
  }

  /// A text that says what was compared, and how close it is.
  package var summary: String {
    let sampledCount = parts.count(where: \.isSampled)
    var result =
      "\(Quantity.count(parts.count - sampledCount)) parts with \(Quantity.count(elementCount)) weights compared, each for every input"
    if sampledCount > 0 { result += ", and what is computed between them at \(sampledCount) places" }
    if holds, let worst {
      result += "; closest to its bound: \(worst.path), \(Quantity.short(worst.ratio)) of what rounding can do"
    }
    return result
  }
}
