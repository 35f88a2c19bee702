import Formats

/// The numbers among a checkpoint's metadata, checked.
struct Metadata {
  let checkpoint: Checkpoint
  let prefix: String

  func count(_ key: String) throws(Refusal) -> Int? {
    guard let value = checkpoint.metadata[prefix + key] else { return nil }
    guard let count = value.integer, count >= 0, count < 1 << 32 else {
      throw Refusal(.malformed, file: checkpoint.path, subject: prefix + key, "expected a whole number below 2^32")
    }
    return count
  }

  func requiredCount(_ key: String) throws(Refusal) -> Int {
    guard let count = try count(key) else {
      throw Refusal(.malformed, file: checkpoint.path, subject: prefix + key, "is missing")
    }
    return count
  }

  /// A positive number. Stored as a Float: what was meant is the shortest decimal that it stands for, 1e12 and not
  /// 999999995904.
  func positiveNumber(_ key: String) throws(Refusal) -> Double {
    let stored = checkpoint.metadata[prefix + key]?.double
    guard let number = stored.flatMap({ Double(String(Float($0))) }), number > 0, number.isFinite else {
      throw Refusal(
        .malformed, file: checkpoint.path, subject: prefix + key, "expected a positive, finite number",
        advice: "the file cannot be computed without it")
    }
    return number
  }
}
