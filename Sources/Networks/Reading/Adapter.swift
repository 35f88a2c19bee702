import NormFoldFormats

/// An adapter of peft: tensors that take the places of some of a network's (LN_TUNING, arXiv 2312.11420, and every module
/// that was trained whole), or matrices of low rank that are added to some of its weights (LoRA, arXiv 2106.09685).
///
///     adapter_config.json          peft_type, task_type, lora_alpha, modules_to_save, …
///     adapter_model.safetensors    base_model.model.bert.encoder.layer.0.output.LayerNorm.ln_tuning_layers.weight
///                                  base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight   [rank, in]
///                                  base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight   [out, rank]
///                                  base_model.model.classifier.weight
///
/// The name of the adapter (`default`) may stand behind `ln_tuning_layers`, `lora_A` and `modules_to_save`.
package struct Adapter: Sendable {
  /// The change that an adapter makes to one tensor of the network.
  enum Change: Sendable {
    case replacement(Tensor)
    /// up·down·scale is added, [out, in].
    case lowRank(down: Tensor, up: Tensor, scale: Float)
  }

  /// The directory.
  let path: String
  let checkpoint: Checkpoint
  /// By the name of the tensor in the class that was trained: `bert.encoder.layer.0.output.LayerNorm.weight`.
  let changes: [(name: String, change: Change)]
  private let json: JSONValue
  private let configurationPath: String

  /// - Throws: `.unsupported` for every kind of adapter, key and tensor that is not known to be merged as peft does.
  package init(opening path: String) throws(Refusal) {
    let directory = try HubCache.directory(ofModel: path) ?? path
    self.path = path
    configurationPath = directory + "/adapter_config.json"
    let files = ["adapter_model.safetensors", "adapter_model.bin"]
    guard Directory.exists(at: directory) else {
      let isThere = FileIdentity(ofItemAt: directory) != nil
      throw Refusal(
        .malformed, file: directory,
        isThere ? "expected the directory of an adapter, found a file" : "there is no such directory",
        advice: "give the directory that save_pretrained() wrote")
    }
    let names = Directory.names(in: directory)
    guard let file = files.first(where: names.contains), names.contains("adapter_config.json") else {
      throw Refusal(
        .malformed, file: directory,
        "holds no adapter of peft: expected adapter_config.json and \(files.listed("or")), found "
          + (names.isEmpty ? "nothing" : names.sorted().listed()),
        advice: "give the directory that save_pretrained() wrote")
    }
    json = try JSONValue(configurationAt: configurationPath)
    checkpoint = try CheckpointLocation(path: directory + "/" + file).open()
    let kind = json["peft_type"]?.string
    switch kind {
    case "LN_TUNING": try Self.requireKnown(json, Self.usualKeys, file: configurationPath)
    case "LORA": try Self.requireKnown(json, Self.usualKeys.union(Self.keysOfLoRA), file: configurationPath)
    default:
      throw Refusal(
        .unsupported, file: configurationPath, subject: "peft_type",
        "\(json["peft_type"]?.kind ?? "none") is not merged here; known are LN_TUNING and LORA",
        advice: "merge it with merge_and_unload(), and give what save_pretrained() writes then")
    }
    let whole = (json["modules_to_save"]?.array ?? []).compactMap(\.string)
    var changes: [String: Change] = [:]
    var downs: [String: Tensor] = [:]
    var ups: [String: Tensor] = [:]
    for tensor in checkpoint.tensors {
      try tensor.requireWeights(in: checkpoint.path)
      let (name, role) = try Self.place(of: tensor, in: checkpoint.path, modulesToSave: whole)
      let earlier =
        switch role {
        case .replacement:
          if case .replacement(let tensor) = changes.updateValue(.replacement(tensor), forKey: name) {
            Optional(tensor)
          } else {
            Tensor?.none
          }
        case .down: downs.updateValue(tensor, forKey: name)
        case .up: ups.updateValue(tensor, forKey: name)
        }
      if let earlier {
        throw Refusal(
          .malformed, file: checkpoint.path, subject: tensor.name, "means the same tensor as '\(earlier.name)'",
          advice: "save the adapter again")
      }
    }
    for (name, down) in downs {
      guard let up = ups.removeValue(forKey: name) else {
        throw Self.refusal(of: down, lacking: "lora_B", in: checkpoint.path)
      }
      guard down.shape.count == 2, up.shape.count == 2, down.shape[0] == up.shape[1], down.shape[0] > 0 else {
        throw Refusal(
          .unsupported, file: checkpoint.path, subject: down.name,
          "expected matrices [rank, in] and [out, rank], found \(down.shape) and \(up.shape)",
          advice: "only adapters of linear maps are merged here")
      }
      let scale = try Self.scale(ofRank: down.shape[0], json, file: configurationPath)
      changes[name] = .lowRank(down: down, up: up, scale: scale)
    }
    if let up = ups.values.first { throw Self.refusal(of: up, lacking: "lora_A", in: checkpoint.path) }
    guard !changes.isEmpty else { throw Refusal(.malformed, file: checkpoint.path, "holds no tensors") }
    self.changes = changes.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  private static func refusal(of tensor: Tensor, lacking other: String, in file: String) -> Refusal {
    Refusal(
      .malformed, file: file, subject: tensor.name, "the matrix \(other) that belongs to it is missing",
      advice: "the adapter is incomplete; save it again")
  }

  // MARK: Keys

  /// Keys that say what an adapter is for, or which modules it is for, which its tensors say, too.
  private static let usualKeys: Set<String> = [
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "modules_to_save", "peft_type",
    "peft_version", "revision", "target_modules", "task_type",
  ]

  /// Keys of LoRA that are computed here, or that speak of training alone.
  private static let keysOfLoRA: Set<String> = [
    "bias", "fan_in_fan_out", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout",
    "megatron_core", "qalora_group_size", "r", "rank_pattern", "use_rslora",
  ]

  /// - Throws: `.unsupported` for any other key that says anything: it may change what is merged.
  private static func requireKnown(_ json: JSONValue, _ known: Set<String>, file: String) throws(Refusal) {
    func refusal(_ key: String, _ value: JSONValue) -> Refusal {
      Refusal(
        .unsupported, file: file, subject: key, "\(value.kind) is not merged here",
        advice: "merge it with merge_and_unload(), and give what save_pretrained() writes then")
    }
    for member in json.members ?? [] where !known.contains(member.key) && !member.value.isEmpty {
      throw refusal(member.key, member.value)
    }
    if let bias = json["bias"], bias != .string("none") { throw refusal("bias", bias) }
    // These begin with another base: what is stored is not what is to be added to the one that is given.
    if let start = json["init_lora_weights"]?.string, !["gaussian", "eva", "orthogonal"].contains(start) {
      throw refusal("init_lora_weights", .string(start))
    }
  }

  /// alpha/rank, or alpha/√rank where the config says so (arXiv 2312.03732), in single precision as torch multiplies by it.
  private static func scale(ofRank rank: Int, _ json: JSONValue, file: String) throws(Refusal) -> Float {
    guard let alpha = json["lora_alpha"]?.double, alpha.isFinite else {
      throw Refusal(
        .malformed, file: file, subject: "lora_alpha", "expected a number, found \(json["lora_alpha"]?.kind ?? "none")")
    }
    return Float(alpha / (json["use_rslora"]?.bool == true ? Double(rank).squareRoot() : Double(rank)))
  }

  // MARK: Names

  private enum Role {
    case replacement, down, up
  }

  /// The tensor of the network that a tensor of an adapter speaks of.
  private static func place(
    of tensor: Tensor, in file: String, modulesToSave whole: [String]
  ) throws(Refusal) -> (name: String, role: Role) {
    let prefix = "base_model.model."
    let name = tensor.name.hasPrefix(prefix) ? String(tensor.name.dropFirst(prefix.count)) : tensor.name
    let parts = name.split(separator: ".").map(String.init)
    for (mark, role) in [("ln_tuning_layers", Role.replacement), ("lora_A", .down), ("lora_B", .up)] {
      guard let index = parts.firstIndex(of: mark), let last = parts.last, (2...3).contains(parts.count - index),
        last == "weight" || (role == .replacement && last == "bias")
      else { continue }
      return ((parts[..<index] + [last]).joined(separator: "."), role)
    }
    if let index = parts.firstIndex(of: "modules_to_save"), index + 1 < parts.count {
      // Behind the mark stands the adapter's name, then what is inside the module.
      let inner = parts.count - index > 2 ? parts[(index + 2)...] : parts[(index + 1)...]
      return ((parts[..<index] + inner).joined(separator: "."), .replacement)
    }
    let modules = parts.dropLast()
    let isEmbedding = modules.last.map {
      ["word_embeddings", "wte", "embed_tokens", "lm_head", "decoder"].contains($0)
    }
    let known = whole.contains { module in
      let own = module.split(separator: ".").map(String.init)
      return modules.indices.contains { modules[$0...].starts(with: own) }
    }
    guard known || isEmbedding == true, !parts.contains(where: { $0.hasPrefix("lora_") || $0 == "base_layer" }) else {
      throw Refusal(
        .unsupported, file: file, subject: tensor.name, "is of a kind that is not merged here",
        advice: "merge the adapter with merge_and_unload(), and give what save_pretrained() writes then")
    }
    return (name, .replacement)
  }

  // MARK: The class that was trained

  /// The class of the network that the adapter was trained in, where it says so, by its whole name or by its end.
  func className(amongClassesOf modelType: String) -> String? {
    let classes = Architecture.all.filter { $0.modelType == modelType }.map(\.className)
    if let name = json["auto_mapping"]?["base_model_class"]?.string, classes.contains(name) { return name }
    let ends = [
      "SEQ_CLS": "ForSequenceClassification", "TOKEN_CLS": "ForTokenClassification",
      "QUESTION_ANS": "ForQuestionAnswering",
      "FEATURE_EXTRACTION": "Model",
    ]
    guard let task = json["task_type"]?.string, let end = ends[task] else { return nil }
    return classes.first { $0.hasSuffix(end) }
  }

  /// A summary of what the adapter does, for people who read a report.
  var summary: Message {
    let replaced = changes.count { if case .replacement = $0.change { true } else { false } }
    let added = changes.count - replaced
    let parts = [
      replaced == 0 ? nil : "\(replaced) tensor\(replaced == 1 ? "" : "s") of the base replaced",
      added == 0 ? nil : "a product of low rank added to \(added)",
    ].compactMap { $0 }
    return "\(path): \(json["peft_type"]?.string ?? "") adapter merged, \(parts.joined(separator: ", "))"
  }

  /// The model that the adapter was trained for, where it names one.
  var baseName: String? { json["base_model_name_or_path"]?.string }
}

extension JSONValue {
  /// Is true if the value of a key says nothing: null, false, or an empty array or object.
  fileprivate var isEmpty: Bool {
    switch self {
    case .null, .bool(false): true
    case .array(let values): values.isEmpty
    case .object(let members): members.isEmpty
    default: false
    }
  }
}
