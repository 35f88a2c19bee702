import NormFoldFormats

/// A kind of network as people know it: how its config is spelt, what its forward pass is, what its tensors are called.
/// Each one is a file in this folder and a line in ``all``.
package struct Architecture: Sendable {
  /// The name that people use: `LLaMA`.
  package let name: String
  /// The name that configs use: `llama`.
  package let modelType: String
  /// The class of Hugging Face transformers: `LlamaForCausalLM`.
  package let className: String
  /// The task that the class is for.
  package let task: Task
  /// The kind of its norms.
  package let normKind: Norm.Kind
  /// The ε of its norms where no key of the config says one.
  let classEpsilon: Double
  /// The keys of its `config.json`.
  package let configuration: ConfigurationTable
  /// Keys of a source's `config.json` that speak of no weight and are carried along.
  package let carriedKeys: [String]
  /// Keys of special tokens, each with the token that is meant where the source does not say.
  package let tokenKeys: [(key: String, usual: SpecialToken?)]
  /// Its tensors as Hugging Face transformers stores them.
  package let layout: Layout
  /// Its tensors and keys as llama.cpp stores them; nil where llama.cpp does not know it.
  package let gguf: GGUFDescription?
  /// The other forms in which its checkpoints are stored.
  let otherForms: [StorageForm]
  /// The check of the tensors before they are read as Hugging Face's, and what else is read of them.
  let reading: StorageForm.Reading
  /// Sets the keys that only this file reads to what a network is.
  let describe: @Sendable (Network, inout Hyperparameters) -> Void
  /// The forward pass.
  let forward: @Sendable (Hyperparameters, inout NetworkBuilder) -> Void

  package enum SpecialToken: Sendable {
    case beginOfText, endOfText
  }

  init(
    name: String, modelType: String, className: String, task: Task = .generation, normKind: Norm.Kind,
    classEpsilon: Double = 1e-5,
    configuration: ConfigurationTable,
    carriedKeys: [String] = [], tokenKeys: [(key: String, usual: SpecialToken?)], layout: Layout,
    gguf: GGUFDescription? = nil, otherForms: [StorageForm] = [], reading: StorageForm.Reading = .init(),
    describe: @escaping @Sendable (Network, inout Hyperparameters) -> Void = { _, _ in },
    forward: @escaping @Sendable (Hyperparameters, inout NetworkBuilder) -> Void
  ) {
    self.name = name
    self.modelType = modelType
    self.className = className
    self.task = task
    self.normKind = normKind
    self.classEpsilon = classEpsilon
    self.configuration = configuration
    self.carriedKeys = carriedKeys
    self.tokenKeys = tokenKeys
    self.layout = layout
    self.gguf = gguf
    self.otherForms = otherForms
    self.reading = reading
    self.describe = describe
    self.forward = forward
  }

  /// Every architecture that is read.
  package static let all =
    [
      gpt2, llama, mistral, qwen2, qwen3, gemma, gemma2, phi3, olmo2, phi, gptNeoX, opt, torchscale, normFormer, retNet,
      eyeTracking,
    ] + bert + roberta + distilBERT + vit
}

/// An architecture as llama.cpp stores it in GGUF files.
package struct GGUFDescription: Sendable {
  /// `general.architecture`.
  package let architecture: String
  /// The keys, without the architecture's name before them.
  package let configuration: ConfigurationTable
  package let layout: Layout
  /// The activation that llama.cpp computes, which no key says.
  package let activation: Activation
  /// The tensor with what the frequencies of rotary positions are divided by; nil where llama.cpp reads none.
  package let rotaryDivisors: String?
  /// Is true if llama.cpp computes attention that looks back over a window.
  package let hasWindow: Bool
  /// Refuses what llama.cpp can store of the architecture and the forward pass here does not have.
  let check: @Sendable (Checkpoint, Hyperparameters) throws(Refusal) -> Void

  init(
    architecture: String, configuration: ConfigurationTable, layout: Layout, activation: Activation,
    rotaryDivisors: String? = nil, hasWindow: Bool = false,
    check: @escaping @Sendable (Checkpoint, Hyperparameters) throws(Refusal) -> Void = { _, _ throws(Refusal) in }
  ) {
    self.architecture = architecture
    self.configuration = configuration
    self.layout = layout
    self.activation = activation
    self.rotaryDivisors = rotaryDivisors
    self.hasWindow = hasWindow
    self.check = check
  }
}

extension Architecture {
  /// The name behind its article, for messages: `a LLaMA`.
  package var nameWithArticle: String { (name.first.map("AEIO".contains) ?? false ? "an " : "a ") + name }

  /// The ε of every norm where no key of the config says another one; nil where a key does.
  package var constantEpsilon: Double? {
    configuration.keyNames(of: .epsilon).isEmpty ? classEpsilon : nil
  }
}

extension Architecture: Equatable {
  package static func == (a: Architecture, b: Architecture) -> Bool { a.className == b.className }
}

extension Architecture {
  /// The network that the class computes with these hyperparameters, its parameters taken from another network by name.
  ///
  /// - Returns: nil where a parameter is missing.
  package func network(_ hyperparameters: Hyperparameters, parametersOf other: Network) -> Network? {
    network(hyperparameters, parameters: other.parameter)
  }

  /// The network that the class computes with these hyperparameters and parameters. Norms are named as Hugging Face names
  /// them.
  ///
  /// - Returns: nil where a parameter is missing.
  package func network(
    _ hyperparameters: Hyperparameters, parameters: @escaping (String) -> Parameter?
  ) -> Network? {
    var builder = NetworkBuilder(
      hyperparameters: hyperparameters, normKind: normKind, parameters: parameters, normName: layout.normName,
      task: task)
    forward(hyperparameters, &builder)
    return builder.missing.isEmpty ? builder.network : nil
  }

  /// The hyperparameters with which the class holds a network.
  ///
  /// - Parameters:
  ///   - source: what the source's config says, where the network does not.
  ///   - epsilon: of every norm; nil for the source's.
  package func hyperparameters(
    of network: Network, from source: Hyperparameters, epsilon: Double? = nil
  ) -> Hyperparameters {
    var result = source
    result.isTied = network.isTied
    result.epsilon = epsilon ?? source.epsilon
    result.normKind = network.norms.first?.norm.kind ?? normKind
    result.take(sizesOf: network)
    result.window = Hyperparameters.Window(of: network)
    if let activation = network.mlpActivation { result.activation = activation }
    describe(network, &result)
    return result
  }
}

extension Refusal {
  /// - Parameter name: nil where none is said.
  static func unsupportedArchitecture(_ name: String?, file: String, subject: String) -> Refusal {
    Refusal(
      .unsupported, file: file, subject: subject,
      name.map { "'\($0)' is not supported yet" } ?? "expected the name of an architecture, found none",
      advice: "supported are \(Architecture.supportedTypes)")
  }
}

extension Architecture {
  /// The types that are read, for messages: `gpt2, llama and opt`.
  package static var supportedTypes: String {
    let types = all.map(\.modelType).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
    return types.dropLast().joined(separator: ", ") + " and " + (types.last ?? "")
  }

  /// Returns the name that a checkpoint gives to its architecture, where that is none of ours; nil where it is, or
  /// where nothing says.
  package static func unsupportedName(of checkpoint: Checkpoint, at location: CheckpointLocation) -> String? {
    let content = CheckpointContent(checkpoint, at: location)
    if (try? recognise(content)) != nil { return nil }
    return checkpoint.container == .gguf
      ? content.ggufArchitecture : content.presentConfiguration?["model_type"]?.string
  }

  /// Returns the architecture of a checkpoint, and the form in which the checkpoint is stored.
  ///
  /// - Throws: `.unsupported` for an architecture that is none of ours; what reading the config throws.
  static func recognise(_ content: CheckpointContent) throws(Refusal) -> (architecture: Architecture, form: StorageForm)
  {
    if content.presentConfiguration == nil {
      // Some checkpoints say in themselves what they are; the other forms ask for the config.
      for architecture in all {
        for form in architecture.otherForms where (try? form.recognises(content)) == true {
          return (architecture, form)
        }
      }
      try ForeignTensors.refuseForm(of: content.checkpoint)
    }
    // Forms that are told by their tensors may lie beside the config of a part of theirs. A config that does not say a model
    // type is GPT-2's where no other architecture knows it.
    for forms in [\Architecture.ownForms, \.commonForms] {
      for architecture in all.reversed() {
        for form in architecture[keyPath: forms] where try form.recognises(content) { return (architecture, form) }
      }
    }
    if content.checkpoint.container == .gguf {
      throw .unsupportedArchitecture(
        content.ggufArchitecture, file: content.checkpoint.path, subject: "general.architecture")
    }
    throw .unsupportedArchitecture(
      try content.configuration()["model_type"]?.string, file: content.configurationPath,
      subject: "model_type")
  }

  private var ownForms: [StorageForm] { otherForms + (gguf.map { [.gguf($0)] } ?? []) }

  private var commonForms: [StorageForm] { [huggingFace] }

  private var huggingFace: StorageForm {
    StorageForm(
      recognises: { (content) throws(Refusal) in
        guard content.checkpoint.container != .gguf else { return false }
        let json = try content.configuration()
        guard json["model_type"]?.string == modelType else { return false }
        let classes = Self.all.filter { $0.modelType == modelType }
        guard classes.count > 1 else { return true }
        guard let named = json["architectures"], !named.isNull else { return self == classes[0] }
        guard let name = named.array?.first?.string, classes.contains(where: { $0.className == name }) else {
          throw Refusal(
            .unsupported, file: content.configurationPath, subject: "architectures",
            "the class \(named.array?.first?.kind ?? named.kind) of \(self.name) is not supported yet",
            advice: "supported are \(classes.map(\.className).joined(separator: ", "))")
        }
        return name == className
      },
      read: { (content) throws(Refusal) in
        let fields = Fields(json: try content.configuration(), path: content.configurationPath)
        var hyperparameters = Hyperparameters(path: fields.path)
        hyperparameters.epsilon = classEpsilon
        try configuration.read(fields, into: &hyperparameters)
        return hyperparameters
      },
      layout: { _ in layout }, reading: reading)
  }
}

extension Architecture {
  /// The `model_type` of a GPT-2 without norms as this project writes it for transformers.
  package static let foldedGPT2ModelType = GPT2.foldedModelType
}

extension Layout {
  /// A GPT-2 without norms as TransformerLens's HookedTransformer names it.
  package static let transformerLens = GPT2.transformerLensLayout(norms: nil)
}
