import NormFoldFormats
import NormFoldNetworks

/// When norms are fixed: layer n of a kind before step start + n · gap.
///
///     recipe.schedule = Schedule([.mlp: .init(step: 20, gap: 2), .last: .init(step: 104)])
public struct Schedule: Sendable, Equatable, Encodable {
  /// A kind of site. The norm before attention has two, since its readers are switched apart.
  public enum Kind: String, Sendable, CaseIterable {
    case mlp = "ln_2"
    case queriesAndKeys = "ln_1.qk"
    case values = "ln_1.v"
    case last = "ln_f"
  }

  public struct Start: Sendable, Equatable, Encodable {
    public var step: Int
    /// Steps from one layer to the next; 0 fixes all layers at once.
    public var gap: Int

    public init(step: Int, gap: Int = 0) { (self.step, self.gap) = (step, gap) }
  }

  public var starts: [Kind: Start]

  public init(_ starts: [Kind: Start]) { self.starts = starts }

  /// An object of the kinds by their names.
  public func encode(to encoder: any Encoder) throws {
    try Dictionary(uniqueKeysWithValues: starts.map { ($0.key.rawValue, $0.value) }).encode(to: encoder)
  }

  /// The order of the papers: all norms before MLPs, then those before queries and keys, those before values, the last one.
  public init(first: Int, blockCount: Int, gap: Int, valueGap: Int) {
    let keys = first + blockCount * gap
    let values = keys + blockCount * gap
    starts = [
      .mlp: Start(step: first, gap: gap), .queriesAndKeys: Start(step: keys, gap: gap),
      .values: Start(step: values, gap: valueGap), .last: Start(step: values + blockCount * valueGap),
    ]
  }

  /// The step before which a site is fixed; nil for one that stays.
  func step(of site: Site) -> Int? { starts[site.kind].map { $0.step + (site.block ?? 0) * $0.gap } }

  init(_ json: JSONValue, file path: String) throws(Refusal) {
    guard let members = json.members else {
      throw Refusal(.malformed, file: path, subject: "schedule", "expected an object, found \(json.kind)")
    }
    starts = [:]
    for member in members {
      guard let kind = Kind(rawValue: member.key) else {
        throw Refusal(
          .malformed, file: path, at: member.byteOffset, subject: "schedule.\(member.key)", "is no kind of norm",
          advice: "known are \(Kind.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      // At step 0 no deviation has been measured that a norm could be fixed at.
      guard let pair = member.value.array, pair.count == 2, let step = pair[0].count, step >= 1,
        pair[1].isNull || pair[1].count != nil
      else {
        throw Refusal(
          .malformed, file: path, at: member.byteOffset, subject: "schedule.\(member.key)",
          "expected the first step, 1 or more, and the steps between layers, as in [20, 2]")
      }
      starts[kind] = Start(step: step, gap: pair[1].count ?? 0)
    }
  }

  var json: JSONValue {
    .object(
      Kind.allCases.compactMap { kind in
        starts[kind].map { .init(key: kind.rawValue, value: .array([.number($0.step), .number($0.gap)])) }
      })
  }
}

extension Recipe {
  /// Leaves the switches of some kinds of norms only; all others stay computed.
  ///
  /// - Throws: `.usage` for a name that is no kind, or one that the schedule does not have.
  package mutating func keepSwitches(of names: [String]) throws(Refusal) {
    var starts: [Schedule.Kind: Schedule.Start] = [:]
    for name in names {
      guard let kind = Schedule.Kind(rawValue: name), let start = schedule?.starts[kind] else {
        let known = Schedule.Kind.allCases.filter { schedule?.starts[$0] != nil }.map(\.rawValue)
        throw Refusal(
          .usage, subject: "\(.sites)", "expected kinds that the recipe's schedule has, found '\(name)'",
          advice: "it has \(known.joined(separator: ", "))")
      }
      starts[kind] = start
    }
    schedule = Schedule(starts)
  }
}

/// A norm as some of its readers read it: what one switch fixes.
struct Site: Hashable, Sendable {
  let kind: Schedule.Kind
  /// The norm as tensors spell it, without what stands before all names.
  let norm: String
  let block: Int?

  /// `h.0.ln_1.qk`, `h.0.ln_2`
  var name: String {
    switch kind {
    case .queriesAndKeys: norm + ".qk"
    case .values: norm + ".v"
    case .mlp, .last: norm
    }
  }

  /// - Parameters:
  ///   - path: of the norm.
  ///   - reader: of the operation that reads it.
  init(norm path: Path, named norm: String, reader: Path) {
    self.norm = norm
    block = path.block
    if path.block == nil {
      kind = .last
    } else if path.contains(component: "attention") {
      kind = reader.lastComponent == "value" ? .values : .queriesAndKeys
    } else {
      kind = .mlp
    }
  }
}
