import NormFoldFormats
import NormFoldNetworks

/// Hugging Face transformers: a stock class where one holds the network, a ``ModelingFile`` where none does, and for a GPT-2
/// without norms ``FoldedGPT2``.
package struct TransformersTarget: Target {
  package init() {}

  package var name: String { "transformers" }
  package var summary: String {
    "the Auto class of the source's head: GPT-2 with trust_remote_code, no norms; others as they are"
  }
  package var types: [ElementType] { [.f32, .bf16, .f16] }
  package var normKinds: Set<Norm.Kind> { Set(Norm.Kind.allCases) }

  /// The classes, in the order in which they are tried. A network in a stock one needs no modeling file.
  static let classes: [StockClass] =
    [
      .huggingFace(.llama, sources: [.llama, .homeMade]),
      .huggingFace(.mistral),
      .huggingFace(.qwen2),
      .huggingFace(.qwen3),
      .huggingFace(.gemma),
      .huggingFace(.gemma2),
      .huggingFace(.phi3),
      .huggingFace(.olmo2),
      .huggingFace(.phi, sources: [.phi, .gptNeoX, .homeMade], hasVocabularyBias: true),
      .huggingFace(.gptNeoX, sources: [.gptNeoX, .homeMade]),
      .huggingFace(.opt),
      .huggingFace(.torchscale, hasVocabularyBias: true, code: .torchscale),
      .huggingFace(.normFormer, hasVocabularyBias: true, code: .normFormer),
      .huggingFace(.retNet, hasVocabularyBias: true, code: .retNet),
    ]
    + (Architecture.bert + Architecture.roberta + Architecture.distilBERT + Architecture.vit).map {
      .huggingFace($0, hasVocabularyBias: true, keepsTie: true)
    }

  package func keptNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> {
    (try? stock(for: source, options: options))?.keptNorms(of: source.network) ?? []
  }

  package func tiedNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> {
    (try? stock(for: source, options: options))?.tiedNorms(of: source.network) ?? []
  }

  package func leavesNorms(_ network: Network, from source: TargetSource) -> Bool {
    let isStock = source.architecture != .gpt2 && (try? stock(for: source, options: TargetOptions())) ?? nil != nil
    return isStock || !network.norms.isEmpty
  }

  /// The stock class to write a source for; nil where it is ``FoldedGPT2``.
  private func stock(for source: TargetSource, options: TargetOptions) throws(Refusal) -> StockClass? {
    guard source.architecture == .homeMade, options.className == nil else {
      return try Self.classes.chosen(for: source, options: options, target: name)
    }
    return Self.classes.first { $0.sources.contains(.homeMade) && $0.mayHold(source) }
  }

  package func output(
    of network: Network, from source: TargetSource, options: TargetOptions
  ) throws(Refusal) -> TargetOutput {
    guard let stock = try stock(for: source, options: options) else {
      guard source.architecture == .gpt2 || source.architecture == .homeMade else {
        throw Refusal(
          .unsupported, subject: name, "there is no class for \(source.architecture.nameWithArticle)",
          advice: "use \(.targets, "onnxruntime")")
      }
      return try FoldedGPT2.output(of: network, from: source, options: options, target: name)
    }
    return try stock.output(of: network, from: source, options: options, target: name)
  }
}

extension StockClass {
  /// A directory for the class, and for all that reads the same files.
  func output(
    of network: Network, from source: TargetSource, options: TargetOptions, target: String
  ) throws(Refusal) -> TargetOutput {
    let stored = try stored(network, from: source, options: options, target: target)
    let configuration = source.configuration(
      for: architecture, sizes: stored.sizes, head: code?.head(modelType: architecture.modelType), type: options.type)
    var parameters = layout.tensors(of: stored.network, sizes: stored.sizes).filter {
      !$0.slot.isOmittedWhereTied || !stored.sizes.isTied
    }.map { slot, value in
      TargetOutput.StoredParameter(
        info: TensorInfo(
          name: layout.fullName(of: slot), type: value.normType(in: slot, as: options.type),
          shape: slot.isReshaped ? layout.storedShape(of: slot, in: stored.sizes) : value.shape), value: value)
    }
    if !stored.sizes.isTied {
      for (second, first) in layout.secondNames {
        guard let tensor = parameters.first(where: { $0.info.name == first }) else { continue }
        parameters.append(.init(name: second, value: tensor.value, type: tensor.info.type))
      }
    }
    let tokenizer = try source.tokenizerFiles()
    let besides = architecture.task == .features ? try source.sentenceEncoderFiles() : (files: [], notes: [])
    let isOther = architecture != source.architecture
    let widened = options.type == .f32 ? 0 : parameters.count { $0.info.type == .f32 }
    return TargetOutput(
      safetensors: parameters, maximumByteCount: options.maximumShardByteCount,
      sideFiles: tokenizer + besides.files + [("config.json", Array(configuration.text.utf8))]
        + (code.map { [$0.file] } ?? []),
      notes: (isOther ? ["written as \(architecture.className), which computes the same"] : [])
        + (hasVocabularyBias ? [] : network.noteOnLastNorm)
        + (widened == 0 ? [] : ["\(widened) gains are F32, since \(options.type.displayName) would round them"])
        + besides.notes + source.notes(onTokenizerFiles: tokenizer))
  }
}

extension Network {
  /// The network with every norm removed.
  package func withoutNorms() -> Network {
    var result = self
    for (path, _) in norms { result[norm: path] = nil }
    return result
  }
}

extension Parameter {
  /// The type that a tensor is stored in: a gain that is not the stored one has no reason to be a number of a narrow type.
  fileprivate func normType(in slot: Slot, as type: ElementType) -> ElementType {
    guard slot.input == nil, slot.parameters[0].hasSuffix(".weight") else { return type }
    if let tensor = storedTensor { return tensor.info.type == type ? type : .f32 }
    // What stands for a gain of one: itself, or nothing that is added to one.
    return constantValue == 1 - slot.offset ? type : .f32
  }
}
