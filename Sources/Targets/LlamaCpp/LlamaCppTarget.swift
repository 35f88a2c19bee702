import NormFoldFormats
import NormFoldNetworks

/// llama.cpp's own architectures: one GGUF file with its tokenizer. None can do without norms, so that each norm that went is
/// near an identity, as for the stock classes of transformers.
///
/// What rounds element by element (F32, F16, BF16) holds folded matrices. A type with blocks holds the source's own, and
/// the scales γ/σ stay in the norm tensors, which are F32 always: folding scales the rows of a matrix [in, out], that is,
/// the elements of one block, and a block has one scale. How much that costs depends on how far the γ/σ of a norm lie
/// apart. Where they are within a fifth of each other (shakespeare-4x128) neither way is better; but the source's own
/// matrices are what llama.cpp's quantiser would make, and a verification knows exactly what they compute.
package struct LlamaCppTarget: Target {
  package init() {}

  package var name: String { "llama.cpp" }
  package var summary: String { "llama.cpp and what is built on it; one GGUF file, near-identity norms" }
  package var types: [ElementType] { [.f32, .f16, .bf16, .q8_0, .q5_1, .q5_0, .q4_1, .q4_0] }

  package var normKinds: Set<Norm.Kind> { [.layer] }

  /// The architectures of llama.cpp, in the order in which they are tried.
  private static let classes: [StockClass] = [
    .gguf(.gpt2, sources: [.gpt2, .homeMade]),
    .gguf(.llama, sources: [.llama, .mistral, .homeMade]),
    .gguf(.qwen2),
    .gguf(.qwen3),
    .gguf(.gemma),
    .gguf(.gemma2),
    .gguf(.phi3),
    .gguf(.olmo2),
    .gguf(.phi, sources: [.phi, .gptNeoX, .homeMade], hasVocabularyBias: true),
    .gguf(.gptNeoX, sources: [.gptNeoX, .homeMade]),
    .gguf(Architecture.bert[0], sources: [Architecture.bert[0], Architecture.distilBERT[0]]),
  ].compactMap { $0 }

  private func stock(for source: TargetSource, options: TargetOptions) throws(Refusal) -> StockClass {
    let kept = normsKept(of: source, for: options.type)
    guard let stock = try Self.classes.chosen(for: source, options: options, keeping: kept, target: name) else {
      let isOfBERT = ["bert", "roberta", "distilbert"].contains(source.architecture.modelType)
      throw Refusal(
        .unsupported, subject: name,
        isOfBERT
          ? "of encoders only BertModel and DistilBertModel are written as llama.cpp's bert, and this is \(source.architecture.className)"
          : "llama.cpp has no architecture for \(source.architecture.nameWithArticle)",
        advice: "use \(.targets, "onnxruntime")")
    }
    return stock
  }

  package func keptNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> {
    guard options.type.elementsPerBlock > 1 else {
      return (try? stock(for: source, options: options))?.keptNorms(of: source.network) ?? []
    }
    return normsKept(of: source, for: options.type)
  }

  /// The norms that stay as they are because a type has blocks.
  private func normsKept(of source: TargetSource, for type: ElementType) -> Set<Path> {
    guard type.elementsPerBlock > 1 else { return [] }
    // One tensor holds the norm of all of its readers; where they read it differently, it can hold neither.
    return Set(source.network.norms.filter { $0.norm.readers == nil }.map(\.path))
  }

  package func leavesNorms(_ network: Network, from source: TargetSource) -> Bool { true }

  package func output(
    of network: Network, from source: TargetSource, options: TargetOptions
  ) throws(Refusal) -> TargetOutput {
    let stock = try stock(for: source, options: options)
    let stored = try stock.stored(network.withoutSideOutputs(), from: source, options: options, target: name)
    let isTied = stock.sharesEmbedding(stored.sizes)
    // Block by block, as a runtime reads them.
    let tensors = stock.layout.tensors(of: stored.network, sizes: stored.sizes).filter {
      !$0.slot.isOmittedWhereTied || !isTied
    }
    let (blocks, others) = (tensors.filter { $0.slot.block != nil }, tensors.filter { $0.slot.block == nil })
    let ordered =
      others.filter(\.slot.isEmbedding)
      + (0..<network.blockCount).flatMap { block in blocks.filter { $0.slot.block == block } }
      + others.filter { !$0.slot.isEmbedding }
    let divisors = stock.rotaryDivisors(stored.sizes).map { [$0] } ?? []
    let parameters =
      divisors
      + ordered.map { slot, value in
        TargetOutput.StoredParameter(
          name: slot.name, value: value, type: storedType(of: slot, value, as: options.type, isTied: isTied))
      }
    let tokenizer = try LlamaCppTokenizer(of: source)
    let keys =
      try metadata(of: stock, stored.sizes, from: source, type: options.type, parameters: parameters)
      + tokenizer.keys
    var output = TargetOutput(
      fileName: "model.gguf", parameters: parameters,
      writer: { (path, provenance) throws(Refusal) in
        let made = provenance.sorted { $0.key < $1.key }.map { ($0.key, GGUFValue.string($0.value)) }
        return try TensorWriter(gguf: path, metadata: keys + made, tensors: parameters.map(\.info))
      },
      sideFiles: [],
      notes: network.noteOnLastNorm + notes(on: parameters, layout: stock.layout, type: options.type, isTied: isTied)
        + tokenizer.notes + encoderNotes(on: network, from: source, pooling: try source.pooling(for: stock)))
    output.approximation = stored.approximation
    if let approximation = stored.approximation, let exact = network.activations.first {
      let difference = exact.largestDifference(from: approximation).twoDigits
      output.notes.append(
        "llama.cpp computes \(approximation.configName) instead of \(exact.configName), as allowed: up to \(difference) "
          + "in each hidden unit; what that does to the logits is in the limits")
    }
    return output
  }

  /// Returns what llama.cpp leaves out of an encoder, or has to be told.
  private func encoderNotes(on network: Network, from source: TargetSource, pooling: GGUFValue?) -> [Message] {
    guard network.task != .generation else { return [] }
    var notes = network.sideOutputs.map { path -> Message in
      "\(path) is left out: llama.cpp gives \(network.task.outputName) alone"
    }
    if (network.tokenTypeEmbedding?.rowCount ?? 1) > 1 {
      notes.append(
        "llama.cpp takes every token for one of the first text, so that pairs of texts have other states there")
    }
    if pooling == nil {
      notes.append("nothing beside the source says how states become one vector of a text: llama.cpp has to be told")
    }
    return notes
  }

  // MARK: Types

  /// The type of a tensor, by the rules of llama.cpp's quantiser: vectors and positions are F32; matrices have the type
  /// that is asked for, or F16 where their rows are not whole blocks; what unembeds has at least Q8_0, be it the token
  /// embedding. (llama.cpp takes Q6_K there where rows are multiples of 256, which is not written here, and Q8_0 elsewhere.)
  private func storedType(
    of slot: Slot, _ value: Parameter, as type: ElementType, isTied: Bool
  ) -> ElementType {
    let tables = ["embedding.positions.weight", "embedding.types.weight"]
    guard value.shape.count == 2, !tables.contains(slot.parameters[0]) else { return .f32 }
    let unembeds = slot.parameters == [isTied ? "embedding.tokens.weight" : "unembedding.weight"]
    return (unembeds && type.elementsPerBlock > 1 ? .q8_0 : type).fitting(rowLength: value.columnCount)
  }

  private func notes(
    on parameters: [TargetOutput.StoredParameter], layout: Layout, type: ElementType, isTied: Bool
  ) -> [Message] {
    guard type.elementsPerBlock > 1 else { return [] }
    var notes: [Message] = []
    let narrow = parameters.filter { $0.info.type == .f16 }
    if let first = narrow.first, let width = first.info.shape.last {
      notes.append(
        "\(narrow.count) matrices are F16, since rows of \(width) elements are not blocks of \(type.elementsPerBlock)")
    }
    let unembedding = isTied ? "embedding.tokens.weight" : "unembedding.weight"
    let name = layout.slot(of: unembedding, blockCount: 1)?.name ?? unembedding
    if type != .q8_0, parameters.contains(where: { $0.info.name == name && $0.info.type == .q8_0 }) {
      notes.append(
        "\(name) unembeds, so it is Q8_0; llama.cpp's quantiser takes Q6_K for it where rows are multiples of 256")
    }
    return notes
  }
}

extension Slot {
  fileprivate var isEmbedding: Bool { parameters[0].hasPrefix("embedding.") }
}

extension StockClass {
  /// Returns what llama.cpp computes of an architecture; nil where it does not know it.
  static func gguf(_ architecture: Architecture, sources: [Architecture]? = nil, hasVocabularyBias: Bool = false)
    -> StockClass?
  {
    architecture.gguf.map { description in
      StockClass(
        name: description.architecture, architecture: architecture, layout: description.layout,
        activation: description.activation, hasVocabularyBias: hasVocabularyBias, keepsTie: false,
        sources: sources ?? [architecture])
    }
  }
}
