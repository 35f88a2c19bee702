extension Network {
  /// The operations that read a value, in the order of computation.
  package func users(of path: Path) -> [Node] { nodes.filter { $0.operands.contains(path) } }

  /// The operations that read a value, in the order of computation; those that read a selection of its rows in place of the
  /// selection, with which everything commutes that is done to each token by itself.
  package func readers(of path: Path) -> [Node] {
    users(of: path).flatMap { node in
      if case .select = node.operation { readers(of: node.path) } else { [node] }
    }
  }

  /// Returns whether a value, or a selection of its rows, is the output or a side output of the network.
  package func isGivenAway(_ path: Path) -> Bool {
    output == path || sideOutputs.contains(path)
      || users(of: path).contains { if case .select = $0.operation { isGivenAway($0.path) } else { false } }
  }

  /// Every norm, in the order of computation.
  package var norms: [(path: Path, norm: Norm)] {
    nodes.compactMap { node in if case .norm(let norm) = node.operation { (node.path, norm) } else { nil } }
  }

  /// Every linear map, in the order of computation.
  package var linearMaps: [(path: Path, map: LinearMap)] {
    nodes.compactMap { node in if case .linear(let map) = node.operation { (node.path, map) } else { nil } }
  }

  /// Every attention, in the order of computation.
  package var attentions: [(path: Path, attention: Attention)] {
    nodes.compactMap { node in if case .attend(let attention) = node.operation { (node.path, attention) } else { nil } }
  }

  /// The first operation that is done to few networks only: retention, attention with a window or with capped scores, logits
  /// that are capped. Nil where there is none.
  package var peculiarity: (path: Path, name: String)? {
    for (path, attention) in attentions { if let name = attention.peculiarity { return (path, name) } }
    return logitCap.map { _ in (output, "a cap of the logits") }
  }

  /// Returns whether a norm reads what retention mixes. No map reads such a norm alone, since its heads are multiplied
  /// by a gate first, so that a fixed norm could not become part of any map.
  package func isOfRetention(norm path: Path) -> Bool {
    guard let read = node(at: path)?.operands.first, case .attend(let attention) = self[read] else { return false }
    return !attention.isDistribution
  }

  /// The activations, in the order of computation; what caps the logits is none.
  package var activations: [Activation] {
    nodes.compactMap { node in
      if node.path != output || logitCap == nil, case .activate(let activation) = node.operation {
        activation
      } else {
        nil
      }
    }
  }

  /// The activation of the first MLP; of other branches, which may have a gate, where no MLP has one.
  package var mlpActivation: Activation? {
    for node in nodes where node.path.contains(component: "mlp") {
      if case .activate(let activation) = node.operation { return activation }
    }
    return activations.first
  }

  /// The number of features of a value.
  ///
  /// - Precondition: the path is in the network.
  package func width(of path: Path) -> Int {
    guard let node = node(at: path) else { preconditionFailure("nothing at \(path)") }
    switch node.operation {
    case .embed(let table, _): return table.columnCount
    case .patches(let image): return image.patchLength
    case .features(let width): return width
    case .linear(let map): return map.weight.columnCount
    case .norm, .rotate, .attend, .activate, .scale, .scaleFeatures, .add, .multiply, .select:
      return width(of: node.operands[0])
    }
  }

  package var blockCount: Int { nodes.reduce(0) { max($0, ($1.path.block ?? -1) + 1) } }

  /// The operations in parts that follow each other: those before the first block, those of each block, those behind the
  /// last. The last value of each part but the last one is the residual stream at that depth.
  package var stages: [Range<Int>] {
    var ends: [Int] = []
    var end = 0
    for block in 0..<blockCount {
      let start = nodes[end...].firstIndex { $0.path.block == block } ?? end
      if block == 0 { ends.append(start) }
      end = nodes.lastIndex { $0.path.block == block }.map { $0 + 1 } ?? start
      ends.append(end)
    }
    if ends.isEmpty { ends = [nodes.count - 1] }
    ends.append(nodes.count)
    return zip([0] + ends, ends).map { $0..<$1 }
  }

  /// The value that enters block `depth`, or for the number of blocks the one that leaves the last.
  package func stream(atDepth depth: Int) -> Path { nodes[stages[depth].upperBound - 1].path }

  /// Returns the terms that a value is the sum of, through any number of sums, in the order of computation.
  package func terms(of path: Path) -> [Path] {
    guard case .add = self[path], let node = node(at: path) else { return [path] }
    return node.operands.flatMap(terms)
  }

  /// The value that the operation behind the output is computed from: what the last norm reads, or the unembedding where
  /// there is none.
  private var lastStream: Path {
    var path = node(at: unembeddingPath)?.operands.first ?? output
    while isOfOneToken(path), let operand = node(at: path)?.operands.first { path = operand }
    return path
  }

  private func isOfOneToken(_ path: Path) -> Bool {
    switch self[path] {
    case .norm, .select: true
    default: false
    }
  }

  /// The values that write into the residual stream whose last state the output is computed from.
  package var streamWriters: [Path] { terms(of: lastStream) }

  /// The states of that residual stream: what writes into it, and every sum on the way.
  package var streamStates: [Path] {
    func states(_ path: Path) -> [Path] {
      guard case .add = self[path], let node = node(at: path) else { return [path] }
      return node.operands.flatMap(states) + [path]
    }
    return states(lastStream)
  }

  /// The operations that read a state of the residual stream, other than its sums.
  package var streamReaders: [Node] {
    let states = Set(streamStates)
    return nodes.filter { node in
      if case .add = node.operation, states.contains(node.path) { return false }
      return node.operands.contains(where: states.contains)
    }
  }

  /// The number of features of the residual stream.
  package var streamWidth: Int { width(of: lastStream) }

  // MARK: The head

  /// The place of the map that gives the logits: the output, or what is read by it where it caps them.
  package var unembeddingPath: Path { logitCap == nil ? output : node(at: output)?.operands.first ?? output }

  /// The map that gives the logits; nil where the output is none.
  package var unembedding: LinearMap? { self[linear: unembeddingPath] }

  /// The number c that logits stay below, as c · tanh(x / c); nil where nothing caps them.
  package var logitCap: Double? {
    if case .activate(.softCap(let limit)) = self[output] { limit } else { nil }
  }

  /// The number of numbers that the output has for each token: logits, or what the ``task`` says.
  package var outputWidth: Int { width(of: output) }

  /// The number of tokens that it knows.
  package var vocabularySize: Int { tokenEmbedding?.rowCount ?? outputWidth }

  /// Is true if every token attends to itself and those before it only, so that a text can be continued.
  package var isCausal: Bool { attentions.allSatisfy { $0.attention.mask.isCausal } }

  /// The table of the positions.
  package var positionEmbedding: Parameter? {
    for node in nodes {
      switch node.operation {
      case .embed(let table, .position), .embed(let table, .unpaddedPosition): return table
      default: continue
      }
    }
    return nil
  }

  /// The token that does not count as a position; nil where all do.
  package var paddingToken: Int? {
    for node in nodes { if case .embed(_, .unpaddedPosition(let padding)) = node.operation { return padding } }
    return nil
  }

  /// The image that the network reads; nil for a network that reads tokens.
  package var image: ImageGrid? {
    for node in nodes { if case .patches(let image) = node.operation { return image } }
    return nil
  }

  /// The number of features of each word that the network reads; nil where it reads none.
  package var wordFeatureCount: Int? {
    for node in nodes { if case .features(let width) = node.operation { return width } }
    return nil
  }

  /// The table by which tokens are told apart by the text that they belong to.
  package var tokenTypeEmbedding: Parameter? {
    for node in nodes { if case .embed(let table, .tokenType) = node.operation { return table } }
    return nil
  }

  /// The table of the token embedding.
  package var tokenEmbedding: Parameter? {
    for node in nodes { if case .embed(let table, .token) = node.operation { return table } }
    return nil
  }

  /// Is true if the unembedding is the token embedding, transposed.
  package var isTied: Bool { unembedding.map { $0.weight == tokenEmbedding?.transposed() } ?? false }

  // MARK: Parameters by name

  /// The parameter of this name: `weight` or `bias` behind the path of a map, a norm or an embedding, `scale` behind that of a
  /// product with a vector; nil where the network has none.
  package func parameter(named name: String) -> Parameter? {
    guard let dot = name.lastIndex(of: ".") else { return nil }
    switch (self[Path(String(name[..<dot]))], name[name.index(after: dot)...]) {
    case (.linear(let map), "weight"): return map.weight
    case (.linear(let map), "bias"): return map.bias
    case (.norm(let norm), "weight"): return norm.gain
    case (.norm(let norm), "bias"): return norm.bias
    case (.embed(let table, _), "weight"): return table
    case (.scaleFeatures(let vector), "scale"): return vector
    default: return nil
    }
  }

  // MARK: Comparing

  /// The first place where another network computes something else, in the order of computation; nil where both compute the
  /// same. What a norm is called does not matter.
  package func firstDifference(from other: Network) -> Path? {
    for (node, theirs) in zip(nodes, other.nodes) where node.withoutNames != theirs.withoutNames { return node.path }
    if nodes.count != other.nodes.count { return (nodes.count > other.nodes.count ? self : other).nodes.last?.path }
    return contextLength == other.contextLength && output == other.output && sideOutputs == other.sideOutputs
      && task == other.task ? nil : output
  }
}

extension Network.Node {
  /// The node with a norm that has no name.
  var withoutNames: Network.Node {
    guard case .norm(var norm) = operation else { return self }
    norm.name = ""
    norm.readers = nil
    return Network.Node(path: path, operation: .norm(norm), operands: operands)
  }
}
