import Formats

/// What a checkpoint says of itself beside its tensors. Sizes are held against the tensors later; here only types and
/// ranges are checked.
package struct Configuration: Sendable {
  /// Where it was read, for messages.
  package let path: String
  /// The `config.json`, so that what we do not know can be carried along; nil where there was none.
  package let json: JSONValue?

  package var modelType: String?
  package var architecture = Architecture.gpt2
  package var headCount: Int
  /// As many as heads of the queries, where nothing is said.
  package var keyValueHeadCount: Int?
  /// The width of a head: the share that each has of the width, where nothing is said.
  package var dHead: Int?
  package var blockCount: Int?
  package var dModel: Int?
  package var dMLP: Int?
  package var contextLength: Int?
  /// `n_ctx`, which older files write beside `n_positions`.
  package var olderContextLength: Int?
  package var vocabularySize: Int?
  package var activation = Activation.geluTanh
  /// Under the square root of every computed norm.
  package var epsilon = 1e-5
  package var isTied = true
  package var rotary: Rotary?
  package var scalesAttention = true
  package var scalesAttentionByInverseBlock = false
  package var endOfText: Int?
  /// Of what we write for transformers: the paths of the norms that are kept, by name.
  package var keptNorms: [String: KeptPath] = [:]
  /// And what kind they are of.
  package var normKind = Norm.Kind.layer
  /// And the slopes of its leaky ReLUs by block, where they differ.
  package var leakySlopes: [Double]?
  /// Of a model of Nandan91/relu-revival-normfree, what its config says beside GPT-2's keys.
  package var normFree: NormFreeTraining?
  /// Whether these are the arguments of TransformerLens's HookedTransformerConfig.
  package internal(set) var isTransformerLens = false
  package var biases = Biases.everywhere

  /// Which norms and maps have biases.
  package enum Biases: Equatable, Sendable {
    case everywhere
    /// Where a tensor holds one.
    case asStored
    /// No norm; all maps of an attention or of an MLP, or none.
    case ofMaps(attention: Bool, mlp: Bool)
  }

  /// Which readers of a site still read a norm.
  package enum KeptPath: String, Sendable {
    case all
    case queriesAndKeys = "queries_keys"
    case values
  }

  /// How the source spells the keys of a Hugging Face config, where it spells them otherwise.
  var keyNames: [String: String] = [:]

  /// The key `name` of a Hugging Face config as this source spells it.
  package func keyName(_ name: String) -> String { keyNames[name] ?? name }

  /// The factor on the attention scores of a block, 1/√dHead unless the config says otherwise.
  package func attentionScale(block: Int, dHead: Int) -> Double {
    (scalesAttention ? 1 / Double(dHead).squareRoot() : 1) / (scalesAttentionByInverseBlock ? Double(block + 1) : 1)
  }
}

extension Configuration {
  static let maximumByteCount = 1 << 20

  /// Reads a `config.json`, strictly: Hugging Face's, of a GPT-2 unless it says LLaMA, or, where it has the key
  /// `normalization_type`, the arguments of TransformerLens's HookedTransformerConfig.
  ///
  /// - Throws: `.malformed` for text that is not strict JSON or a field of the wrong type, `.unsupported` for an
  ///   activation that we do not know.
  package init(path: String) throws(Refusal) {
    let json = try Self.json(at: path)
    if json["normalization_type"] != nil {
      try self.init(transformerLens: json, path: path)
    } else if json["model_type"]?.string == Architecture.llama.modelType {
      try self.init(llama: json, path: path)
    } else {
      try self.init(gpt2: json, path: path)
    }
  }

  private static func json(at path: String) throws(Refusal) -> JSONValue {
    let file = try MappedFile(path: path)
    guard file.byteCount <= Self.maximumByteCount else {
      throw Refusal(
        .malformed, file: path, "a config has at most \(Self.maximumByteCount) bytes, found \(file.byteCount)")
    }
    let json = try file.parse { (bytes) throws(Refusal) in
      try GitLFSPointer.refuse(bytes, file: path)
      return try JSONValue(parsing: bytes, file: path)
    }
    guard json.members != nil else {
      throw Refusal(.malformed, file: path, "expected a JSON object, found \(json.kind)")
    }
    return json
  }

  /// The keys of a GGUF file.
  ///
  /// - Throws: `.unsupported` for an architecture that is none of ours.
  init(gguf checkpoint: Checkpoint) throws(Refusal) {
    let architecture = checkpoint.metadata["general.architecture"]?.string
    switch architecture {
    case Architecture.gpt2.modelType: try self.init(ggufGPT2: checkpoint)
    case Architecture.llama.modelType: try self.init(ggufLLaMA: checkpoint)
    default:
      throw .unsupportedArchitecture(
        architecture ?? "none", file: checkpoint.path, subject: Refusal.architectureKeys[0])
    }
  }
}

extension Refusal {
  /// Where containers say what architecture a checkpoint has.
  fileprivate static let architectureKeys = ["general.architecture", "model_type"]
  private static let architectureSuffix = "' is not supported yet"

  static func unsupportedArchitecture(_ name: String, file: String, subject: String) -> Refusal {
    Refusal(
      .unsupported, file: file, subject: subject, "'\(name)\(architectureSuffix)",
      advice: "supported are \(Architecture.all.map(\.modelType).joined(separator: " and "))")
  }

  /// The architecture, where that is why a checkpoint was refused.
  package var unsupportedArchitecture: String? {
    guard category == .unsupported, let subject, Self.architectureKeys.contains(subject),
      problem.hasPrefix("'"), problem.hasSuffix(Self.architectureSuffix)
    else { return nil }
    return String(problem.dropFirst().dropLast(Self.architectureSuffix.count))
  }
}
