import Foundation
import Testing
import TestSupport

@testable import NormFoldFormats

@Suite struct StagedPageTests {
  private static let page = "<!DOCTYPE html>\n<html></html>\n"

  private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  @Test("A page appears whole, under its name alone")
  func appears() throws {
    let place = try TemporaryDirectory()
    let warnings = try StagedOutput.write(
      bytes(Self.page), to: Destination(page: place / "report.html", replacing: false))
    #expect(warnings == [])
    #expect(try content(ofDirectory: place.path) == ["report.html": Data(Self.page.utf8)])
  }

  @Test("A page is replaced if that is allowed, anything else never is", arguments: [true, false])
  func replaces(replacing: Bool) throws {
    let place = try TemporaryDirectory()
    try place.write(bytes(Self.page + "old"), to: "page.html")
    try place.write(bytes("weights"), to: "model.safetensors")
    try place.write([], to: "empty")
    try FileManager.default.createDirectory(atPath: place / "directory", withIntermediateDirectories: false)
    try FileManager.default.createSymbolicLink(atPath: place / "link", withDestinationPath: place / "page.html")
    let before = try content(ofDirectory: place.path)
    for name in ["model.safetensors", "empty", "directory", "link", "directory/", "page.html/a"] {
      let refusal = #expect(throws: Refusal.self) {
        _ = try Destination(page: place / name, replacing: replacing)
      }
      #expect(refusal?.category == .output)
    }
    #expect(try content(ofDirectory: place.path) == before)
    if replacing {
      let destination = try Destination(page: place / "page.html", replacing: true)
      #expect(try StagedOutput.write(bytes(Self.page), to: destination) == [])
      #expect(try content(ofDirectory: place.path)["page.html"] == Data(Self.page.utf8))
      #expect(try content(ofDirectory: place.path).count == before.count)
    } else {
      #expect(throws: Refusal.self) { _ = try Destination(page: place / "page.html", replacing: false) }
    }
  }

  @Test("What appears meanwhile stays")
  func appearsMeanwhile() throws {
    let place = try TemporaryDirectory()
    let destination = try Destination(page: place / "report.html", replacing: false)
    try place.write(bytes("another's"), to: "report.html")
    let refusal = #expect(throws: Refusal.self) { try StagedOutput.write(bytes(Self.page), to: destination) }
    #expect(refusal?.category == .output)
    #expect(try content(ofDirectory: place.path) == ["report.html": Data("another's".utf8)])
  }

  @Test(
    "A page is not put where a directory of output will be, however that is spelt",
    arguments: [
      ("out/report.html", true), ("out/.cache/report.html", true), ("./beside/../out/report.html", true),
      ("link/report.html", true), ("report.html", false), ("beside/report.html", false), ("out.html", false),
    ])
  func overlap(name: String, isRefused: Bool) throws {
    let place = try TemporaryDirectory()
    for directory in ["out/.cache", "beside"] {
      try FileManager.default.createDirectory(atPath: place / directory, withIntermediateDirectories: true)
    }
    try place.write(bytes("{}"), to: "out/config.json")
    try FileManager.default.createSymbolicLink(atPath: place / "link", withDestinationPath: place / "out")
    let output = try Destination(directory: place / "out", replacing: true)
    let page = try Destination(page: place / name, replacing: false)
    if isRefused {
      #expect(throws: Refusal.self) { try page.refuse(in: output) }
    } else {
      try page.refuse(in: output)
    }
  }

  @Test("Nor under the very name of a directory that is still to appear")
  func sameName() throws {
    let place = try TemporaryDirectory()
    let output = try Destination(directory: place / "out/", replacing: false)
    let page = try Destination(page: place / "./out", replacing: false)
    #expect(throws: Refusal.self) { try page.refuse(in: output) }
  }
}
