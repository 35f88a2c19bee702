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
  package private(set) var isTransformerLens = false
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

// MARK: Hugging Face

extension Configuration {
  static let maximumByteCount = 1 << 20

  /// Reads a GPT-2's `config.json`, strictly: Hugging Face's, or, where it has the key `normalization_type`, the
  /// arguments of TransformerLens's HookedTransformerConfig.
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
      try self.init(huggingFace: json, path: path)
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

  private init(huggingFace json: JSONValue, path: String) throws(Refusal) {
    let fields = Fields(json: json, path: path)
    self.path = path
    self.json = json
    modelType = try fields.string("model_type")
    headCount = try fields.requiredCount("n_head", advice: "the tensors do not say how many heads there are")
    blockCount = try fields.count("n_layer")
    dModel = try fields.count("n_embd")
    dMLP = try fields.count("n_inner")
    let positions = try fields.count("n_positions")
    let context = try fields.count("n_ctx")
    contextLength = positions ?? context
    olderContextLength = context
    vocabularySize = try fields.count("vocab_size")
    epsilon = try fields.epsilon("layer_norm_epsilon")
    isTied = try fields.bool("tie_word_embeddings") ?? true
    scalesAttention = try fields.bool("scale_attn_weights") ?? true
    scalesAttentionByInverseBlock = try fields.bool("scale_attn_by_inverse_layer_idx") ?? false
    endOfText = try fields.count("eos_token_id")
    keptNorms = try fields.keptNorms("kept_norms")
    let isFolded = modelType == Model.foldedModelType
    if isFolded { normKind = try fields.choice("norm_kind") ?? .layer }
    if let hasBlockNorms = try fields.hasBlockNorms("norm_type") {
      try readNormFreeTraining(fields, hasBlockNorms: hasBlockNorms)
    } else {
      activation = try fields.activation("activation_function")
      if isFolded { leakySlopes = try fields.slopes("leaky_relu_slopes") }
    }
    guard leakySlopes == nil || activation.configName == Activation.leakyReLU(negativeSlope: 0).configName else {
      throw Refusal(
        .malformed, file: path, subject: "leaky_relu_slopes",
        "there are slopes, but the activation is \(activation.configName)")
    }
  }

  /// Of those models `n_ctx` is the length that they were trained on, and their attention knows no scale but 1/√dHead or
  /// none.
  private mutating func readNormFreeTraining(_ fields: Fields, hasBlockNorms: Bool) throws(Refusal) {
    olderContextLength = nil
    contextLength = try fields.count("n_positions")
    scalesAttentionByInverseBlock = false
    var slopes: NormFreeTraining.Slopes?
    switch try fields.string("activation_function") {
    case "leaky_relu": activation = .leakyReLU(negativeSlope: try fields.requiredNumber("lrelu_neg_slope"))
    case "learnable_lrelu":
      guard let mode: NormFreeTraining.Slopes = try fields.choice("learnable_lrelu_mode") else {
        throw Refusal(
          .malformed, file: path, subject: "learnable_lrelu_mode", "is missing",
          advice: "it says whether each block has one slope or one of many: global or per_layer")
      }
      slopes = mode
    default: activation = try fields.activation("activation_function")
    }
    normFree = NormFreeTraining(hasBlockNorms: hasBlockNorms, slopes: slopes)
  }
}

// MARK: TransformerLens

extension Configuration {
  /// Arguments of HookedTransformerConfig that we write or understand, or that change no logit. Any other may stand for
  /// an architecture that is none of ours.
  private static let transformerLensKeys: Set<String> = [
    "act_fn", "d_head", "d_mlp", "d_model", "d_vocab", "default_prepend_bos", "device", "init_weights", "model_name",
    "n_ctx", "n_heads", "n_layers", "normalization_type", "original_architecture", "positional_embedding_type",
    "scale_attn_by_inverse_layer_idx", "seed", "tokenizer_name", "use_attn_scale",
  ]

  private init(transformerLens json: JSONValue, path: String) throws(Refusal) {
    let fields = Fields(json: json, path: path)
    self.path = path
    self.json = nil
    isTransformerLens = true
    let unknown = (json.members ?? []).map(\.key).filter { !Self.transformerLensKeys.contains($0) }
    guard unknown.isEmpty else {
      throw Refusal(
        .unsupported, file: path,
        "\(unknown.count) argument\(unknown.count == 1 ? "" : "s") of HookedTransformerConfig not supported yet: "
          + unknown.joined(separator: ", "))
    }
    for (key, expected) in [
      ("normalization_type", JSONValue.null), ("positional_embedding_type", .string("standard")),
    ] {
      guard let found = json[key], found != expected else { continue }
      throw Refusal(
        .unsupported, file: path, subject: key, "expected \(expected.kind), found \(found.kind)",
        advice: "of TransformerLens, only networks without norms and with learned positions are read")
    }
    headCount = try fields.requiredCount("n_heads")
    blockCount = try fields.requiredCount("n_layers")
    let dModel = try fields.requiredCount("d_model")
    let dHead = try fields.requiredCount("d_head")
    guard headCount > 0, dModel % headCount == 0, dHead == dModel / headCount else {
      throw Refusal(
        .unsupported, file: path, subject: "d_head",
        "expected \(headCount) heads that make up the width \(dModel), found \(dHead) each")
    }
    self.dModel = dModel
    dMLP = try fields.count("d_mlp")
    contextLength = try fields.count("n_ctx")
    vocabularySize = try fields.count("d_vocab")
    guard json["act_fn"]?.string != nil else {
      throw Refusal(.malformed, file: path, subject: "act_fn", "is missing")
    }
    activation = try fields.activation("act_fn")
    isTied = false
    scalesAttention = try fields.bool("use_attn_scale") ?? true
    scalesAttentionByInverseBlock = try fields.bool("scale_attn_by_inverse_layer_idx") ?? false
    keyNames = [
      "n_layer": "n_layers", "n_head": "n_heads", "n_embd": "d_model", "n_inner": "d_mlp", "n_positions": "n_ctx",
      "vocab_size": "d_vocab",
    ]
  }
}

/// The fields of a JSON object, checked.
struct Fields {
  let json: JSONValue
  let path: String

  private func refusal(_ key: String, expected: String) -> Refusal {
    Refusal(.malformed, file: path, subject: key, "expected \(expected), found \(json[key]?.kind ?? "nothing")")
  }

  func count(_ key: String) throws(Refusal) -> Int? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let count = value.count, count < 1 << 32 else { throw refusal(key, expected: "a whole number below 2^32") }
    return count
  }

  func requiredCount(_ key: String) throws(Refusal) -> Int {
    guard let count = try count(key) else { throw refusal(key, expected: "a whole number") }
    return count
  }

  func requiredCount(_ key: String, advice: String) throws(Refusal) -> Int {
    guard let count = try count(key) else {
      throw Refusal(.malformed, file: path, subject: key, "is missing", advice: advice)
    }
    return count
  }

  func string(_ key: String) throws(Refusal) -> String? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let string = value.string else { throw refusal(key, expected: "a string") }
    return string
  }

  func bool(_ key: String) throws(Refusal) -> Bool? {
    guard let value = json[key], !value.isNull else { return nil }
    guard let bool = value.bool else { throw refusal(key, expected: "true or false") }
    return bool
  }

  /// A positive number, `usual` where nothing is said.
  func epsilon(_ key: String, usual: Double = 1e-5) throws(Refusal) -> Double {
    guard let value = json[key] else { return usual }
    guard let epsilon = value.double, epsilon > 0, epsilon.isFinite else {
      throw refusal(key, expected: "a positive, finite number")
    }
    return epsilon
  }

  func keptNorms(_ key: String) throws(Refusal) -> [String: Configuration.KeptPath] {
    guard let value = json[key], !value.isNull else { return [:] }
    guard let members = value.members else { throw refusal(key, expected: "an object") }
    var norms: [String: Configuration.KeptPath] = [:]
    for member in members {
      guard let path = member.value.string.flatMap(Configuration.KeptPath.init) else {
        throw refusal(key, expected: "an object of all, queries_keys or values")
      }
      norms[member.key] = path
    }
    return norms
  }

  func requiredNumber(_ key: String) throws(Refusal) -> Double {
    guard let number = json[key]?.double, number.isFinite else { throw refusal(key, expected: "a finite number") }
    return number
  }

  func slopes(_ key: String) throws(Refusal) -> [Double]? {
    guard let value = json[key], !value.isNull else { return nil }
    let numbers = value.array?.compactMap { $0.double.flatMap { $0.isFinite ? $0 : nil } }
    guard let numbers, numbers.count == value.array?.count else {
      throw refusal(key, expected: "an array of finite numbers")
    }
    return numbers
  }

  /// One of the words that a type knows.
  func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String
  ) throws(Refusal) -> Choice? where Choice.RawValue == String {
    guard let word = try string(key) else { return nil }
    guard let choice = Choice(rawValue: word) else {
      let known = Choice.allCases.map(\.rawValue).joined(separator: " or ")
      throw Refusal(.unsupported, file: path, subject: key, "expected \(known), found \(json[key]?.kind ?? "nothing")")
    }
    return choice
  }

  /// What relu-revival-normfree calls the norms of its blocks: LayerNorms or identities.
  func hasBlockNorms(_ key: String) throws(Refusal) -> Bool? {
    switch try string(key) {
    case nil: return nil
    case "ln": return true
    case "free": return false
    default:
      throw Refusal(
        .unsupported, file: path, subject: key, "expected ln or free, found \(json[key]?.kind ?? "nothing")")
    }
  }

  func activation(_ key: String, usual: Activation = .geluTanh) throws(Refusal) -> Activation {
    guard let value = json[key], !value.isNull else { return usual }
    guard let name = value.string else { throw refusal(key, expected: "a name") }
    guard let activation = Activation(configName: name) else {
      throw Refusal(
        .unsupported, file: path, subject: key, "the activation '\(name)' is unknown",
        advice: "known are \(Activation.knownConfigNames)")
    }
    return activation
  }
}

// MARK: nanoGPT and GGUF

extension Configuration {
  /// What a nanoGPT checkpoint keeps in `model_args`; nil where it is not one. nanoGPT's GELU is the exact one, its
  /// unembedding tied.
  init?(nanoGPT checkpoint: Checkpoint) throws(Refusal) {
    guard checkpoint.container == .pytorch, checkpoint.metadata["model_args.n_head"] != nil else { return nil }
    let metadata = Metadata(checkpoint: checkpoint, prefix: "model_args.")
    path = checkpoint.path
    json = nil
    headCount = try metadata.requiredCount("n_head")
    blockCount = try metadata.count("n_layer")
    dModel = try metadata.count("n_embd")
    contextLength = try metadata.count("block_size")
    vocabularySize = try metadata.count("vocab_size")
    biases = checkpoint.metadata["model_args.bias"]?.bool ?? true ? .everywhere : .asStored
    activation = .geluErf
    endOfText = 50_256
    keyNames = [
      "n_layer": "model_args.n_layer", "n_head": "model_args.n_head", "n_embd": "model_args.n_embd",
      "n_positions": "model_args.block_size", "vocab_size": "model_args.vocab_size",
    ]
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

  private init(ggufGPT2 checkpoint: Checkpoint) throws(Refusal) {
    let metadata = Metadata(checkpoint: checkpoint, prefix: "gpt2.")
    path = checkpoint.path
    json = nil
    headCount = try metadata.requiredCount("attention.head_count")
    blockCount = try metadata.count("block_count")
    dModel = try metadata.count("embedding_length")
    dMLP = try metadata.count("feed_forward_length")
    contextLength = try metadata.count("context_length")
    vocabularySize = try metadata.count("vocab_size")
    epsilon = try metadata.epsilon("attention.layer_norm_epsilon")
    isTied = checkpoint["output.weight"] == nil
    endOfText = checkpoint.metadata["tokenizer.ggml.eos_token_id"]?.integer
    keyNames = [
      "n_layer": "gpt2.block_count", "n_head": "gpt2.attention.head_count", "n_embd": "gpt2.embedding_length",
      "n_inner": "gpt2.feed_forward_length", "n_positions": "gpt2.context_length", "vocab_size": "gpt2.vocab_size",
    ]
  }
}

/// The numbers among a checkpoint's metadata, checked.
struct Metadata {
  let checkpoint: Checkpoint
  let prefix: String

  func count(_ key: String) throws(Refusal) -> Int? {
    guard let value = checkpoint.metadata[prefix + key] else { return nil }
    guard let count = value.integer, count >= 0, count < 1 << 32 else {
      throw Refusal(.malformed, file: checkpoint.path, subject: prefix + key, "expected a whole number below 2^32")
    }
    return count
  }

  func requiredCount(_ key: String) throws(Refusal) -> Int {
    guard let count = try count(key) else {
      throw Refusal(.malformed, file: checkpoint.path, subject: prefix + key, "is missing")
    }
    return count
  }

  /// A positive number. Stored as a Float: what was meant is the shortest decimal that it stands for, 1e12 and not
  /// 999999995904.
  func epsilon(_ key: String) throws(Refusal) -> Double {
    let stored = checkpoint.metadata[prefix + key]?.double
    guard let epsilon = stored.flatMap({ Double(String(Float($0))) }), epsilon > 0, epsilon.isFinite else {
      throw Refusal(
        .malformed, file: checkpoint.path, subject: prefix + key, "expected a positive, finite number",
        advice: "the file cannot be computed without it")
    }
    return epsilon
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
