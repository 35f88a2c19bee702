import ArgumentParser
import Foundation
import NormFoldFormats
import Testing

@testable import NormFoldCommand

@Suite struct SettingNamesTests {
  @Test("Every setting is a flag that a command has")
  func flags() {
    let commands: [any ParsableCommand.Type] = [
      ConvertCommand.self, RemoveCommand.self, VerifyCommand.self, EvalCommand.self, CalibrateCommand.self,
      GenerateCommand.self,
      TokenizeCommand.self,
    ]
    let words = Set(
      commands.flatMap { command in
        RootCommand.helpMessage(for: command, columns: 200).split { !($0.isLetter || $0 == "-") }.map(String.init)
      })
    for setting in Setting.allCases {
      #expect(!setting.flags.isEmpty)
      for flag in setting.flags { #expect(words.contains(flag), "\(setting): \(flag)") }
    }
  }

  @Test("A message has one name for its user and another for a program")
  func names() throws {
    let message: Message =
      "give \(.probeLength) \(32), pass \(.tokenizer, "absent") or \(.normForm, "unit"), or drop \(.rules, "center-unembed")"
    #expect(
      message.description
        == "give probeLength 32, pass tokenizer = absent or normForm = unit, or drop rules = center-unembed"
    )
    #expect(
      message.text(naming: .flags)
        == "give --probe-length 32, pass --tokenizer none or --to-norm unit, or drop --center-unembed")
    let encoder = JSONEncoder()
    #expect(try encoder.encode(["a": message]) == Data(#"{"a":"\#(message.description)"}"#.utf8))
    encoder.userInfo[.settingNames] = SettingNames.flags
    #expect(try encoder.encode([message]) == Data(#"["\#(message.text(naming: .flags))"]"#.utf8))
  }

  /// Flags of zstd's own command, which two messages recommend.
  private static let flagsOfOthers = ["--long=27 or without --long", "zstd --check", "export.py with --version -1"]

  @Test("No message of the library names a flag: \\(.setting) does, and the command says how it is spelt")
  func literals() throws {
    let sources = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Sources").standardized
    let flag = try Regex(#"(^|[^-\w])--[a-z]"#)
    var fileCount = 0
    let modules = try FileManager.default.contentsOfDirectory(atPath: sources.path).filter { $0 != "Command" }
    for module in modules {
      let directory = sources.appending(path: module).path
      for name in try FileManager.default.subpathsOfDirectory(atPath: directory) where name.hasSuffix(".swift") {
        // Custom properties of CSS begin so, too.
        if name == "StyleSheet.swift" { continue }
        fileCount += 1
        let text = try String(contentsOfFile: directory + "/" + name, encoding: .utf8)
        for line in text.split(separator: "\n") {
          let code = line.drop { $0 == " " }
          if code.hasPrefix("//") { continue }
          let rest = Self.flagsOfOthers.reduce(String(code)) { $0.replacing($1, with: "") }
          #expect(rest.firstMatch(of: flag) == nil, "\(module)/\(name): \(code)")
        }
      }
    }
    #expect(fileCount > 150)
  }
}
