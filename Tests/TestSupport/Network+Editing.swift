import NormFoldNetworks

extension Network {
  /// Changes every norm.
  package mutating func changeNorms(_ change: (Path, inout Norm) -> Void) {
    for (path, norm) in norms {
      var changed = norm
      change(path, &changed)
      self[norm: path] = changed
    }
  }

  /// Changes every attention.
  package mutating func changeAttentions(_ change: (Path, inout Attention) -> Void) {
    for (path, attention) in attentions {
      var changed = attention
      change(path, &changed)
      replaceOperation(at: path, by: .attend(changed))
    }
  }

  /// Changes the weight of one linear map.
  package mutating func changeWeight(_ path: Path, _ change: (Parameter) -> Parameter) {
    guard let map = self[linear: path] else { preconditionFailure("no linear map at \(path)") }
    self[linear: path]?.weight = change(map.weight)
  }

  package mutating func setActivations(_ activation: Activation) {
    for node in nodes {
      if case .activate = node.operation { replaceOperation(at: node.path, by: .activate(activation)) }
    }
  }

  /// Gives the values of a block's attention a norm of their own, equal to the one that queries and keys keep.
  ///
  /// - Returns: its path.
  @discardableResult
  package mutating func splitValueNorm(ofBlock block: Int) -> Path {
    let path = Path("blocks.\(block).attention.norm")
    let value = Path("blocks.\(block).attention.value")
    guard var norm = self[norm: path], let operand = node(at: path)?.operands.first else {
      preconditionFailure("no norm at \(path)")
    }
    norm.readers = ["query", "key"]
    self[norm: path] = norm
    norm.readers = ["value"]
    redirect(value, from: path, to: operand)
    insert(.norm(norm), at: path.appending("value"), on: operand, before: [value])
    return path.appending("value")
  }

  /// Changes the number of every product with a number.
  package mutating func changeScales(_ change: (Path, inout Double) -> Void) {
    for node in nodes {
      guard case .scale(var factor) = node.operation else { continue }
      change(node.path, &factor)
      replaceOperation(at: node.path, by: .scale(factor))
    }
  }

  /// Multiplies a value by a number before all that reads it.
  package mutating func multiply(_ path: Path, by factor: Double) {
    insert(.scale(factor), at: path.appending("scaled"), on: path, before: users(of: path).map(\.path))
  }

  /// Multiplies the features of a value by a vector.
  package mutating func multiplyFeatures(of path: Path, by vector: Parameter) {
    insert(.scaleFeatures(vector), at: path.appending("scaled"), on: path, before: users(of: path).map(\.path))
  }

  /// Rotates queries and keys of every attention by their positions.
  package mutating func rotateHeads(_ rotary: Rotary) {
    for (path, attention) in attentions {
      guard let operands = node(at: path)?.operands else { continue }
      for (operand, count) in [(operands[0], attention.headCount), (operands[1], attention.keyValueHeadCount)] {
        insert(.rotate(rotary, headCount: count), at: operand.appending("rotated"), on: operand, before: [path])
      }
    }
  }

  /// Makes the first keys and values serve all heads, each one `count` neighbouring heads of the queries.
  package mutating func groupKeysAndValues(by count: Int) {
    changeAttentions { $1.keyValueHeadCount = $1.headCount / count }
    for (path, _) in attentions {
      for operand in (node(at: path)?.operands ?? []).dropFirst() {
        guard let map = self[linear: operand] else { continue }
        let kept = 0..<map.weight.columnCount / count
        self[linear: operand] = LinearMap(
          weight: map.weight.sliced(axis: 1, kept), bias: map.bias?.sliced(axis: 0, kept))
      }
    }
  }

  /// Multiplies each hidden unit by the activation of another map of the same input, which takes the place of its own.
  package mutating func addGates() {
    var result = Network(contextLength: contextLength)
    for var node in nodes {
      if case .activate = node.operation, let block = node.path.block, let input = node.operands.first,
        let map = self[linear: input], let operand = self.node(at: input)?.operands.first
      {
        let gate = LinearMap(weight: map.weight.multiplied(by: -0.5), bias: map.bias)
        node.operands = [result.append(.linear(gate), to: operand, at: "blocks.\(block).mlp.gate")]
        result.append(node)
        result.append(.multiply, to: node.path, input, at: "blocks.\(block).mlp.hidden")
        continue
      }
      if let block = node.path.block, node.path == "blocks.\(block).mlp.output" {
        node.operands = ["blocks.\(block).mlp.hidden"]
      }
      result.append(node)
    }
    self = result
  }
}

extension Network {
  /// The sizes that a layout of GPT-2 needs.
  package var sizes: Hyperparameters {
    var sizes = Hyperparameters(path: "")
    sizes.take(sizesOf: self)
    return sizes
  }

  /// What is stored of the network, in Hugging Face's names for GPT-2 without their prefix.
  package var gpt2Tensors: [(name: String, value: Parameter)] {
    Architecture.gpt2.layout.tensors(of: self, sizes: sizes).map { ($0.slot.name, $0.value) }
  }
}
