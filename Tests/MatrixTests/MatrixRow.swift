import Foundation
import Glibc
import Logging
import NormFold
import NormFoldFormats
import TestSupport

@testable import NormFoldCommand

/// A bad input, or a bad place for an output, and what the command must make of it.
struct MatrixRow: Sendable {
  /// What must happen.
  enum Answer: Sendable {
    /// Exit status and the whole sentence.
    case refused(Int32, String)
    /// It converts and verifies, with these warnings.
    case accepted([String] = [])
    /// It converts, and does not verify: status 7, and nothing is published.
    case mismatch
  }

  /// A source and a destination, in a directory of their own.
  struct Arrangement {
    let place: TemporaryDirectory
    let source: String
    /// Kept as long as it is needed: the source may be a checkpoint that vanishes with its owner.
    var owner: AnyObject?
    var destination: String
    /// The directory of an adapter that is merged into the source.
    let adapter: String?

    init(_ place: TemporaryDirectory, _ source: String, owner: AnyObject? = nil, adapter: String? = nil) {
      self.place = place
      self.source = source
      self.owner = owner
      self.adapter = adapter
      destination = place / "out"
    }
  }

  /// The row of the table of known bad inputs that it belongs to.
  let number: Int
  let name: String
  let answer: Answer
  var alterConversion: @Sendable (inout Conversion) -> Void = { _ in }
  /// Makes the input, and changes the destination where that is what is bad. At the destination there is an
  /// older output already.
  let arrange: @Sendable (TemporaryDirectory) throws -> Arrangement

  init(
    _ number: Int, _ name: String, _ answer: Answer,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in },
    arrange: @escaping @Sendable (TemporaryDirectory) throws -> Arrangement
  ) {
    self.number = number
    self.name = name
    self.answer = answer
    alterConversion = conversion
    self.arrange = arrange
  }

  // MARK: Kinds of input

  /// A directory with these files, and the config of a sound checkpoint where there is none among them.
  init(
    _ number: Int, _ name: String, files: [String: [UInt8]], _ answer: Answer,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in }
  ) {
    self.init(number, name, answer, conversion: conversion) { place in
      let source = place / "in"
      try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
      if files["config.json"] == nil {
        try FileManager.default.copyItem(
          atPath: Fixtures.path("tiny-2x32/lnfree/config.json"), toPath: source + "/config.json")
      }
      for (name, bytes) in files { try Data(bytes).write(to: URL(filePath: source + "/" + name)) }
      return Arrangement(place, source)
    }
  }

  /// A checkpoint of the fixtures, changed.
  init(
    _ number: Int, _ name: String, of fixture: String = "lnfree", _ answer: Answer,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in },
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) {
    self.init(number, name, answer, conversion: conversion) { place in
      let altered = try AlteredCheckpoint(of: "tiny-2x32/" + fixture, alter: alter)
      return Arrangement(place, altered.path, owner: altered)
    }
  }

  /// A copy of a fixture's directory, its files changed.
  init(
    _ number: Int, _ name: String, copyOf fixture: String, _ answer: Answer,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in },
    change: @escaping @Sendable (_ source: String) throws -> Void
  ) {
    self.init(number, name, answer, conversion: conversion) { place in
      let source = place / "in"
      try FileManager.default.copyItem(atPath: Fixtures.path("tiny-2x32/" + fixture), toPath: source)
      try change(source)
      return Arrangement(place, source)
    }
  }

  // MARK: Running

  /// Everything in a directory: kinds and modes, and the bytes of files.
  private func snapshot(of path: String) throws -> [String: [UInt8]] {
    var result: [String: [UInt8]] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
      var status = stat()
      guard lstat(path + "/" + name, &status) == 0 else { throw CocoaError(.fileReadUnknown) }
      let isFile = status.st_mode & S_IFMT == S_IFREG
      result[name] =
        little(UInt32(status.st_mode)) + (isFile ? [UInt8](try Data(contentsOf: URL(filePath: path + "/" + name))) : [])
    }
    return result
  }

  struct Outcome {
    let isAsSpecified: Bool
    let found: String
  }

  func run() throws -> Outcome {
    let place = try TemporaryDirectory()
    try FileManager.default.createDirectory(atPath: place / "out", withIntermediateDirectories: false)
    try place.write(Array("{}".utf8), to: "out/config.json")
    try place.write([1, 2, 3], to: "out/model.safetensors")
    let arrangement = try arrange(place)
    defer { withExtendedLifetime(arrangement.owner) {} }
    let before = try snapshot(of: place.path)
    var conversion = Conversion(
      source: arrangement.source, destination: arrangement.destination, targets: ["transformers"])
    conversion.replacesDestination = true
    conversion.probeOptions.probeLength = 4
    if let adapter = arrangement.adapter { conversion.readingOptions.adapters = [adapter] }
    alterConversion(&conversion)
    func short(_ text: String) -> String {
      text.replacing(arrangement.source, with: "in").replacing(place.path + "/", with: "")
    }
    let found: String
    var isSame = false
    do throws(Refusal) {
      let report = try conversion.run(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      let warnings = report.warnings.map { short($0.text(naming: .flags)) }
      found = report.holds ? "accepted(\(warnings))" : "mismatch"
      switch answer {
      case .accepted(let expected): isSame = report.holds && warnings == expected
      case .mismatch: isSame = !report.holds && !report.published
      case .refused: break
      }
      if report.holds {
        return Outcome(isAsSpecified: isSame, found: found)
      }
    } catch {
      let status = ExitStatus(error.category).rawValue
      let sentence = short(error.text(naming: .flags))
      found = "refused(\(status), \(sentence.debugDescription))"
      if case .refused(let expectedStatus, let expected) = answer {
        isSame = expectedStatus == status && expected == sentence
      }
    }
    let isUntouched = try snapshot(of: place.path) == before
    return Outcome(isAsSpecified: isSame && isUntouched, found: isUntouched ? found : found + ", but left something")
  }
}
