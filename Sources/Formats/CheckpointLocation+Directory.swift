import FoundationEssentials

extension CheckpointLocation {
  /// Names under which a directory holds its one checkpoint; the first group that is there counts, as it does for
  /// transformers. Two of one group contradict each other.
  private static let knownNames: [[String]] = [
    ["model.safetensors", "model.safetensors.index.json"], ["pytorch_model.bin", "pytorch_model.bin.index.json"],
    ["ckpt.pt"], ["model.pt"], ["model.gguf"],
  ]

  /// The files under known names, by group; groups that are not there are left out.
  static func knownFiles(in directory: String) -> [[String]] {
    knownNames.map { names in
      names.flatMap { [$0, $0 + ".zst"] }.filter { FileManager.default.fileExists(atPath: directory + "/" + $0) }
    }.filter { !$0.isEmpty }
  }

  /// The files under known names, by group; where there are none, GGUF files under any name.
  static func checkpointFiles(in directory: String) -> [[String]] {
    let groups = knownFiles(in: directory)
    guard groups.isEmpty else { return groups }
    let files = Directory.names(in: directory).filter { $0.hasSuffix(".gguf") || $0.hasSuffix(".gguf.zst") }
    // The first part of a split model stands for all of it.
    let wholes = files.filter { !$0.contains("-of-") || $0.contains("-00001-of-") }
    return wholes.isEmpty ? [] : [wholes]
  }

  /// - Returns: the file that makes the checkpoint, and others that could have made one.
  /// - Throws: `.malformed`, `.unsupported` where there is no such file, with what there is instead.
  static func choice(in directory: String) throws(Refusal) -> (name: String, others: [String]) {
    let groups = checkpointFiles(in: directory)
    guard let first = groups.first else { throw refusal(of: directory) }
    guard first.count == 1 else {
      throw Refusal(
        .unsupported, file: directory, "holds \(first.joined(separator: " and "))",
        advice: "name the file that counts: \(directory)/\(first[0])")
    }
    return (first[0], groups.dropFirst().flatMap { $0 })
  }

  // MARK: What a directory holds that is no checkpoint

  /// Why a directory cannot be opened: by what it does hold, where that tells what its user meant.
  private static func refusal(of directory: String) -> Refusal {
    let names = Directory.names(in: directory)
    return refusal(of: directory, files: names)
      ?? refusal(of: directory, subdirectories: Directory.subdirectories(of: directory))
      ?? refusal(of: directory, filesOfOtherPrograms: names)
      ?? Refusal(
        .malformed, file: directory, "holds no checkpoint",
        advice: "expected \(knownNames.joined().joined(separator: ", ")), or one .gguf file")
  }

  private static func refusal(of directory: String, files names: [String]) -> Refusal? {
    if let name = names.first(where: isMetaPart) {
      return Refusal(
        .unsupported, file: directory,
        "holds \(name), by its name a part of a model in Meta's own form, which is not read",
        advice: metaAdvice)
    }
    if names.contains("consolidated.safetensors") {
      return Refusal(
        .unsupported, file: directory,
        "holds consolidated.safetensors, by its name a model in Mistral's own form, which is not read",
        advice: "give the model in the form of transformers, with its config.json")
    }
    if let name = names.first(where: { ["adapter_model.safetensors", "adapter_model.bin"].contains($0) }) {
      return Refusal(
        .unsupported, file: directory, "holds \(name), by its name an adapter of peft, which is no whole model",
        advice: "give its base model, and this directory with \(.adapters)")
    }
    let indices = names.filter { isIndex($0) }
    if indices.isEmpty,
      let refusal = refusal(of: directory, shards: names.compactMap(ShardName.init).filter { $0.count > 1 })
    {
      return refusal
    }
    let candidates = indices.isEmpty ? names.filter { mayBeCheckpoint($0, in: directory) } : indices
    guard let first = candidates.first else { return nil }
    let advice: Message =
      candidates.count == 1
      ? "if \(first) is the one, give that file: \(directory)/\(first)"
      : "give the file that is meant: \(candidates.map { directory + "/" + $0 }.listed("or"))"
    return Refusal(.malformed, file: directory, "holds no checkpoint under a name that is known", advice: advice)
  }

  private static func refusal(of directory: String, shards: [ShardName]) -> Refusal? {
    guard let first = shards.first else { return nil }
    if first.suffix == ".gguf" {
      return Refusal(
        .malformed, file: directory,
        "holds \(first.name), by its name a later part of a split model, but not the first",
        advice: "download \(first.firstName) into it")
    }
    let others = shards.count > 1 ? " and \(shards.count - 1) more" : ""
    return Refusal(
      .malformed, file: directory, "holds shards, \(first.name)\(others), but not their index",
      advice: "download \(first.indexName) into it")
  }

  private static func refusal(of directory: String, subdirectories names: [String]) -> Refusal? {
    func refusal(_ problem: String, _ advice: Message) -> Refusal {
      Refusal(.unsupported, file: directory, "holds no checkpoint itself, but \(problem)", advice: advice)
    }
    let steps = names.compactMap { name in step(ofDirectory: name).map { (name: name, step: $0) } }
    if let last = steps.max(by: { $0.step < $1.step })?.name {
      return steps.count == 1
        ? refusal(
          "one directory of a training run by its name", "give that: \(directory)/\(last)")
        : refusal(
          "\(steps.count) directories of a training run by their names",
          "give the one that is meant, such as the last: \(directory)/\(last)")
    }
    let models = names.filter { $0.hasPrefix("models--") }
    if !models.isEmpty {
      let options = models.map { directory + "/" + $0 }.listed("or")
      return models.count == 1
        ? refusal("the Hub's cache of one model", "give that: \(options)")
        : refusal("the Hub's cache of \(models.count) models", "give the one that is meant: \(options)")
    }
    let limit = 100
    let holders = names.prefix(limit).filter { !checkpointFiles(in: directory + "/" + $0).isEmpty }
    guard let first = holders.first else { return nil }
    return holders.count == 1
      ? refusal("its directory \(first) does", "give \(directory)/\(first)")
      : refusal(
        "its directories \(holders.listed()) do",
        "give the one that is meant: \(holders.map { directory + "/" + $0 }.listed("or"))")
  }

  /// Files of other programs by the ends of their names: what they are, and what to give instead.
  private static let otherForms: [(end: String, problem: String, advice: Message)] = [
    (
      ".distcp", "a part of a distributed checkpoint of PyTorch, which is not read",
      "join the parts with torch.distributed.checkpoint.format_utils.dcp_to_torch_save(), and give what it writes"
    ),
    (
      ".nemo", "an archive of NeMo, which is not read",
      "give the model in the form of transformers, with its config.json"
    ),
    (".onnx", "an exported graph, which is no source", "give the checkpoint that it was exported from"),
    (".npz", "arrays of NumPy, which are not read", "save them with safetensors.numpy.save_file(), and give that file"),
    (".incomplete", "a download that has not ended", "end the download"),
    (".part", "a download that has not ended", "end the download"),
  ]

  private static func refusal(of directory: String, filesOfOtherPrograms names: [String]) -> Refusal? {
    for (name, program, option) in [
      ("tf_model.h5", "TensorFlow", "from_tf"), ("flax_model.msgpack", "JAX", "from_flax"),
    ] where names.contains(name) {
      return Refusal(
        .unsupported, file: directory,
        "holds \(name), by its name the weights of a \(program) model, which are not read",
        advice: "load them in transformers 4 with \(option)=True and save the model again")
    }
    for (end, problem, advice) in otherForms {
      guard let name = names.first(where: { $0.hasSuffix(end) }) else { continue }
      return Refusal(.unsupported, file: directory, "holds \(name), by its name \(problem)", advice: advice)
    }
    return nil
  }

  // MARK: Names

  /// `model.safetensors.index.json`, `model.safetensors.index.fp16.json`
  static func isIndex(_ name: String) -> Bool { name.hasSuffix(".json") && name.contains(".index.") }

  /// `consolidated.00.pth`
  private static func isMetaPart(_ name: String) -> Bool {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 3 && parts[0] == "consolidated" && parts[2] == "pth" && !parts[1].isEmpty
      && parts[1].utf8.allSatisfy { (0x30...0x39).contains($0) }
  }

  private static let metaAdvice: Message =
    "give the model in the form of transformers, which its convert_llama_weights_to_hf.py writes"

  /// A part of a model in Meta's own form would be opened, and found to lack everything that is looked for.
  static func refuseMetaPart(at path: String, directory: String) throws(Refusal) {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    guard isMetaPart(name), !FileManager.default.fileExists(atPath: directory + "/config.json") else { return }
    throw Refusal(
      .unsupported, file: path,
      "is by its name a part of a model in Meta's own form, which is not read, and has no config.json beside it",
      advice: metaAdvice)
  }

  /// `checkpoint-500`, `global_step500`: the 500.
  private static func step(ofDirectory name: String) -> Int? {
    let digits = name.utf8.reversed().prefix { (0x30...0x39).contains($0) }.count
    var stem = name.dropLast(digits)
    if let last = stem.last, "-_".contains(last) { stem.removeLast() }
    guard ["checkpoint", "ckpt", "global_step", "step", "iter", "epoch"].contains(stem) else { return nil }
    return Int(name.suffix(digits))
  }

  /// Returns whether a file may be a checkpoint, by the end of its name and by its first bytes. The files that trainers
  /// write beside a checkpoint do not count.
  private static func mayBeCheckpoint(_ name: String, in directory: String) -> Bool {
    let isCompressed = name.hasSuffix(".zst")
    let plain = isCompressed ? String(name.dropLast(4)) : name
    guard let suffix = [".safetensors", ".bin", ".pt", ".pth", ".ckpt"].first(where: { plain.hasSuffix($0) }),
      !["optimizer", "scheduler", "rng_state", "training_args", "scaler"].contains(where: { plain.hasPrefix($0) }),
      !plain.hasSuffix("optim_states.pt"), let file = try? MappedFile(path: directory + "/" + name)
    else { return false }
    let start = file.withBytes { bytes in
      (0..<min(9, bytes.byteCount)).map { bytes.integer(UInt8.self, at: $0) }
    }
    if isCompressed { return start.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) }
    if suffix == ".safetensors" { return start.count == 9 && start.last == UInt8(ascii: "{") }
    // A zip archive, or a pickle of an older PyTorch.
    return start.starts(with: Array("PK".utf8)) || start.first == 0x80
  }
}
