import Foundation
import NormFoldFormats

/// The verdicts of a fuzzer's parser on many inputs at once, for `Fuzz/compare`, which holds them against those of a
/// reference reader.
struct Verdicts {
  /// Inputs one after the other, each behind its length in four bytes.
  private let inputs: Data

  init(path: String) throws { inputs = try Data(contentsOf: URL(filePath: path)) }

  /// A line for each input: `ok`, or the refusal.
  func text(by fuzzer: Fuzzer) throws -> String {
    guard case .bytes(let run) = fuzzer.run else { return "" }
    var lines = ""
    var start = inputs.startIndex
    while start < inputs.endIndex {
      let end = start + 4 + inputs[start..<start + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
      do {
        try run(MappedFile(copying: [UInt8](inputs[(start + 4)..<end]), path: fuzzer.fileName))
        lines += "ok\n"
      } catch {
        lines += "\(error)\n"
      }
      start = end
    }
    return lines
  }
}
