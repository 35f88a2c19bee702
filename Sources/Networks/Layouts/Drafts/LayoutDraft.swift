import NormFoldFormats

/// A first draft of the file that describes a home-made network (``ReadingOptions/layout``), from the names and shapes of its
/// tensors. What these do not tell is marked: a value that begins with `?` says what is to be put in its place, and a file
/// with such values is refused when it is read.
///
///     let draft = try LayoutDraft(of: "my-gpt.pt")
///     print(draft.text)
///     print(draft.openValues)  // ["heads", "activation", "epsilon", "attentionScale"]
public struct LayoutDraft: Sendable {
  /// The file, a line for each choice and each tensor.
  public let text: String
  /// The keys and tensors with values that are to be filled in.
  public let openValues: [String]

  /// - Throws: what opening the checkpoint throws; `.unsupported` where no names are told apart by the number of a block, or
  ///   where an archive has several state dicts of which none is known to be meant.
  public init(of path: String, options: ReadingOptions = .init()) throws(Refusal) {
    let location = try CheckpointLocation(path: path)
    let (checkpoint, keys) = try Self.open(location, temporaryDirectory: options.temporaryDirectory)
    let names = try TensorNames(of: checkpoint, layout: Layout(name: "", []), without: options.strippedPrefixes)
    let templates = try TensorTemplates(
      of: zip(names.bare, checkpoint.tensors).map { ($0, $1) }, file: checkpoint.path)
    let roles = DraftedRoles(of: templates)
    var members: [JSONValue.Member] = [
      .init(
        key: "note",
        value: .string(
          "A draft from names and shapes. Replace every value that begins with ?, and look at the others: square matrices lie "
            + "as those that are not square do, and no norm, gate or product is here that has no tensor."))
    ]
    if !keys.isEmpty { members.append(.init(key: "stateDict", value: .array(keys.map { .string($0) }))) }
    members += roles.choices.map { .init(key: $0.key, value: $0.value) }
    if !templates.ignored.isEmpty {
      members.append(.init(key: "ignore", value: .array(templates.ignored.map { .string($0) })))
    }
    let tensors = roles.entries.map { JSONValue.Member(key: $0.key, value: $0.value) }
    text = Self.text(members, tensors: tensors)
    openValues = (members + tensors).filter { $0.key != "note" && $0.value.hasMark }.map(\.key)
  }

  /// Opens the checkpoint, and where its state dict lies too deep to be found without being told, says under which keys.
  private static func open(
    _ location: CheckpointLocation, temporaryDirectory: String?
  ) throws(Refusal) -> (Checkpoint, [String]) {
    do throws(Refusal) {
      return (try location.open(temporaryDirectory: temporaryDirectory), [])
    } catch {
      guard error.category == .unsupported else { throw error }
      let places = ((try? location.stateDicts(temporaryDirectory: temporaryDirectory)) ?? []).filter { !$0.isEmpty }
      guard let place = places.first else { throw error }
      guard places.count == 1 else {
        throw Refusal(
          .unsupported, file: location.path,
          "expected one state dict, found them under \(places.map { "'\($0.joined(separator: "."))'" }.listed(limit: 8))",
          advice: "write a layout by hand whose stateDict names the one that is meant")
      }
      return (try location.open(temporaryDirectory: temporaryDirectory, stateDictAt: place), place)
    }
  }

  private static func text(_ members: [JSONValue.Member], tensors: [JSONValue.Member]) -> String {
    func line(_ member: JSONValue.Member) -> String {
      JSONValue.string(member.key).line + ": " + member.value.line
    }
    return "{\n" + members.map { "  \(line($0)),\n" }.joined() + "  \"tensors\": {\n"
      + tensors.map { "    " + line($0) }.joined(separator: ",\n") + "\n  }\n}\n"
  }
}

extension JSONValue {
  /// The value as text on one line.
  fileprivate var line: String {
    switch self {
    case .array(let values): "[" + values.map(\.line).joined(separator: ", ") + "]"
    case .object(let members):
      "{" + members.map { JSONValue.string($0.key).line + ": " + $0.value.line }.joined(separator: ", ") + "}"
    case .string, .number, .bool, .null: String(text.dropLast())
    }
  }

  fileprivate var hasMark: Bool {
    string?.hasPrefix(LayoutFile.mark) ?? false || array?.contains(where: \.hasMark) ?? false
      || members?.contains { $0.value.hasMark } ?? false
  }
}
