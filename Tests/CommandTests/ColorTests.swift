import Foundation
import Testing
import TestSupport

@testable import NormFoldCommand

/// Verdicts in colour. What a terminal shows is looked at by `Tests/Journeys/colours.journey`.
@Suite struct ColorTests {
  private static let code = "\u{1B}["

  @Test("Colours are there where they are asked for, and no other text changes")
  func always() throws {
    for (arguments, status) in [(["verify", "lnfree", "vanilla"], Int32(7)), (["verify", "lnfree", "fakeln"], 0)] {
      let plain = try Command.run(arguments)
      let colored = try Command.run(arguments + ["--color", "always"], environment: ["NO_COLOR": "1"])
      #expect(plain.status == status && colored.status == status)
      #expect(!plain.output.contains(Self.code))
      #expect(colored.output.contains(Self.code + (status == 0 ? "32m" : "1;31m")))
      #expect(colored.output.replacing(/\u{1B}\[[0-9;]*m/, with: "") == plain.output)
    }
  }

  @Test("A file and a pipe have none, nor has a document")
  func none() throws {
    for arguments in [
      ["verify", "lnfree", "vanilla"], ["verify", "lnfree", "vanilla", "--json", "--color", "always"],
    ] {
      #expect(!(try Command.run(arguments).output.contains(Self.code)))
    }
  }

  @Test("A refusal has a coloured beginning")
  func refusal() throws {
    let result = try Command.run(["inspect", "absent", "--color", "always"])
    #expect(result.error.hasPrefix("\u{1B}[1;31merror:\u{1B}[0m absent: "))
    #expect(try Command.run(["inspect", "absent"]).error.hasPrefix("error: absent: "))
  }

  @Test("Another word is refused")
  func unknown() throws {
    let result = try Command.run(["inspect", "lnfree", "--color", "purple"])
    #expect(result.status == 2 && result.error.contains("'auto', 'always' or 'never'"))
  }

  @Test("Colours take no room")
  func width() {
    #expect("holds".columnCount == 5)
    #expect("\u{1B}[32mholds\u{1B}[0m".columnCount == 5)
    #expect("a \u{1B}[1;31mb\u{1B}[0m c".wrapped(to: 5) == "a \u{1B}[1;31mb\u{1B}[0m c")
  }
}
