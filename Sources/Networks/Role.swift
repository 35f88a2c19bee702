/// What one parameter is in a network. A ``Layout`` says which tensor holds it.
package enum Role: Hashable, Sendable {
  case tokenEmbedding
  case positionEmbedding
  case normGain(NormPlace)
  case normBias(NormPlace)
  case weight(Map)
  case bias(Map)

  /// Norms as they are stored: the two paths of attention share one gain and one bias.
  package enum NormPlace: Hashable, Sendable {
    case attention(block: Int)
    case mlp(block: Int)
    case final

    package var sites: [NormSite] {
      switch self {
      case .attention(let block): [.attentionQueryKey(block: block), .attentionValue(block: block)]
      case .mlp(let block): [.mlp(block: block)]
      case .final: [.final]
      }
    }
  }

  /// A linear map of the network.
  package enum Map: Hashable, Sendable {
    case query(block: Int)
    case key(block: Int)
    case value(block: Int)
    case attentionOutput(block: Int)
    case mlpInput(block: Int)
    case mlpGate(block: Int)
    case mlpOutput(block: Int)
    case unembedding
  }
}

extension Network {
  /// - Precondition: a gate is asked for only where the MLP has one.
  package subscript(map: Role.Map) -> LinearMap {
    get {
      switch map {
      case .query(let block): blocks[block].attention.query
      case .key(let block): blocks[block].attention.key
      case .value(let block): blocks[block].attention.value
      case .attentionOutput(let block): blocks[block].attention.output
      case .mlpInput(let block): blocks[block].mlp.input
      case .mlpGate(let block):
        if let gate = blocks[block].mlp.gate { gate } else { preconditionFailure("block \(block) has no gate") }
      case .mlpOutput(let block): blocks[block].mlp.output
      case .unembedding: unembedding
      }
    }
    set {
      switch map {
      case .query(let block): blocks[block].attention.query = newValue
      case .key(let block): blocks[block].attention.key = newValue
      case .value(let block): blocks[block].attention.value = newValue
      case .attentionOutput(let block): blocks[block].attention.output = newValue
      case .mlpInput(let block): blocks[block].mlp.input = newValue
      case .mlpGate(let block): blocks[block].mlp.gate = newValue
      case .mlpOutput(let block): blocks[block].mlp.output = newValue
      case .unembedding: unembedding = newValue
      }
    }
  }

  /// The parameter in a role, or nil where the network has none there.
  package subscript(role: Role) -> Parameter? {
    switch role {
    case .tokenEmbedding: tokenEmbedding
    case .positionEmbedding: positionEmbedding
    case .normGain(let place): norm(at: place)?.gain
    case .normBias(let place): norm(at: place)?.bias
    case .weight(.mlpGate(let block)): blocks[block].mlp.gate?.weight
    case .bias(.mlpGate(let block)): blocks[block].mlp.gate?.bias
    case .weight(let map): self[map].weight
    case .bias(let map): self[map].bias
    }
  }

  /// The norm that is stored at a place: for attention the one of either path that still has one.
  package func norm(at place: Role.NormPlace) -> Norm? {
    for site in place.sites {
      if let norm = self[site] { return norm }
    }
    return nil
  }
}

extension Dimensions {
  /// The shape of a parameter in the network's own orientation: matrices [in, out], embeddings [count, dModel].
  package func shape(of role: Role) -> [Int] {
    switch role {
    case .tokenEmbedding: [vocabularySize, dModel]
    case .positionEmbedding: [contextLength, dModel]
    case .normGain, .normBias: [dModel]
    case .weight(let map): [inputWidth(of: map), outputWidth(of: map)]
    case .bias(let map): [outputWidth(of: map)]
    }
  }

  private func inputWidth(of map: Role.Map) -> Int {
    switch map {
    case .query, .key, .value, .mlpInput, .mlpGate, .unembedding: dModel
    case .attentionOutput: headCount * dHead
    case .mlpOutput: dMLP
    }
  }

  private func outputWidth(of map: Role.Map) -> Int {
    switch map {
    case .query: headCount * dHead
    case .key, .value: keyValueHeadCount * dHead
    case .attentionOutput, .mlpOutput: dModel
    case .mlpInput, .mlpGate: dMLP
    case .unembedding: vocabularySize
    }
  }
}

extension Role.Map: CustomStringConvertible {
  package var description: String {
    switch self {
    case .query(let block): "block \(block) queries"
    case .key(let block): "block \(block) keys"
    case .value(let block): "block \(block) values"
    case .attentionOutput(let block): "block \(block) attention output"
    case .mlpInput(let block): "block \(block) MLP input"
    case .mlpGate(let block): "block \(block) MLP gate"
    case .mlpOutput(let block): "block \(block) MLP output"
    case .unembedding: "unembedding"
    }
  }
}
