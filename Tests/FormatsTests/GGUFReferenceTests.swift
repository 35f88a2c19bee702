import Testing

/// What the reference readers make of the files of ``GGUFReaderTests``: `gguf_init_from_file` of ggml, as it is in
/// xllamacpp 2026.10.11549, and `GGUFReader` of gguf-py 0.19. Each file was given to both. Where nothing is said here,
/// both refuse what we refuse and accept what we accept.
struct GGUFReference: Sendable {
  enum Verdict: Sendable { case accepts, rejects, hangs }

  let ggml: Verdict
  let python: Verdict
  /// Why we answer otherwise.
  let reason: String

  static let otherwise: [String: GGUFReference] = [
    "key with NUL": .init(
      ggml: .accepts, python: .accepts, reason: "C programs end the key there: two keys look like one"),
    "key not UTF-8": .init(ggml: .accepts, python: .rejects, reason: "the format demands UTF-8"),
    "key of 65,536 bytes": .init(ggml: .accepts, python: .accepts, reason: "the format allows 65,535"),
    "string not UTF-8": .init(
      ggml: .accepts, python: .accepts, reason: "the format demands UTF-8; gguf-py fails on use"),
    "bool 2": .init(ggml: .accepts, python: .accepts, reason: "the format calls other values than 0 and 1 invalid"),
    "array of bools with a 2": .init(ggml: .accepts, python: .accepts, reason: "the same"),
    "array of 2^62": .init(ggml: .rejects, python: .hangs, reason: "as ggml"),
    "array of −1": .init(ggml: .rejects, python: .hangs, reason: "as ggml"),
    "alignment 2^31": .init(ggml: .accepts, python: .accepts, reason: "a padding of gigabytes is damage or an attack"),
    "alignment 2^21": .init(ggml: .accepts, python: .accepts, reason: "the same"),
    "split.count as u32": .init(ggml: .accepts, python: .accepts, reason: "llama.cpp stops when it looks at the key"),
    "empty name": .init(ggml: .accepts, python: .accepts, reason: "a tensor must be nameable"),
    "name with NUL": .init(
      ggml: .accepts, python: .accepts, reason: "C programs end the name there: two names look like one"),
    "name not UTF-8": .init(ggml: .accepts, python: .rejects, reason: "the format demands UTF-8"),
    "a zero extent behind the end of the file": .init(
      ggml: .rejects, python: .accepts, reason: "no byte of any tensor is missing"),
    "the last tensor not padded": .init(
      ggml: .rejects, python: .accepts, reason: "no byte of any tensor is missing, and files without that padding exist"
    ),
  ]

  @Suite struct Tests {
    @Test("Every difference from the references belongs to a row, and is one")
    func differences() {
      let refused = Set((GGUFReaderTests.headers + GGUFReaderTests.pairs + GGUFReaderTests.tensors).map(\.name))
      let accepted = Set(GGUFReaderTests.valid.map(\.name))
      for (name, verdict) in otherwise {
        #expect(refused.contains(name) != accepted.contains(name), "there is no row '\(name)'")
        if refused.contains(name) { #expect(verdict.ggml == .accepts || verdict.python != .rejects) }
        // More lenient than one of them, never than both.
        if accepted.contains(name) { #expect(verdict.ggml == .accepts || verdict.python == .accepts) }
      }
      print(
        "GGUF: \(refused.count) files refused and \(accepted.count) accepted; ggml or gguf-py differ on \(otherwise.count)"
      )
    }
  }
}
