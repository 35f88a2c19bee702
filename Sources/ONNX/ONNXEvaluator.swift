import NormFoldFormats
import NormFoldNetworks

/// Computes a graph in double precision: a second reading of what the file says, which knows nothing of the network
/// that the graph was made from. A bias that got lost on the way to the file, a matrix that lies the wrong way or a
/// mask that hides nothing shows in its logits.
///
/// It knows the operators that ``ONNXLowering`` emits and those that exporters of PyTorch emit for the same networks, and
/// refuses all others by name.
@safe package struct ONNXEvaluator: Sendable {
  package let graph: ONNXGraph
  private let file: String?
  private let initializers: [String: ONNXGraph.Initializer]
  /// For each value, the last node that reads it.
  private let lastReads: [String: Int]
  /// A fast one for large models; plain loops otherwise.
  package var product: MatrixProduct
  /// Called with the name of each value in which a number is too large for F16, in a graph that computes in F16, and that
  /// number.
  package var onOverflow: @Sendable (_ name: String, _ number: Double) -> Void = { _, _ in }
  /// Is true if every number between the nodes is F16, so that larger ones are infinite.
  private let isInHalves: Bool

  /// - Parameter file: for messages.
  /// - Throws: `.malformed` for a graph that breaks the rules of ``ONNXGraph/check(file:)``.
  package init(_ graph: ONNXGraph, file: String? = nil) throws(Refusal) {
    try graph.check(file: file)
    self.graph = graph
    self.file = file
    initializers = Dictionary(graph.initializers.map { ($0.name, $0) }) { first, _ in first }
    var reads: [String: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for input in node.inputs { reads[input] = index }
    }
    lastReads = reads
    isInHalves = graph.isInHalves
    unsafe product = plainProduct
  }

  // MARK: Sequences

  /// The logits [tokens, vocabulary] of one sequence.
  ///
  /// - Parameters:
  ///   - positions: the position of each token; without them its place in the sequence.
  ///   - steps: how many tokens each run gets; the keys and values of earlier runs come from the cache. All in one run
  ///     without it.
  ///   - padding: how many masked tokens stand before the sequence.
  /// - Precondition: the steps add up to the number of tokens.
  package func logits(
    tokens: [Int], positions: [Int]? = nil, steps: [Int]? = nil, padding: Int = 0
  ) throws(Refusal) -> [Double] {
    let steps = steps ?? [tokens.count]
    let positions = positions ?? Array(tokens.indices)
    precondition(steps.reduce(0, +) == tokens.count && positions.count == tokens.count)
    var cache: [String: ONNXTensor] = [:]
    for input in graph.inputs where input.name.hasPrefix("past_key_values.") {
      let shape = input.shape.map { if case .fixed(let extent) = $0 { extent } else { 1 } }
      guard shape.count == 4 else { throw refusal(input.name, "expected four axes, found \(shape.count)") }
      cache[input.name] = ONNXTensor([1, shape[1], 0, shape[3]], [Double]())
    }
    var result: [Double] = []
    var start = 0
    for step in steps {
      // The padding comes with the first run and stays in the cache.
      let added = start == 0 ? padding : 0
      let end = start + step
      let ids = [Int](repeating: 0, count: added) + tokens[start..<end]
      var inputs = cache
      inputs["input_ids"] = ONNXTensor([1, ids.count], ids)
      inputs["position_ids"] = ONNXTensor([1, ids.count], [Int](repeating: 0, count: added) + positions[start..<end])
      inputs["attention_mask"] = ONNXTensor(
        [1, padding + end], [Int](repeating: 0, count: padding) + [Int](repeating: 1, count: end))
      var outputs = try run(inputs)
      guard let logits = outputs.removeValue(forKey: "logits"), let values = logits.numbers, logits.shape.count == 3,
        logits.shape[1] == ids.count
      else {
        throw refusal("logits", "expected an output [1, \(ids.count), vocabulary]")
      }
      result += values[(added * logits.shape[2])...]
      for (name, value) in outputs where name.hasPrefix("present.") {
        cache["past_key_values." + name.dropFirst("present.".count)] = value
      }
      start = end
    }
    return result
  }

  /// The logits [tokens, vocabulary] of one sequence by a graph of fixed length: what stands behind the tokens must not matter.
  ///
  /// - Throws: `.unsupported` for more tokens than the graph takes.
  package func logits(ofFirst tokens: [Int], of length: Int) throws(Refusal) -> [Double] {
    guard tokens.count <= length else {
      throw Refusal(
        .unsupported, file: file, "takes \(length) tokens, and \(tokens.count) were to be run")
    }
    let rest = [Int](repeating: 0, count: length - tokens.count)
    guard let logits = try run(["input_ids": ONNXTensor([1, length], tokens + rest)])["logits"],
      let values = logits.numbers, logits.shape.count == 3, logits.shape[1] == length
    else { throw refusal("logits", "expected an output [1, \(length), vocabulary]") }
    return Array(values[..<(tokens.count * logits.shape[2])])
  }

  /// Returns the outputs that a graph without a cache gives for one sequence: [tokens, outputs], the outputs of a token
  /// side by side. Where the graph gives one answer for the sequence, or for each word, every token gets the answer of
  /// its sequence or word.
  package func outputs(of probe: Probe, task: Task) throws(Refusal) -> [Double] {
    let count = probe.tokens.count
    func input(_ values: [Int]) -> ONNXTensor { ONNXTensor([1, count], values) }
    var inputs = [
      "input_ids": input(probe.tokens), "attention_mask": input(probe.isVisible.map { $0 ? 1 : 0 }),
      "token_type_ids": input(probe.types),
    ]
    if let image = graph.inputs.first(where: { $0.name == "pixel_values" }) {
      let shape = image.shape.map { if case .fixed(let extent) = $0 { extent } else { 1 } }
      guard shape.reduce(1, *) == probe.pixels.count else {
        throw refusal(image.name, "expected an image of \(probe.pixels.count) numbers, found shape \(shape)")
      }
      inputs[image.name] = ONNXTensor(shape, probe.pixels)
    }
    let wordCount = (probe.words.max() ?? -1) + 1
    if wordCount > 0 {
      let means = (0..<wordCount).flatMap { word in
        let size = Double(max(1, probe.words.count { $0 == word }))
        return probe.words.map { $0 == word ? 1 / size : 0 }
      }
      inputs["word_pooling"] = ONNXTensor([1, wordCount, count], means)
      let features = probe.features.flatMap(\.self)
      inputs["word_features"] = ONNXTensor([1, wordCount, features.count / wordCount], features)
    }
    inputs = inputs.filter { name, _ in graph.inputs.contains { $0.name == name } }
    let found = try run(inputs)
    if task == .wordRegression {
      guard let output = found[task.outputNames[0]], let values = output.numbers, output.shape.count == 3,
        output.shape[1] == wordCount, probe.words.allSatisfy({ $0 >= 0 })
      else { throw refusal(task.outputNames[0], "expected an output of \(wordCount) words") }
      let width = output.shape[2]
      return probe.words.flatMap { values[$0 * width..<($0 + 1) * width] }
    }
    var columns: [(values: [Double], width: Int)] = []
    for name in task.outputNames {
      guard let output = found[name], let values = output.numbers, output.shape.first == 1,
        task.isPerSequence || output.shape.count > 1 && output.shape[1] == count
      else {
        throw refusal(name, "expected an output of a sequence of \(count) tokens")
      }
      columns.append((values, task.isPerSequence ? 0 : values.count / count))
    }
    if task.isPerSequence { return (0..<count).flatMap { _ in columns[0].values } }
    return (0..<count).flatMap { token in
      columns.flatMap { $0.values[token * $0.width..<(token + 1) * $0.width] }
    }
  }

  // MARK: One run

  /// - Returns: the outputs of the graph by name.
  /// - Throws: `.unsupported` for an operator that cannot be computed here, `.malformed` for operands that do not fit.
  package func run(_ inputs: [String: ONNXTensor]) throws(Refusal) -> [String: ONNXTensor] {
    try run(inputs, replacement: nil)
  }

  /// - Parameter replacement: computes a node in another way than its operator says; nil for what the operator says.
  func run(
    _ inputs: [String: ONNXTensor],
    replacement: ((_ index: Int, _ node: NodeEvaluation) throws(Refusal) -> ONNXTensor?)?
  ) throws(Refusal) -> [String: ONNXTensor] {
    var values: [String: ONNXTensor] = [:]
    for input in graph.inputs {
      guard let value = inputs[input.name] else { throw refusal(input.name, "this input is missing") }
      guard value.shape.count == input.shape.count else {
        throw refusal(input.name, "expected \(input.shape.count) axes, found shape \(value.shape)")
      }
      values[input.name] = value
    }
    let kept = Set(graph.outputs.map(\.name))
    for (index, node) in graph.nodes.enumerated() {
      var operands: [Operand] = []
      for name in node.inputs {
        if name.isEmpty {
          operands.append(.absent)
        } else if let value = values[name] {
          operands.append(.tensor(value))
        } else if let initializer = initializers[name] {
          operands.append(Operand(initializer))
        } else {
          throw refusal(node.name, "'\(name)' has no value")
        }
      }
      for name in node.inputs where lastReads[name] == index && !kept.contains(name) { values[name] = nil }
      let evaluation = unsafe NodeEvaluation(node: node, operands: operands, file: file, product: product)
      let replaced = try replacement?(index, evaluation)
      let results = if let replaced { [replaced] } else { try evaluation.results() }
      guard node.outputs.count == results.count else {
        throw refusal(node.name, "expected \(results.count) outputs, found \(node.outputs.count)")
      }
      for (name, value) in zip(node.outputs, results) {
        values[name] = isInHalves ? value.inRangeOfHalves { onOverflow(name, $0) } : value
      }
    }
    return values.filter { kept.contains($0.key) }
  }

  private func refusal(_ subject: String, _ problem: String) -> Refusal {
    Refusal(.malformed, file: file, subject: subject, problem)
  }
}

extension ONNXGraph {
  /// Is true if the numbers that go in and come out are F16 and no constant or cast in between is wider.
  fileprivate var isInHalves: Bool {
    let wide: Set<ElementType> = [.f32, .f64, .bf16]
    // The numbers of these types in an attribute.
    let widening = [1, 11, 16].map { Attribute.integer($0) }
    return outputs.contains { $0.type == .f16 }
      && wide.isDisjoint(with: (inputs + outputs).map(\.type) + initializers.map(\.type))
      && !nodes.contains { $0.operation == "Cast" && widening.contains($0.attributes["to"] ?? .integer(0)) }
  }
}

extension ONNXTensor {
  /// Numbers that round to more than the largest of F16 as what they become there: infinite.
  fileprivate func inRangeOfHalves(_ overflow: (Double) -> Void) -> ONNXTensor {
    // Halfway between 65504 and the number that would come next.
    let bound = 65520.0
    guard case .numbers(let values) = content, let first = values.first(where: { abs($0) >= bound && $0.isFinite })
    else { return self }
    overflow(first)
    return ONNXTensor(shape, values.map { abs($0) >= bound ? .infinity * $0 : $0 })
  }
}

/// The operand of a node: a value, or a weight that is read in pieces.
enum Operand {
  case tensor(ONNXTensor)
  case weight(Parameter)
  /// An input that is optional and left out.
  case absent

  /// Its value, all of it; nil for one that is left out.
  var tensor: ONNXTensor? {
    switch self {
    case .tensor(let tensor): tensor
    case .weight(let value): ONNXTensor(value.shape, ParameterReader(value).values())
    case .absent: nil
    }
  }

  init(_ initializer: ONNXGraph.Initializer) {
    switch initializer.content {
    case .integers(let values): self = .tensor(ONNXTensor(initializer.shape, values))
    case .booleans(let values): self = .tensor(ONNXTensor(initializer.shape, values))
    case .numbers(let values): self = .tensor(ONNXTensor(initializer.shape, values))
    case .external(let value) where initializer.shape.count <= 2: self = .weight(value)
    case .external(let value): self = .tensor(ONNXTensor(initializer.shape, ParameterReader(value).values()))
    }
  }

  var shape: [Int] {
    switch self {
    case .tensor(let tensor): tensor.shape
    case .weight(let value): value.shape
    case .absent: []
    }
  }
}

/// Rows of C in the order of memory, so that the innermost loop runs along rows.
private func plainProduct(
  m: Int, n: Int, k: Int, a: UnsafePointer<Double>, strideA: Int, b: UnsafePointer<Double>, strideB: Int,
  isTransposed: Bool, c: UnsafeMutablePointer<Double>, strideC: Int
) {
  for row in 0..<m {
    let left = unsafe a + row * strideA
    let target = unsafe c + row * strideC
    if isTransposed {
      for column in 0..<n {
        let right = unsafe b + column * strideB
        var sum = 0.0
        for inner in 0..<k { unsafe sum += left[inner] * right[inner] }
        unsafe target[column] += sum
      }
    } else {
      for inner in 0..<k {
        let factor = unsafe left[inner]
        let right = unsafe b + inner * strideB
        for column in 0..<n { unsafe target[column] += factor * right[column] }
      }
    }
  }
}
