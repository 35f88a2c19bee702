import NormFoldFormats
import NormFoldNetworks

/// A runtime to write for: what it needs on disk, and what it can express.
package protocol Target: Sendable {
  /// The name of the target as the user gives it: `transformers`.
  var name: String { get }
  /// Who reads the result, and with or without norms: one line for `--help` and tables.
  var summary: String { get }
  /// The element types that matrices can be stored in, the default first.
  var types: [ElementType] { get }
  /// The norms that stay in the network: because the runtime has no place for what their folding needs, or because the type
  /// would lose more of a folded matrix than of the one that was stored.
  func keptNorms(of source: TargetSource, options: TargetOptions) -> Set<Path>

  /// The computed norms that keep their gains, because these would untie an unembedding that the target leaves tied.
  func tiedNorms(of source: TargetSource, options: TargetOptions) -> Set<Path>

  /// The kinds of norm that the runtime can compute, each norm with its own deviation.
  var normKinds: Set<Norm.Kind> { get }

  /// Everything that is to be written: decisions, no numbers.
  ///
  /// - Parameter network: folded, but for ``keptNorms(of:options:)``.
  /// - Throws: `.unsupported` where the runtime cannot express the network or the type; what reading a tokenizer throws.
  func output(of network: Network, from source: TargetSource, options: TargetOptions) throws(Refusal) -> TargetOutput

  /// Returns whether the runtime still computes norms, be they near-identities.
  func leavesNorms(_ network: Network, from source: TargetSource) -> Bool

  /// Returns what the runtime will compute from what was written to `directory`.
  /// - Throws: what the readers throw.
  func written(in directory: String) throws(Refusal) -> WrittenModel
}

/// The options that the user gives for a target.
package struct TargetOptions: Sendable {
  /// The type that matrices are stored in.
  package var type: ElementType
  /// Is true if a runtime without the network's activation may compute a close one instead.
  package var allowsApproximateActivation: Bool
  /// The class that the network is written for, by its model type, where a target has several that hold it; nil for the
  /// first of them.
  package var className: String?
  /// The number of bytes of tensors that a safetensors file holds before another one is begun.
  package var maximumShardByteCount: Int
  /// The kind of graph, where a target is one.
  package var onnxForm: ONNXForm

  /// 5 GB, as Hugging Face libraries had it for years.
  package static let usualShardByteCount = 5_000_000_000

  package init(
    type: ElementType = .f32, allowsApproximateActivation: Bool = false, className: String? = nil,
    maximumShardByteCount: Int = TargetOptions.usualShardByteCount, onnxForm: ONNXForm = .cached
  ) {
    self.onnxForm = onnxForm
    self.maximumShardByteCount = maximumShardByteCount
    self.type = type
    self.allowsApproximateActivation = allowsApproximateActivation
    self.className = className
  }
}

/// A source as targets see it, besides the network to write.
package struct TargetSource: Sendable {
  package let architecture: Architecture
  package let hyperparameters: Hyperparameters
  /// The network before folding.
  package let network: Network
  /// The `config.json` of the source, of which what speaks of no weight is carried along; nil where there is none.
  package let configuration: JSONValue?
  package let endOfText: Int?
  package let beginOfText: Int?
  package let tokenizer: ReadingOptions.Tokenizer
  /// The directory of the config and the tokenizer.
  package let directory: String
  package let checkpointPath: String
  /// The header of a GGUF source, with the exact types of its keys; nil for other containers.
  package let ggufHeader: GGUFHeader?

  /// - Throws: what reading the header of a GGUF file throws.
  package init(_ model: Model) throws(Refusal) {
    architecture = model.architecture
    hyperparameters = model.hyperparameters
    network = model.network
    configuration = model.configuration
    (endOfText, beginOfText) = (model.endOfText, model.beginOfText)
    tokenizer = model.tokenizer
    directory = model.directory
    checkpointPath = model.checkpoint.path
    ggufHeader = model.checkpoint.container == .gguf ? try GGUFHeader(of: model.checkpoint.files[0]) : nil
  }
}

/// The tensors and files that a target writes.
package struct TargetOutput: Sendable {
  /// One tensor: its name and type in the file, and the recipe for its numbers.
  package struct StoredParameter: Sendable {
    package let info: TensorInfo
    package let value: Parameter

    package init(name: String, value: Parameter, type: ElementType) {
      self.init(info: TensorInfo(name: name, type: type, shape: value.shape), value: value)
    }

    package init(info: TensorInfo, value: Parameter) {
      self.info = info
      self.value = value
    }
  }

  /// The file of tensors, in the directory of the output.
  package let fileName: String
  /// The files that it is cut into; itself, where it is whole.
  package private(set) var tensorFileNames: [String]
  package let parameters: [StoredParameter]
  /// Creates the file at a path; the metadata say what made it.
  package let writer: @Sendable (_ path: String, _ metadata: [String: String]) throws(Refusal) -> TensorWriter
  /// Reads the tensors back from the directory, by name; whatever else the files say must be what was meant.
  package let readTensors: @Sendable (_ directory: String) throws(Refusal) -> [Tensor]
  /// Other files, by name.
  package let sideFiles: [(name: String, bytes: [UInt8])]
  /// The notes on this output that the user should read.
  package var notes: [Message]
  /// The activation that the runtime computes instead of the network's, where the user allowed that.
  package var approximation: Activation?

  /// An output whose file of tensors is a checkpoint that our own readers open.
  package init(
    fileName: String, parameters: [StoredParameter],
    writer: @escaping @Sendable (_ path: String, _ metadata: [String: String]) throws(Refusal) -> TensorWriter,
    sideFiles: [(name: String, bytes: [UInt8])], notes: [Message]
  ) {
    self.init(
      fileName: fileName, parameters: parameters, writer: writer,
      readTensors: { (directory) throws(Refusal) in
        try CheckpointLocation(path: directory + "/" + fileName).open().tensors
      }, sideFiles: sideFiles, notes: notes)
  }

  /// A safetensors file that says what libraries around PyTorch ask for, or several of them with their index.
  package init(
    safetensors parameters: [StoredParameter], maximumByteCount: Int,
    sideFiles: [(name: String, bytes: [UInt8])], notes: [Message]
  ) {
    let name = "model.safetensors"
    let shards = SafetensorsShards(of: parameters.map(\.info), maximumByteCount: maximumByteCount, name: name)
    let isWhole = shards.files.count == 1
    self.init(
      fileName: name, parameters: parameters,
      writer: { (path, metadata) throws(Refusal) in
        try TensorWriter(
          safetensors: shards, in: String(path.dropLast(name.count + 1)),
          metadata: metadata.merging(["format": "pt"]) { $1 })
      },
      readTensors: { (directory) throws(Refusal) in
        try CheckpointLocation(path: isWhole ? "\(directory)/\(name)" : directory).open().tensors
      },
      sideFiles: sideFiles + (isWhole ? [] : [("\(name).index.json", Array(shards.index.text.utf8))]), notes: notes)
    tensorFileNames = shards.files.map(\.name)
  }

  package init(
    fileName: String, parameters: [StoredParameter],
    writer: @escaping @Sendable (_ path: String, _ metadata: [String: String]) throws(Refusal) -> TensorWriter,
    readTensors: @escaping @Sendable (_ directory: String) throws(Refusal) -> [Tensor],
    sideFiles: [(name: String, bytes: [UInt8])], notes: [Message]
  ) {
    self.fileName = fileName
    tensorFileNames = [fileName]
    self.parameters = parameters
    self.writer = writer
    self.readTensors = readTensors
    self.sideFiles = sideFiles
    self.notes = notes
  }

  package var byteCount: Int {
    parameters.reduce(0) { $0 + $1.info.byteCount } + sideFiles.reduce(0) { $0 + $1.bytes.count }
  }
}

extension Target {
  package func tiedNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> { [] }

  /// Returns the network of a checkpoint that was written: every norm with its epsilon, however large, as the runtime computes it.
  package func written(in directory: String) throws(Refusal) -> WrittenModel {
    let model = try Model(opening: directory)
    return .network(model.literalNetwork ?? model.network, meant: model.network)
  }

  /// - Throws: `.unsupported` for a kind of norm that the runtime does not compute.
  package func require(_ kind: Norm.Kind) throws(Refusal) {
    guard !normKinds.contains(kind) else { return }
    let able = Targets.all.filter { $0.normKinds.contains(kind) }.map { Message("\(.targets, $0.name)") }
    throw Refusal(
      .unsupported, subject: kind.displayName, "the target \(name) \(obstacle(to: kind))",
      advice: "use \(able.joined(separator: " or "))")
  }

  /// Says why the runtime does not compute norms of a kind.
  private func obstacle(to kind: Norm.Kind) -> String {
    guard let own = normKinds.first else { return "computes no norms" }
    return kind == .crms
      ? "computes \(own.displayName)s only, and its residual stream is as wide as its heads together"
      : "computes \(own.displayName)s only"
  }

  /// - Throws: `.unsupported` for a type that matrices cannot be stored in, with those that they can.
  package func require(_ type: ElementType) throws(Refusal) {
    guard !types.contains(type) else { return }
    throw Refusal(
      .unsupported, subject: name,
      "cannot be stored as \(type.displayName)",
      advice: "it takes \(types.map(\.displayName).joined(separator: ", "))")
  }
}
