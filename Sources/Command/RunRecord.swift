import FoundationEssentials
import Glibc
import NormFold
import NormFoldFormats

/// The record of the run that printed a document, so that the run can be repeated. Every document holds one.
struct RunRecord: Encodable {
  struct Machine: Encodable {
    /// `Linux 6.1.0 x86_64`
    let system: String
    /// The name of the processor as the system gives it; nil where the system gives none.
    let processor: String?
    let coreCount: Int

    var text: String {
      [system, processor, "\(coreCount) cores"].compactMap(\.self).joined(separator: ", ")
    }
  }

  let tool = Tool.nameAndVersion
  /// The words of the command line behind the program's name.
  let arguments = Array(CommandLine.arguments.dropFirst())
  /// When it ended: UTC, as in ISO 8601.
  let date = Date.now.formatted(.iso8601)
  let machine = Machine.this

  /// The command in a form that can be given to a shell again.
  var commandLine: String {
    (["normfold"] + arguments).map { word in
      let isPlain =
        !word.isEmpty && word.allSatisfy { $0.isLetter || $0.isNumber || "-_./,:=@+".contains($0) }
      return isPlain ? word : "'" + word.replacing("'", with: #"'\''"#) + "'"
    }.joined(separator: " ")
  }
}

extension RunRecord.Machine {
  fileprivate static var this: Self {
    var names = utsname()
    unsafe uname(&names)
    func text<Characters>(_ field: Characters) -> String {
      unsafe withUnsafeBytes(of: field) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
    let fields = [text(names.sysname), text(names.release), text(names.machine)]
    return .init(system: fields.joined(separator: " "), processor: processor, coreCount: Workers.all.count)
  }

  private static var processor: String? {
    guard let data = try? Data(contentsOf: URL(filePath: "/proc/cpuinfo")) else { return nil }
    let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
    return lines.first { $0.hasPrefix("model name") }?.split(separator: ":").dropFirst().first?
      .split(separator: " ").joined(separator: " ")
  }
}

/// A document of the command: what was found, and what run found it.
///
/// `Documentation/json` describes each; ``schemaVersion`` changes where a field is renamed or removed.
struct Document<Content: Encodable>: Encodable {
  private enum CodingKeys: CodingKey { case schemaVersion, run, options }

  static var schemaVersion: Int { 1 }

  let content: Content
  /// The settings that the command was given, defaults included; nil where there is nothing to tell.
  var options: (any Encodable)?

  /// The document; NaN and infinities as strings, which JSON has no numbers for.
  var text: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.userInfo[.settingNames] = SettingNames.flags
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      encoder.nonConformingFloatEncodingStrategy = .convertToString(
        positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  func encode(to encoder: any Encoder) throws {
    try content.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(Self.schemaVersion, forKey: .schemaVersion)
    try container.encode(RunRecord(), forKey: .run)
    if let options { try container.encode(options, forKey: .options) }
  }
}
