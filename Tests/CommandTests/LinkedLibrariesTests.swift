import Foundation
import Testing

@Suite("Libraries that the program needs")
struct LinkedLibrariesTests {
  @Test("Nothing of it links full Foundation, and with it forty megabytes of ICU")
  func foundation() throws {
    let program = try Data(contentsOf: Command.executable)
    // The names stand in the program as the linker put them there.
    #expect(program.range(of: Data("libFoundationEssentials.so\0".utf8)) != nil)
    for library in ["libFoundation.so", "libFoundationInternationalization.so", "lib_FoundationICU.so"] {
      #expect(program.range(of: Data("\(library)\0".utf8)) == nil, "\(library) is linked")
    }
  }
}
