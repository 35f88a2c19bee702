import FoundationEssentials
import NormFoldFormats
import NormFoldNetworks
import NormFoldONNX
import Synchronization

/// onnxruntime, and what reads the same files: Optimum, onnxruntime-genai, transformers.js. One graph for the prompt and
/// for decoding with a cache; norms that were folded leave nothing behind.
package struct ONNXTarget: Target {
  package init() {}

  package var name: String { "onnxruntime" }
  package var summary: String { "onnxruntime, Optimum, onnxruntime-genai: model.onnx with KV cache; no norms" }
  package var types: [ElementType] { [.f32, .f16] }
  package var normKinds: Set<Norm.Kind> { Set(Norm.Kind.allCases) }
  package func keptNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> { [] }
  package func leavesNorms(_ network: Network, from source: TargetSource) -> Bool { !network.norms.isEmpty }

  package func output(
    of network: Network, from source: TargetSource, options: TargetOptions
  ) throws(Refusal) -> TargetOutput {
    let type = options.type
    let form: ONNXGraph.Form =
      options.onnxForm == .cached
      ? .cached
      : .plain(length: network.contextLength, readsEmbeddings: options.onnxForm == .plainEmbeddings)
    let graph = try ONNXGraph(
      of: network.withoutSideOutputs(), type: type, endOfText: source.endOfText, form: form)
    let architecture = source.architecture
    let sizes = architecture.hyperparameters(of: network, from: source.hyperparameters)
    // Runtimes read sizes and tokens of it; where there are no norms there is no epsilon.
    let epsilons = architecture.configuration.keyNames(of: .epsilon)
    let configuration = source.configuration(
      for: architecture, sizes: sizes, omitting: network.norms.isEmpty ? Set(epsilons) : [], type: type)
    let tokenizer = try source.tokenizerFiles()
    var sideFiles = tokenizer + [("config.json", Array(configuration.text.utf8))]
    if network.task == .generation, form == .cached {
      let genAI = network.genAIConfiguration(endOfText: source.endOfText)
      sideFiles.append(("genai_config.json", Array(genAI.text.utf8)))
    }
    let unused = network.sideOutputs.map { path -> Message in
      "\(path) is left out: the graph gives \(network.task.outputName) alone, as Optimum's does"
    }
    return TargetOutput(
      fileName: ONNXNames.data,
      parameters: graph.externalInitializers.map { TargetOutput.StoredParameter(info: $0.info, value: $0.value) },
      writer: { (path, metadata) throws(Refusal) in
        var graph = graph
        graph.metadata = metadata
        return try TensorWriter(onnx: graph, in: String(path.dropLast(ONNXNames.data.count + 1)))
      },
      readTensors: { (directory) throws(Refusal) in
        let written = try ONNXGraph(reading: directory)
        try written.requireSame(as: graph, file: ONNXNames.model)
        return written.externalInitializers.compactMap { $0.value.storedTensor }
      },
      sideFiles: sideFiles,
      notes: [Self.note(on: graph)] + Self.notes(on: form) + unused
        + source.notes(onTokenizerFiles: tokenizer))
  }

  package func written(in directory: String) throws(Refusal) -> WrittenModel {
    .program(
      ONNXProgram(evaluator: try ONNXEvaluator(ONNXGraph(reading: directory), file: ONNXNames.model)))
  }

  /// Returns notes on what holds of a graph of fixed length only; none for other graphs.
  private static func notes(on form: ONNXGraph.Form) -> [Message] {
    guard let length = form.length else { return [] }
    let given =
      form.readsEmbeddings ? "embeddings, which \(ONNXNames.lookup) gives for ids" : "ids"
    return [
      "takes \(length) \(given); what stands behind a shorter text is not seen by it",
      "a hidden token scores −\(Int(-ONNXLowering.hiddenScore)) in attention: none of it is seen where the largest score of a row is above −150",
    ]
  }

  /// The operators by number, and the ones that a norm would need.
  private static func note(on graph: ONNXGraph) -> Message {
    let counts = graph.operatorCounts
    let list = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \($0.value)" }
    let ofNorms = [
      "LayerNormalization", "ReduceMean", "Div", "Sqrt", "Reciprocal", "Pow", "ReduceSum", "ReduceSumSquare",
    ].filter { counts[$0] != nil }
    return "operators: \(list.joined(separator: ", ")); "
      + (ofNorms.isEmpty ? "none that a norm would need" : "for norms: \(ofNorms.joined(separator: ", "))")
  }
}

/// A written graph, computed as a runtime generates text: most tokens in one run, behind masked ones, and the last one
/// through the cache. A mask or cache that is wrong is off by the size of the logits.
package struct ONNXProgram: LogitProgram {
  var evaluator: ONNXEvaluator

  init(evaluator: ONNXEvaluator) { self.evaluator = evaluator }

  /// Opens a graph that was written for onnxruntime: its directory, or the model file in it.
  ///
  /// - Throws: what reading a graph throws.
  package init(opening path: String) throws(Refusal) {
    let file = Self.modelFile(at: path)
    let directory = file.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    evaluator = try ONNXEvaluator(ONNXGraph(reading: directory.isEmpty ? "." : directory), file: file)
  }

  /// Opens a graph that another program exported of a network.
  ///
  /// - Returns: nil for a graph that was written here.
  /// - Throws: what reading a graph throws.
  package static func imported(from path: String, like network: Network) throws(Refusal) -> (any CuttableProgram)? {
    let file = modelFile(at: path)
    guard try !ONNXGraph.isWrittenHere(file) else { return nil }
    return try ImportedProgram(ONNXGraph(importing: file), like: network, file: file)
  }

  /// Returns whether a path names a graph, or a directory that has one.
  package static func isThere(at path: String) -> Bool {
    path.hasSuffix(".onnx") || FileManager.default.fileExists(atPath: modelFile(at: path))
  }

  /// The model file: the path itself, or the file of the usual name in the directory that it names.
  package static func modelFile(at path: String) -> String {
    path.hasSuffix(".onnx") ? path : path + "/" + ONNXNames.model
  }

  /// The network that the graph computes, where it is one of the form that this program writes.
  package func network(like reference: Network, endOfText: Int?) -> Network? {
    evaluator.graph.raised(like: reference.withoutSideOutputs(), endOfText: endOfText)
  }

  /// The type that its matrices are stored in.
  package var type: ElementType { evaluator.graph.externalInitializers.first?.info.type ?? .f32 }

  /// - Throws: `.input` where the file of the weights changed while it was read.
  package func requireIntact() throws(Refusal) {
    for initializer in evaluator.graph.externalInitializers {
      for tensor in initializer.value.storedTensors { return try tensor.file.requireIntact() }
    }
  }

  private static let paddingCount = 3

  /// The task of the graph, by the names and shapes of its inputs and outputs.
  private var task: Task {
    if evaluator.graph.form.isPlain { return .generation }
    let names = evaluator.graph.outputs.map(\.name)
    for task in [Task.features, .questionAnswering, .wordRegression] where task.outputNames == names { return task }
    // Those without keys and values have one output, whatever its logits are of.
    guard evaluator.graph.inputs.allSatisfy({ !$0.name.hasPrefix("past_key_values.") }) else { return .generation }
    return evaluator.graph.outputs.first?.shape.count == 2 ? .sequenceClassification : .tokenClassification
  }

  /// The number of tokens that it takes; nil where any number will do.
  package var length: Int? { evaluator.graph.form.length }

  package var takesPositions: Bool { length == nil }

  /// A hidden token of the plain form has a small weight, and not none: its score is finite.
  package var limitation: String? {
    length.map { _ in
      "rows of attention whose largest score is below −150: a hidden token scores −\(Int(-ONNXLowering.hiddenScore)) and is seen there"
    }
  }
  package var sequenceLengths: ClosedRange<Int> { 1...(length ?? .max) }

  package var outputWidth: Int {
    let extents = evaluator.graph.outputs.filter { task.outputNames.contains($0.name) }.map(\.shape.last)
    return extents.reduce(0) { if case .fixed(let size) = $1 { $0 + size } else { $0 + 1 } }
  }

  package func storing(_ network: Network) -> Network? { evaluator.graph.storing(network.withoutSideOutputs()) }

  package func logits(of probe: Probe, product: @escaping MatrixProduct) throws(Refusal) -> [Double] {
    var evaluator = evaluator
    unsafe evaluator.product = product
    let (tokens, task) = (probe.tokens, task)
    if let length { return try evaluator.logits(ofFirst: tokens, of: length) }
    guard task == .generation else {
      return try evaluator.outputs(of: probe, task: task)
    }
    return try evaluator.logits(
      tokens: tokens, positions: probe.positions, steps: tokens.count > 1 ? [tokens.count - 1, 1] : [tokens.count],
      padding: Self.paddingCount)
  }

  /// Within an activation an infinite number is no loss: its functions end at constants.
  package func overflow(on probe: Probe, product: @escaping MatrixProduct) throws(Refusal) -> ProgramOverflow? {
    let found = Mutex<ProgramOverflow?>(nil)
    var observed = self
    observed.evaluator.onOverflow = { name, number in
      guard !name.contains(".activation.") else { return }
      found.withLock { $0 = $0 ?? .init(place: name, value: number, type: "F16", largest: 65504) }
    }
    _ = unsafe try observed.logits(of: probe, product: product)
    return found.withLock { $0 }
  }
}
