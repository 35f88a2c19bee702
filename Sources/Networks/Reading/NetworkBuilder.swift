/// The form of a block: where its norms stand, and what its MLP reads.
package enum BlockForm: Sendable {
  /// y = x + attention(norm₁(x)), then y + mlp(norm₂(y))
  case preNorm
  /// y = norm₁(x + attention(x)), then norm₂(y + mlp(y)). What leaves the block is the second norm.
  case postNorm
  /// x + attention(norm₁(x)) + mlp(norm₂(x))
  case parallel
  /// x + attention(norm₁(x)) + mlp(norm₁(x))
  case parallelBehindOneNorm
}

/// Builds a network operation by operation; what an architecture's forward pass is written in.
package struct NetworkBuilder {
  package private(set) var network: Network
  private let hyperparameters: Hyperparameters
  private let normKind: Norm.Kind
  private let parameters: (String) -> Parameter?
  private let normName: (Path) -> String?
  /// Parameters that the forward pass needs and that are not there.
  package private(set) var missing: [String] = []

  /// - Parameters:
  ///   - parameters: gives the parameter of a name, `blocks.0.attention.query.weight`.
  ///   - normName: gives the name of the norm at a path, as tensors spell it.
  init(
    hyperparameters: Hyperparameters, normKind: Norm.Kind, parameters: @escaping (String) -> Parameter?,
    normName: @escaping (Path) -> String?, task: Task = .generation
  ) {
    network = Network(contextLength: hyperparameters.contextLength)
    network.task = task
    self.hyperparameters = hyperparameters
    self.normKind = normKind
    self.parameters = parameters
    self.normName = normName
  }

  /// Appends an operation on values that are there.
  @discardableResult
  package mutating func apply(_ operation: Operation, to operands: Path..., at path: Path) -> Path {
    switch operands.count {
    case 0: network.append(operation, at: path)
    case 1: network.append(operation, to: operands[0], at: path)
    case 2: network.append(operation, to: operands[0], operands[1], at: path)
    default: network.append(operation, to: operands[0], operands[1], operands[2], at: path)
    }
  }

  private mutating func required(_ name: String) -> Parameter {
    if let parameter = parameters(name) { return parameter }
    missing.append(name)
    return .constant(0, shape: [1, 1])
  }

  /// Returns whether there is a weight for the operation at a path.
  package func has(_ path: Path) -> Bool { parameters("\(path).weight") != nil }

  /// The rows of a table, multiplied by a number.
  package mutating func embed(by index: Operation.Index, at path: Path, times factor: Double = 1) -> Path {
    let table = required("\(path).weight")
    return apply(.embed(factor == 1 ? table : table.multiplied(by: factor), by: index), at: path)
  }

  /// A norm of a value, or the value itself where no gain of such a norm is stored.
  ///
  /// - Parameters:
  ///   - headCount: how many heads are normed each by itself.
  ///   - kind: that of the network's norms, without it.
  package mutating func normalised(
    _ x: Path, headCount: Int = 1, kind: Norm.Kind? = nil, at path: Path
  ) -> Path {
    guard let gain = parameters("\(path).weight") else { return x }
    return apply(
      .norm(
        Norm(
          name: normName(path) ?? path.description, kind: kind ?? normKind, headCount: headCount, gain: gain,
          bias: parameters("\(path).bias"), deviation: .computed(epsilon: hyperparameters.epsilon))), to: x, at: path)
  }

  /// A norm of each head that has neither gain nor bias, so that no tensor tells of it.
  package mutating func weightlessNorm(of x: Path, kind: Norm.Kind, headCount: Int, at path: Path) -> Path {
    apply(
      .norm(
        Norm(
          name: path.description, kind: kind, headCount: headCount,
          gain: .constant(1, shape: [network.width(of: x) / headCount]), bias: nil,
          deviation: .computed(epsilon: hyperparameters.epsilon))), to: x, at: path)
  }

  /// A linear map of a value, multiplied by a number where there is one for the path. Where scales are stored for it, they
  /// multiply as many equal parts of its output.
  package mutating func linear(_ x: Path, at path: Path) -> Path {
    var map = LinearMap(weight: required("\(path).weight"), bias: parameters("\(path).bias"))
    if let scales = parameters("\(path).scale") {
      map = map.scalingParts(by: ParameterReader(scales).values(), exchanges: hyperparameters.permutesHeadScales)
    }
    if let scales = parameters("\(path).featureScale") {
      map = LinearMap(weight: map.weight.scaled(by: scales, axis: 1), bias: map.bias?.scaled(by: scales, axis: 0))
    }
    let result = apply(.linear(map), to: x, at: path)
    guard let factor = hyperparameters.outputScales[path], factor != 1 else { return result }
    return apply(.scale(factor), to: result, at: path.appending("scaled"))
  }

  /// Two linear maps with nothing between them, as the one that they make: x(W₁W₂) + (b₁W₂ + b₂).
  package mutating func linear(_ x: Path, through first: Path, at path: Path) -> Path {
    let (inner, outer) = (required("\(first).weight"), required("\(path).weight"))
    guard missing.isEmpty else { return x }
    let through = parameters("\(first).bias")?.projected(through: outer)
    let own = parameters("\(path).bias")
    let bias = through.map { through in own.map { through.adding($0) } ?? through } ?? own
    return apply(.linear(LinearMap(weight: inner.multiplied(byMatrix: outer), bias: bias)), to: x, at: path)
  }

  /// A value multiplied feature by feature by a vector, or the value itself where none is stored.
  package mutating func scaled(_ x: Path, at path: Path) -> Path {
    guard let vector = parameters("\(path).scale") else { return x }
    return apply(.scaleFeatures(vector), to: x, at: path)
  }

  package mutating func add(_ a: Path, _ b: Path, at path: Path) -> Path { apply(.add, to: a, b, at: path) }

  /// Says that a sequence may have fewer positions than the table of them has rows.
  package mutating func limitContext(to length: Int) { network.contextLength = length }

  /// Says what the class gives away, where that is not the last value alone.
  package mutating func giveAway(_ output: Path, besides sideOutputs: [Path] = []) {
    network.setOutputs(output, besides: sideOutputs)
  }

  /// Multi-head attention of a value, from its queries, keys and values to what it writes. Where the gain of a norm between
  /// heads and output map is stored, the norm is there.
  ///
  /// Queries and keys are normed where gains of such norms are stored, before they are rotated.
  ///
  /// - Parameters:
  ///   - scale: what scores are multiplied by; 1/√dHead without it.
  ///   - softCap: what scores are kept below; nil for nothing.
  ///   - normsHeads: whether such norms are of each head by itself.
  ///   - mask: which tokens a token attends to.
  package mutating func attention(
    of x: Path, block: Int, scale: Double? = nil, softCap: Double? = nil, normsHeads: Bool = false,
    mask: Attention.Mask = .causal
  ) -> Path {
    let path: Path = "blocks.\(block).attention"
    let sizes = hyperparameters
    var query = linear(x, at: path.appending("query"))
    var key = linear(x, at: path.appending("key"))
    let value = linear(x, at: path.appending("value"))
    query = normalised(query, headCount: normsHeads ? sizes.headCount : 1, at: query.appending("norm"))
    key = normalised(key, headCount: normsHeads ? sizes.keyValueHeadCount : 1, at: key.appending("norm"))
    if let rotary = sizes.rotary {
      query = apply(.rotate(rotary, headCount: sizes.headCount), to: query, at: path.appending("query.rotated"))
      key = apply(.rotate(rotary, headCount: sizes.keyValueHeadCount), to: key, at: path.appending("key.rotated"))
    }
    let attention = Attention(
      headCount: sizes.headCount, keyValueHeadCount: sizes.keyValueHeadCount,
      scale: scale ?? sizes.standardAttentionScale, softCap: softCap, mask: mask)
    let mixed = apply(.attend(attention), to: query, key, value, at: path.appending("mixed"))
    return linear(normalised(mixed, at: path.appending("inner.norm")), at: path.appending("output"))
  }

  /// output(activation(input(x))), or where there is a gate output(activation(gate(x)) ⊙ input(x)) (arXiv 2002.05202).
  /// Where the gain of a norm in front of the output map is stored, the norm is there.
  ///
  /// - Parameter activation: the config's, without it.
  package mutating func mlp(of x: Path, block: Int, activation: Activation? = nil) -> Path {
    let path: Path = "blocks.\(block).mlp"
    let activation = Operation.activate(activation ?? hyperparameters.activation)
    let hidden: Path
    if has(path.appending("gate")) {
      let gate = apply(activation, to: linear(x, at: path.appending("gate")), at: path.appending("activation"))
      hidden = apply(.multiply, to: gate, linear(x, at: path.appending("input")), at: path.appending("hidden"))
    } else {
      hidden = apply(activation, to: linear(x, at: path.appending("input")), at: path.appending("activation"))
    }
    return linear(normalised(hidden, at: path.appending("inner.norm")), at: path.appending("output"))
  }

  /// A block: attention, then an MLP, each a branch whose output is added to the stream. Norms are there where their gains are
  /// stored, in front of the branches or behind the sums as the form says; so are those behind a branch, before its sum, and
  /// those of queries and keys.
  package mutating func block(
    of x: Path, number: Int, form: BlockForm = .preNorm, attentionScale: Double? = nil, attentionCap: Double? = nil,
    normsHeads: Bool = false, activation: Activation? = nil, mask: Attention.Mask = .causal
  ) -> Path {
    let path: Path = "blocks.\(number)"
    let (attentionNorm, mlpNorm) = (path.appending("attention.norm"), path.appending("mlp.norm"))
    let read = form == .postNorm ? x : normalised(x, at: attentionNorm)
    let attended = attention(
      of: read, block: number, scale: attentionScale, softCap: attentionCap, normsHeads: normsHeads, mask: mask)
    var middle = add(
      x, normalised(attended, at: path.appending("attention.output.norm")), at: path.appending("middle"))
    let readByMLP: Path
    switch form {
    case .preNorm: readByMLP = normalised(middle, at: mlpNorm)
    case .postNorm:
      middle = normalised(middle, at: attentionNorm)
      readByMLP = middle
    case .parallel: readByMLP = normalised(x, at: mlpNorm)
    case .parallelBehindOneNorm: readByMLP = read
    }
    let hidden = mlp(of: readByMLP, block: number, activation: activation)
    let sum = add(middle, normalised(hidden, at: path.appending("mlp.output.norm")), at: path)
    return form == .postNorm ? normalised(sum, at: mlpNorm) : sum
  }

  /// The logits of the residual stream behind the last block.
  ///
  /// - Parameter softCap: what they are kept below; nil for nothing.
  package mutating func head(of x: Path, softCap: Double? = nil) {
    let logits = linear(normalised(x, at: "final.norm"), at: "unembedding")
    if let softCap { apply(.activate(.softCap(softCap)), to: logits, at: "logits") }
  }
}

extension LinearMap {
  /// The map whose output is cut into equal parts, each multiplied by a number of its own.
  ///
  /// - Parameter exchanges: whether the features of all parts stand together afterwards: the first of each part, then the
  ///   second.
  fileprivate func scalingParts(by factors: [Double], exchanges: Bool) -> LinearMap {
    func scaled(_ parameter: Parameter, axis: Int) -> Parameter {
      let width = parameter.shape[axis] / factors.count
      let parts = factors.indices.map {
        parameter.sliced(axis: axis, $0 * width..<($0 + 1) * width).multiplied(by: factors[$0])
      }
      let whole = Parameter.concatenating(parts, axis: axis)
      return exchanges
        ? whole.reordered(axis: axis, AxisOrder(extents: [factors.count, width], order: [1, 0])) : whole
    }
    return LinearMap(weight: scaled(weight, axis: 1), bias: bias.map { scaled($0, axis: 0) })
  }
}
