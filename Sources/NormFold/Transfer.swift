import FoundationEssentials
import NormFoldFormats
import NormFoldNetworks

/// Copies what one architecture shares with another into a checkpoint of the other's shape, as the transfer of XATL does
/// (arXiv 2404.02684): embeddings, norms, MLPs and output maps of a Pythia into a RetNet.
///
///     let transfer = Transfer(source: "pythia", template: "retnet-random", destination: "out", map: "pythia-retnet")
///     for tensor in try transfer.run().tensors { print(tensor.name, tensor.origin, tensor.originalName) }
///
/// Nothing is computed: each tensor of the result is bit for bit one of the source or one of the template.
public struct Transfer: Sendable, Encodable {
  /// The checkpoint to copy from.
  public var source: String
  /// A checkpoint with every tensor of the other architecture.
  public var template: String
  /// The directory that is to appear.
  public var destination: String
  /// The name of a known map, or a JSON file of names in the template, each with the name in the source.
  public var map: String
  /// Is true if an existing destination may be replaced.
  public var replacesDestination = false
  /// The number of bytes of tensors that a file holds before another one is begun, with an index beside them.
  public var maximumShardByteCount = 5_000_000_000

  public init(source: String, template: String, destination: String, map: String) {
    self.source = source
    self.template = template
    self.destination = destination
    self.map = map
  }

  /// The names of the maps that are known.
  public static let knownMaps = TransferMap.known.map(\.name)

  /// Writes the result beside its destination, opens it again, compares every tensor bit for bit, and only then renames it into
  /// place.
  ///
  /// - Throws: `.malformed` for a tensor that is missing or has another shape; `.usage` for a map that fits no tensor;
  ///   `.unsupported` where one of the two was folded and the other was not; what reading and writing throw.
  public func run() throws(Refusal) -> TransferReport {
    let map = try TransferMap(named: map)
    let place = try Destination(directory: destination, replacing: replacesDestination)
    _ = StagedOutput.removeStale(beside: place)
    let (from, to) = (
      try Side(opening: source, expandingIn: place), try Side(opening: template, expandingIn: place)
    )
    try place.refuse(overlapping: Set((from.checkpoint.files + to.checkpoint.files).map(\.identity)))
    return try from.checkpoint.whileIntact { () throws(Refusal) in
      try to.checkpoint.whileIntact { () throws(Refusal) in
        try from.checkpoint.checkIntegrity()
        try to.checkpoint.checkIntegrity()
        let choices = try choose(by: map, from: from, to: to)
        try refuseMixedFolds(choices, from: from, to: to)
        return try write(choices, map, from: from, to: to, place: place)
      }
    }
  }

  /// A tensor of the result, and where it is from.
  private struct Choice {
    let name: String
    let tensor: Tensor
    let origin: TransferReport.Origin
  }

  private func choose(by map: TransferMap, from: Side, to: Side) throws(Refusal) -> [Choice] {
    var choices: [Choice] = []
    for tensor in to.checkpoint.tensors {
      guard let name = map.origin(of: tensor.name) else {
        choices.append(Choice(name: tensor.name, tensor: try contiguous(tensor), origin: .template))
        continue
      }
      guard let found = from.checkpoint[name] else {
        throw Refusal(
          .malformed, file: from.checkpoint.path, subject: name,
          "this tensor is missing, and '\(tensor.name)' of the template is to be made of it",
          advice: "give a source as deep as the template, or a map for both")
      }
      guard found.shape == tensor.shape else {
        throw Refusal(
          .malformed, file: to.checkpoint.path, subject: tensor.name,
          "expected the shape of '\(found.name)', \(found.shape), found \(tensor.shape)",
          advice: "give a template of the source's widths")
      }
      choices.append(Choice(name: tensor.name, tensor: try contiguous(found), origin: .source))
    }
    guard choices.contains(where: { $0.origin == .source }) else {
      throw Refusal(
        .usage, file: to.checkpoint.path, "no tensor has a name of the map '\(map.name)'",
        advice:
          "known maps are \(Self.knownMaps.joined(separator: ", ")), and the names are \(to.checkpoint.tensors.map(\.name).listed())"
      )
    }
    return choices
  }

  private func contiguous(_ tensor: Tensor) throws(Refusal) -> Tensor {
    guard tensor.isContiguous else {
      throw Refusal(
        .unsupported, file: tensor.file.path, subject: tensor.name, "is stored as a strided view",
        advice: "save a contiguous copy, or the whole in safetensors")
    }
    return tensor
  }

  // MARK: What does not go together

  /// A norm that was folded has its gain and bias in the maps that read it: those that are not transferred lack them, and those
  /// of a folded template have them twice.
  private func refuseMixedFolds(_ choices: [Choice], from: Side, to: Side) throws(Refusal) {
    for side in [from, to] {
      guard let buffer = side.checkpoint.tensors.first(where: { FakeLayerNorm.isBuffer($0.name) }) else { continue }
      throw Refusal(
        .unsupported, file: side.checkpoint.path, subject: buffer.name,
        "says that deviations are fixed, which would be left behind or stand beside norms that were trained otherwise",
        advice: "transfer the network from before its removal")
    }
    let advice: Message = "transfer networks as they were trained, and fold the result"
    if let how = from.fold, to.fold == nil {
      throw Refusal(
        .unsupported, file: from.checkpoint.path,
        "its norms were folded (\(how)) and the template's were not: maps of the template that read a norm would lack its gain",
        advice: advice)
    }
    if let how = to.fold, from.fold == nil {
      throw Refusal(
        .unsupported, file: to.checkpoint.path,
        "its norms were folded (\(how)) and the source's were not: its own maps would read norms whose gains they hold already",
        advice: advice)
    }
    // Where neither says a word: of norms that were trained, none is left with a gain of ones.
    let gains = choices.filter { $0.origin == .source && $0.tensor.isGain }
    let bare = gains.first { $0.tensor.isOfOnes }
    let others = gains.first { !$0.tensor.isOfOnes }
    if let bare, let others {
      throw Refusal(
        .unsupported, file: from.checkpoint.path, subject: bare.tensor.name,
        "is a gain of ones, and '\(others.tensor.name)' is not: some of the norms were folded into the maps that read them, and "
          + "the template's own maps would lack those gains", advice: advice)
    }
  }

  private func notes(on choices: [Choice], from: Side, to: Side) -> [Message] {
    var notes: [Message] = []
    let copied = choices.filter { $0.origin == .source }
    let gains = copied.filter(\.tensor.isGain)
    if !gains.isEmpty, gains.allSatisfy(\.tensor.isOfOnes) {
      notes.append(
        "every gain that was copied is one: if the source's norms were folded, the template's own maps lack their gains"
      )
    }
    let fused = copied.filter(\.tensor.isFusedByHeads)
    if let first = fused.first {
      let many = fused.count == 1 ? "holds" : "and \(fused.count - 1) more hold"
      switch (from.headCount, to.headCount) {
      case (let source?, let template?) where source == template: break
      case (let source?, let template?):
        notes.append(
          "\(first.name) \(many) queries, keys and values of \(source) heads, and the template cuts them into \(template): its "
            + "heads are not the source's, which are scrambled, as in the published transfer")
      default:
        notes.append(
          "\(first.name) \(many) queries, keys and values head by head, and no config says that both have as many heads: with "
            + "other counts the template's heads are not the source's")
      }
    }
    if let mine = from.activation, let theirs = to.activation, mine != theirs {
      notes.append(
        "the MLPs were trained with \(mine), and the template computes \(theirs), as in the published transfer")
    }
    return notes
  }

  // MARK: Writing

  private func write(
    _ choices: [Choice], _ map: TransferMap, from: Side, to: Side, place: Destination
  ) throws(Refusal) -> TransferReport {
    let tensors = choices.map { choice in
      TransferReport.Tensor(
        name: choice.name, type: choice.tensor.info.type.displayName, shape: choice.tensor.shape, origin: choice.origin,
        originalName: choice.tensor.name)
    }
    let origins = tensors.map {
      JSONValue.Member(key: $0.name, value: .string("\($0.origin.rawValue) \($0.originalName)"))
    }
    let metadata = [
      "format": "pt", "normfold.version": Tool.version, "normfold.source": from.fileNames,
      "normfold.template": to.fileNames, "normfold.map": map.name,
      "normfold.origins": JSONValue.object(origins).text,
    ]
    let staged = try StagedOutput(for: place)
    let infos = choices.map { TensorInfo(name: $0.name, type: $0.tensor.info.type, shape: $0.tensor.shape) }
    try staged.requireSpace(infos.reduce(0) { $0 + $1.byteCount })
    let fileName = "model.safetensors"
    let shards = SafetensorsShards(of: infos, maximumByteCount: maximumShardByteCount, name: fileName)
    let writer = try TensorWriter(safetensors: shards, in: staged.path, metadata: metadata)
    let byName = Dictionary(choices.map { ($0.name, $0.tensor) }) { first, _ in first }
    for info in writer.order {
      guard let tensor = byName[info.name] else { preconditionFailure("\(info.name) was not chosen") }
      try tensor.withBytes { (bytes) throws(Refusal) in
        try unsafe bytes.withUnsafeBytes { (bytes) throws(Refusal) in try unsafe writer.append(bytes) }
      }
    }
    try writer.finish()
    if shards.files.count > 1 { try write(Array(shards.index.text.utf8), to: staged, as: fileName + ".index.json") }
    if let configuration = to.configurationBytes { try write(configuration, to: staged, as: "config.json") }
    let written = try CheckpointLocation(path: staged.path).open()
    for choice in choices {
      guard let tensor = written[choice.name], tensor.shape == choice.tensor.shape,
        tensor.info.type == choice.tensor.info.type, Fingerprint(of: tensor) == Fingerprint(of: choice.tensor)
      else {
        throw Refusal(
          .mismatch, file: fileName, subject: choice.name,
          "the file that was just written does not hold what was meant",
          advice: "another program changed it, or the disk fails; nothing was published")
      }
    }
    try from.checkpoint.requireIntact()
    try to.checkpoint.requireIntact()
    let used = Set(choices.filter { $0.origin == .source }.map(\.tensor.name))
    var report = TransferReport(
      source: source, template: template, destination: destination, map: map.name, tensors: tensors,
      unusedTensors: from.checkpoint.tensors.map(\.name).filter { !used.contains($0) },
      notes: notes(on: choices, from: from, to: to))
    report.notes += try staged.publish().map { Message($0) }
    return report
  }

  private func write(_ bytes: [UInt8], to staged: StagedOutput, as name: String) throws(Refusal) {
    let file = try OutputFile(creating: staged.path + "/" + name)
    try file.write(bytes)
    try file.finish()
  }
}

/// One of the two checkpoints of a transfer.
private struct Side {
  let checkpoint: Checkpoint
  /// nil where there is none.
  let configurationBytes: [UInt8]?
  private let configuration: JSONValue?

  init(opening path: String, expandingIn place: Destination) throws(Refusal) {
    let location = try CheckpointLocation(path: path)
    checkpoint = try location.open(temporaryDirectory: place.existingParent)
    let path = location.configurationPath
    guard FileManager.default.fileExists(atPath: path) else {
      (configurationBytes, configuration) = (nil, nil)
      return
    }
    let file = try MappedFile(path: path)
    (configurationBytes, configuration) = try file.parse { (bytes) throws(Refusal) in
      let json = try JSONValue(parsing: bytes, file: path)
      return (unsafe bytes.withUnsafeBytes { unsafe Array($0) }, json)
    }
  }

  var fileNames: String {
    checkpoint.files.map { URL(filePath: $0.path).lastPathComponent }.joined(separator: " ")
  }

  var headCount: Int? {
    ["num_attention_heads", "n_head", "decoder_retention_heads"].lazy.compactMap { configuration?[$0]?.count }.first
  }

  /// The activation of the MLPs, as configs of transformers call it.
  var activation: String? {
    // lit-gpt's FusedMLP computes this one whatever its config says.
    if configuration?["use_retention"]?.bool == true { return "gelu_new" }
    return ["hidden_act", "activation_fn"].lazy.compactMap { configuration?[$0]?.string }.first
  }

  /// The sign by which the checkpoint says that its norms were folded, or fixed; nil where it does not say so.
  var fold: String? {
    if let norms = checkpoint.metadata["normfold.folded"]?.string, !norms.isEmpty { return "its metadata name them" }
    for key in ["layer_norm_eps", "layernorm_eps", "norm_eps"] {
      if let epsilon = configuration?[key]?.double, epsilon >= 1e6 { return "\(key) is \(epsilon)" }
    }
    return nil
  }
}

extension Tensor {
  /// Is true if the tensor is a vector that is named like the weight of a norm.
  fileprivate var isGain: Bool { shape.count == 1 && name.hasSuffix(".weight") }

  fileprivate var isOfOnes: Bool { decoded(as: Double.self).allSatisfy { $0 == 1 } }

  /// Is true if the tensor holds queries, keys and values interleaved head by head, so that it means the same only in a
  /// network with as many heads.
  fileprivate var isFusedByHeads: Bool { name.contains(".query_key_value.") || name.contains(".attn.attn.") }
}

/// A report of what became of every tensor in a ``Transfer``.
///
///     print(report.tensors.count { $0.origin == .source }, report.unusedTensors)
public struct TransferReport: Encodable, Sendable {
  /// The one of the two checkpoints that a tensor is from.
  public enum Origin: String, Encodable, Sendable {
    case source, template
  }

  /// A tensor of the result, which holds the bytes of its origin.
  public struct Tensor: Encodable, Sendable {
    public let name: String
    public let type: String
    public let shape: [Int]
    public let origin: Origin
    /// Its name there.
    public let originalName: String
  }

  public let source: String
  public let template: String
  public let destination: String
  public let map: String
  /// In the order of the template.
  public let tensors: [Tensor]
  /// The source's tensors that the result does not have.
  public let unusedTensors: [String]
  public fileprivate(set) var notes: [Message]
}
