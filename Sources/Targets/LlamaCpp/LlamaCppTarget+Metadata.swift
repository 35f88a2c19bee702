import NormFoldFormats
import NormFoldNetworks

extension LlamaCppTarget {
  /// The keys of the file but for the tokenizer's, each of exactly the type that llama.cpp asks for. Those of a GGUF source
  /// that speak of the model and not of the file (author, license, name) come along.
  func metadata(
    of stock: StockClass, _ sizes: Hyperparameters, from source: TargetSource, type: ElementType,
    parameters: [TargetOutput.StoredParameter]
  ) throws(Refusal) -> [(key: String, value: GGUFValue)] {
    let carried = source.ggufHeader?.metadata.filter { Self.isCarried($0.key) } ?? []
    var keys: [(key: String, value: GGUFValue)] = [("general.architecture", .string(stock.name))]
    func addUnlessCarried(_ key: String, _ value: @autoclosure () -> GGUFValue) {
      if !carried.contains(where: { $0.key == key }) { keys.append((key, value())) }
    }
    addUnlessCarried("general.type", .string("model"))
    addUnlessCarried("general.name", .string(source.displayName))
    let elementCount = parameters.reduce(0) { $0 + $1.info.elementCount }
    addUnlessCarried("general.size_label", .string(Self.sizeLabel(elementCount)))
    for (key, value) in source.provenance { addUnlessCarried(key, value) }
    if type.elementsPerBlock > 1 { addUnlessCarried("general.quantized_by", .string("normfold")) }
    keys += carried
    let fileType = try fileType(of: type)
    keys.append(("general.file_type", .u32(fileType)))
    keys.append(("general.quantization_version", .u32(2)))
    for (key, value) in stock.architecture.gguf?.configuration.members(of: sizes) ?? [] {
      let name = "\(stock.name).\(key.name)"
      switch key.kind {
      case .count: if let count = value.count { keys.append((name, .u32(UInt32(count)))) }
      case .number: if let number = value.double { keys.append((name, .f32(Float(number)))) }
      case .flag: if let flag = value.bool { keys.append((name, .bool(flag))) }
      case .other: if let text = value.string { keys.append((name, .string(text))) }
      }
    }
    if let pooling = try source.pooling(for: stock) { keys.append((Self.poolingKey(of: stock), pooling)) }
    if stock.layout.slot(of: "embedding.types.weight", blockCount: 1) != nil {
      keys.append((Self.tokenTypeKey, .u32(UInt32(source.network.tokenTypeEmbedding?.rowCount ?? 1))))
    }
    return keys
  }

  /// llama.cpp asks the tokenizer how many types of tokens there are.
  static let tokenTypeKey = "tokenizer.ggml.token_type_count"

  fileprivate static func poolingKey(of stock: StockClass) -> String { "\(stock.name).pooling_type" }

  private static func isCarried(_ key: String) -> Bool {
    let ours: Set = [
      "general.architecture", "general.file_type", "general.quantization_version", "general.alignment",
    ]
    return key.hasPrefix("general.") && !ours.contains(key)
  }

  /// Returns what llama.cpp calls `llama_ftype`: the type of most matrices.
  private func fileType(of type: ElementType) throws(Refusal) -> UInt32 {
    switch type {
    case .f32: 0
    case .f16: 1
    case .q4_0: 2
    case .q4_1: 3
    case .q8_0: 7
    case .q5_0: 8
    case .q5_1: 9
    case .bf16: 32
    default: throw Refusal(.unsupported, subject: name, "cannot be stored as \(type.displayName)")
    }
  }

  /// The number of elements as people name models by it: two digits at least, `918K`, `124M`, `1.6B`.
  static func sizeLabel(_ count: Int) -> String {
    let (unit, suffix) =
      switch count {
      case 1_000_000_000_000...: (1e12, "T")
      case 1_000_000_000...: (1e9, "B")
      case 1_000_000...: (1e6, "M")
      default: (1e3, "K")
      }
    let scaled = Double(count) / unit
    return scaled.text(.fixed(scaled.rounded() < 10 ? 1 : 0)) + suffix
  }
}

extension TargetSource {
  /// llama.cpp's number for how the states of an encoder become one vector: what a GGUF source says, or what lies beside the
  /// checkpoint; nil where nothing says it.
  ///
  /// - Throws: what reading it throws.
  func pooling(for stock: StockClass) throws(Refusal) -> GGUFValue? {
    guard stock.architecture.task == .features else { return nil }
    if let ggufHeader { return ggufHeader.value(LlamaCppTarget.poolingKey(of: stock)) }
    switch try Pooling(besideCheckpointIn: directory)?.kind {
    case .mean: return .u32(1)
    case .classification: return .u32(2)
    case .last: return .u32(3)
    case nil: return nil
    }
  }

  /// The name of the directory, or the id of a model of the Hub.
  var displayName: String { HubCache.name(ofModelIn: directory) }

  /// The origin of the weights, by the standard keys of GGUF; empty unless the weights lie in the Hub's cache, where
  /// the path says it.
  ///
  /// Source: ggml's docs/gguf.md, "General metadata".
  fileprivate var provenance: [(key: String, value: GGUFValue)] {
    // Directories have no slash in their names.
    let parts = displayName.split(separator: "/", maxSplits: 1)
    guard parts.count == 2 else { return [] }
    let (address, base) = ("https://huggingface.co/\(displayName)", "general.base_model")
    return [
      ("general.source.url", .string(address)), ("general.source.repo_url", .string(address)),
      ("general.source.huggingface.repository", .string(displayName)), ("\(base).count", .u32(1)),
      ("\(base).0.name", .string(String(parts[1]))), ("\(base).0.organization", .string(String(parts[0]))),
      ("\(base).0.repo_url", .string(address)),
    ]
  }
}

extension Double {
  /// For messages: `4.7e-04`, `0.17`.
  var twoDigits: String { text(self < 0.01 ? .scientific(1) : .significant(2)) }
}
