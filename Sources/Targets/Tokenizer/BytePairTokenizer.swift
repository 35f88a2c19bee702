import Formats
import Networks

/// A byte-level BPE tokenizer of GPT-2's kind, whatever files it was read from.
struct BytePairTokenizer {
  /// By ggml's numbers.
  enum Kind: Int32 {
    case normal = 1
    /// Never the result of tokenizing plain text: the end of text.
    case control = 3
    /// Added beside the merges, and found in plain text.
    case userDefined = 4
    case unused = 5
  }

  struct Token: Equatable {
    /// Of a normal token: bytes in GPT-2's printable alphabet (`Ġ` for a space); of others: the text itself.
    var text: String
    var kind: Kind
  }

  enum SpecialRole: String, CaseIterable {
    case beginOfText = "bos_token"
    case endOfText = "eos_token"
    case unknown = "unk_token"
    case padding = "pad_token"
  }

  /// Where it was read, for messages.
  let path: String
  /// By id; not every id needs to have one.
  var tokens: [Int: Token] = [:]
  /// In order of rank: two parts with a space between.
  var merges: [String] = []
  var specialTokens: [SpecialRole: Int] = [:]
  var addsBeginOfText = false

  init(path: String) { self.path = path }

  /// The id of a token by its exact text: Swift would hold "é" and "e\u{301}" for equal.
  func id(of text: String) -> Int? {
    tokens.first { $0.value.text == text && $0.value.text.utf8.elementsEqual(text.utf8) }?.key
  }
}

extension Model {
  /// The tokenizer that the user names, or the one that the checkpoint brings; nil where there is none.
  ///
  /// - Throws: `.usage` where a directory that was named holds none; what reading throws.
  func bytePairTokenizer() throws(Refusal) -> BytePairTokenizer? {
    var tokenizer: BytePairTokenizer?
    switch self.tokenizer {
    case .absent: return nil
    case .directory(let directory):
      tokenizer = try BytePairTokenizer(directory: directory)
      guard tokenizer != nil else { throw Self.noTokenizer(in: directory) }
    case .ofCheckpoint:
      if let header = try ggufHeader(), let own = BytePairTokenizer(gguf: header, path: checkpoint.path) { return own }
      tokenizer = try BytePairTokenizer(directory: directory)
    }
    try tokenizer?.completeSpecialTokens(from: configuration)
    return tokenizer
  }

  /// Files that belong to the tokenizer and to generation, for runtimes that read them as Hugging Face lays them out:
  /// copies, or made from the keys of a GGUF source.
  func tokenizerFiles() throws(Refusal) -> [(name: String, bytes: [UInt8])] {
    let generation = "generation_config.json"
    switch tokenizer {
    case .absent: return try copies(of: [generation], in: directory)
    case .directory(let other):
      let files = try copies(of: Self.tokenizerFileNames, in: other)
      guard !files.isEmpty else { throw Self.noTokenizer(in: other) }
      return try files + copies(of: [generation], in: directory)
    case .ofCheckpoint:
      if let header = try ggufHeader(), let own = BytePairTokenizer(gguf: header, path: checkpoint.path) {
        return own.files
      }
      return try copies(of: Self.tokenizerFileNames + [generation], in: directory)
    }
  }

  private static func noTokenizer(in directory: String) -> Refusal {
    Refusal(
      .usage, file: directory, "holds neither tokenizer.json nor vocab.json and merges.txt",
      advice: "name the directory of the tokenizer with --tokenizer, or pass --tokenizer none")
  }

  private static let tokenizerFileNames = [
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json",
  ]

  /// The largest tokenizers in use take a tenth of it.
  private static let maximumCarriedByteCount = 256 << 20

  private func copies(of names: [String], in directory: String) throws(Refusal) -> [(name: String, bytes: [UInt8])] {
    var files: [(String, [UInt8])] = []
    for name in names {
      let path = "\(directory)/\(name)"
      // What the user named is at home where it lies; what lies beside a checkpoint must not lead elsewhere.
      let homes = HomeDirectories(ofFileAt: directory == self.directory ? checkpoint.path : path)
      guard let isAtHome = homes.contain(fileAt: path) else { continue }
      guard isAtHome else {
        throw Refusal(
          .malformed, file: path, "is a link that leaves the directory, and would be copied into the output",
          advice: "copy the file itself there, or remove the link")
      }
      let file = try MappedFile(path: path)
      guard file.byteCount <= Self.maximumCarriedByteCount else {
        throw Refusal(
          .malformed, file: path,
          "a file beside the weights has at most \(Self.maximumCarriedByteCount) bytes, found \(file.byteCount)")
      }
      let bytes = try file.parse { (bytes) throws(Refusal) in
        try GitLFSPointer.refuse(bytes, file: path)
        return unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
      }
      files.append((name, bytes))
    }
    return files
  }
}
