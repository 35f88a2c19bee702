import Formats

/// Deviations beside a checkpoint, in the form in which the published runs have them:
///
///     {"std_dict": {"blocks.0.hook_resid_pre": 0.166, "blocks.0.hook_resid_mid": 1.207, …},
///      "std_bos_dict": {…}}
///
/// `pre` of a block belongs to the norm before its attention, `mid` to the one before its MLP, `post` of the last block
/// to the final norm. `std_dict` is of all positions but the first, `std_bos_dict` of the first.
package struct DeviationFile {
  let path: String
  private let usual: JSONValue
  private let first: JSONValue?

  init(path: String) throws(Refusal) {
    self.path = path
    let file = try MappedFile(path: path)
    let json = try file.parse { (bytes) throws(Refusal) in
      try GitLFSPointer.refuse(bytes, file: path)
      return try JSONValue(parsing: bytes, file: path)
    }
    guard let usual = json["std_dict"], usual.members != nil else {
      throw Refusal(
        .malformed, file: path, subject: "std_dict",
        "expected an object of numbers, found \(json["std_dict"]?.kind ?? "nothing")")
    }
    self.usual = usual
    first = json["std_bos_dict"]
  }

  /// σ of all positions but the first.
  func usual(at site: NormSite, blockCount: Int) throws(Refusal) -> Double {
    try value(at: site, in: usual, named: "std_dict", blockCount: blockCount)
  }

  /// σ of the first position.
  func first(at site: NormSite, blockCount: Int) throws(Refusal) -> Double {
    guard let first else { return try usual(at: site, blockCount: blockCount) }
    return try value(at: site, in: first, named: "std_bos_dict", blockCount: blockCount)
  }

  private func value(
    at site: NormSite, in table: JSONValue, named name: String, blockCount: Int
  ) throws(Refusal) -> Double {
    let key = Self.key(of: site, blockCount: blockCount)
    guard let value = table[key]?.double else {
      throw Refusal(
        .malformed, file: path, subject: "\(name).\(key)", "expected a number, found \(table[key]?.kind ?? "nothing")",
        advice: "the file must have every site of the checkpoint")
    }
    guard value > 0, value.isFinite else {
      throw Refusal(
        .nonFinite, file: path, subject: "\(name).\(key)", "expected a positive number, found \(value)")
    }
    return value
  }

  /// What the deviation of a site is called.
  package static func key(of site: NormSite, blockCount: Int) -> String {
    switch site {
    case .attentionQueryKey(let block), .attentionValue(let block): "blocks.\(block).hook_resid_pre"
    case .mlp(let block): "blocks.\(block).hook_resid_mid"
    case .final: "blocks.\(blockCount - 1).hook_resid_post"
    }
  }

  /// A file of these deviations by key, in the order of computation. As in the published files, what is behind one block
  /// is before the next.
  package static func text(usual: [String: Double], first: [String: Double]) -> String {
    func table(_ deviations: [String: Double]) -> JSONValue {
      var members: [JSONValue.Member] = []
      func append(_ key: String, as other: String? = nil) {
        guard let value = deviations[key] else { return }
        members.append(.init(key: other ?? key, value: .number(value), byteOffset: 0))
      }
      for block in 0..<deviations.count {
        append("blocks.\(block).hook_resid_pre")
        append("blocks.\(block).hook_resid_mid")
        append("blocks.\(block + 1).hook_resid_pre", as: "blocks.\(block).hook_resid_post")
        append("blocks.\(block).hook_resid_post")
      }
      return .object(members)
    }
    return JSONValue.object(["std_dict": table(usual), "std_bos_dict": table(first)]).text
  }
}
