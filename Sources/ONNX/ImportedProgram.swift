import NormFoldFormats
import NormFoldNetworks

/// A graph that another program exported, in which the numbers of a network were looked for.
///
/// Names and forms of such graphs change from exporter to exporter and from one release to the next. What stays is that a
/// graph multiplies by the network's matrices: they are found by their numbers (``WeightSearch``), as they lie, transposed,
/// several in one or in another order. What the graph computes between its products can then be held against the network's
/// operations, one stretch at a time, by giving it the results of its products.
@safe package struct ImportedProgram: CuttableProgram {
  private let evaluator: ONNXEvaluator
  private let task: Task
  private let found: WeightSearch.Result
  package let network: Network
  package let products: [CutProduct]

  /// - Parameters:
  ///   - network: as its own runtime computes it.
  ///   - file: for messages.
  /// - Throws: `.unsupported` where the graph has an input or output that is not known.
  package init(_ graph: ONNXGraph, like network: Network, file: String) throws(Refusal) {
    evaluator = try ONNXEvaluator(graph, file: file)
    task = network.task
    found = WeightSearch(graph).result(for: network)
    products = found.products.map(\.product)
    self.network = found.storing(network)
    for input in graph.inputs where !Self.isKnown(input.name) {
      throw Refusal(
        .unsupported, file: file, subject: input.name, "is an input whose meaning is not known here",
        advice: "export the model with the inputs \(Self.inputNames.joined(separator: ", "))")
    }
    if let fixedLength, !(1...network.contextLength ~= fixedLength) {
      throw Refusal(
        .unsupported, file: file,
        "takes sequences of \(fixedLength) tokens, and the network at most \(network.contextLength)",
        advice: "export the model with a length that it has")
    }
    for name in task.outputNames where !graph.outputs.contains(where: { $0.name == name }) {
      throw Refusal(
        .unsupported, file: file,
        "expected an output '\(name)', found \(graph.outputs.map(\.name).joined(separator: ", "))",
        advice: "name the outputs as Optimum does")
    }
  }

  private static let inputNames = ["input_ids", "attention_mask", "position_ids", "token_type_ids", "pixel_values"]

  private static func isKnown(_ name: String) -> Bool {
    inputNames.contains(name) || name.hasPrefix("past_key_values.")
  }

  package var missing: [Path] { found.missing }
  package var missingVectors: [Path] { found.missingVectors }
  package var outputWidth: Int { network.outputWidth }
  package var takesPositions: Bool { false }

  /// The length of all sequences, where the graph fixes it.
  private var fixedLength: Int? {
    let ids = evaluator.graph.inputs.first { $0.name == "input_ids" }
    guard let ids, ids.shape.count == 2, case .fixed(let length) = ids.shape[1] else { return nil }
    return length
  }

  package var sequenceLengths: ClosedRange<Int> {
    // An image has as many patches as it has.
    if network.image != nil { return network.contextLength...network.contextLength }
    guard let fixedLength else { return 1 ... .max }
    // What is attended to must be said where tokens are attended to that come later.
    let takesPadding = network.isCausal || evaluator.graph.inputs.contains { $0.name == "attention_mask" }
    return (takesPadding ? 1 : fixedLength)...fixedLength
  }

  package var type: ElementType {
    evaluator.graph.initializers.first { if case .external = $0.content { $0.shape.count == 2 } else { false } }?.type
      ?? .f32
  }

  package func storing(_ network: Network) -> Network? { found.storing(network) }

  /// - Throws: `.input` where a file of weights changed while it was read.
  package func requireIntact() throws(Refusal) {
    for initializer in evaluator.graph.externalInitializers {
      for tensor in initializer.value.storedTensors { try tensor.file.requireIntact() }
    }
  }

  package func logits(of probe: Probe, product: @escaping MatrixProduct) throws(Refusal) -> [Double] {
    var evaluator = evaluator
    unsafe evaluator.product = product
    return try output(of: probe, by: evaluator, replacement: nil)
  }

  package func run(
    _ probe: Probe, products results: [[Double]]
  ) throws(Refusal) -> (inputs: [[Double]], output: [Double]) {
    let numbers = Dictionary(uniqueKeysWithValues: found.products.enumerated().map { ($1.node, $0) })
    var inputs = [[Double]](repeating: [], count: products.count)
    let output = try output(of: probe, by: evaluator) { (index, node) throws(Refusal) in
      guard let number = numbers[index] else { return nil }
      let x = try node.tensor(0)
      inputs[number] = try node.numbers(0)
      let width = products[number].width
      let rows = x.shape.dropLast().reduce(1, *)
      guard rows * width <= results[number].count, let last = x.shape.last, last > 0 else {
        throw node.refusal("expected at most \(results[number].count / width) rows, found \(rows)")
      }
      // A sequence of a fixed length is padded at its end.
      let product = ONNXTensor(x.shape.dropLast() + [width], Array(results[number][..<(rows * width)]))
      return node.node.operation == "Gemm" ? try node.added(to: product) : product
    }
    return (inputs, output)
  }

  /// The number of rows that a sequence has in the graph.
  package func rowCount(of probe: Probe) -> Int {
    fixedLength ?? probe.tokens.count
  }

  private func output(
    of probe: Probe, by evaluator: ONNXEvaluator,
    replacement: ((_ index: Int, _ node: NodeEvaluation) throws(Refusal) -> ONNXTensor?)?
  ) throws(Refusal) -> [Double] {
    let count = probe.tokens.count
    let rows = rowCount(of: probe)
    func row(_ values: [Int]) -> ONNXTensor {
      ONNXTensor([1, rows], values.prefix(rows) + [Int](repeating: 0, count: max(0, rows - values.count)))
    }
    var inputs: [String: ONNXTensor] = [
      "input_ids": row(probe.tokens), "attention_mask": row(probe.isVisible.map { $0 ? 1 : 0 }),
      "position_ids": row(probe.positions), "token_type_ids": row(probe.types),
    ]
    if let image = network.image, !probe.pixels.isEmpty {
      inputs["pixel_values"] = ONNXTensor([1, image.channels, image.height, image.width], probe.pixels)
    }
    for input in evaluator.graph.inputs where inputs[input.name] == nil {
      // Nothing was computed before.
      let shape = input.shape.enumerated().map { axis, extent -> Int in
        if case .fixed(let extent) = extent { extent } else { axis == 0 ? 1 : 0 }
      }
      guard ONNXTensor.isPossible(shape) else {
        throw Refusal(.unsupported, subject: input.name, "an input of shape \(shape) is too large")
      }
      inputs[input.name] = ONNXTensor(shape, [Double](repeating: 0, count: shape.reduce(1, *)))
    }
    let outputs = try evaluator.run(inputs, replacement: replacement)
    var columns: [(values: [Double], width: Int)] = []
    for name in task.outputNames {
      guard let output = outputs[name], let values = output.numbers, output.shape.first == 1,
        task.isPerSequence || output.shape.count > 1 && output.shape[1] == rows
      else {
        throw Refusal(
          .malformed, subject: name,
          "expected an output of one sequence of \(rows) tokens, found "
            + (outputs[name]?.summary ?? "none"))
      }
      columns.append((values, task.isPerSequence ? 0 : values.count / rows))
    }
    if task.isPerSequence { return (0..<count).flatMap { _ in columns[0].values } }
    return (0..<count).flatMap { token in
      columns.flatMap { $0.values[token * $0.width..<(token + 1) * $0.width] }
    }
  }
}
