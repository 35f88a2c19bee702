/// A decoder-only transformer in the field's words, its weights as recipes. Row vectors: y = xW + b, W [in, out].
package struct Network: Sendable {
  package var dimensions: Dimensions
  /// [vocabulary, dModel]
  package var tokenEmbedding: Parameter
  /// [context length, dModel]: learned absolute positions, where the network has them.
  package var positionEmbedding: Parameter?
  package var blocks: [Block]
  package var finalNorm: Norm?
  /// [dModel, vocabulary]
  package var unembedding: LinearMap

  package init(
    dimensions: Dimensions, tokenEmbedding: Parameter, positionEmbedding: Parameter?, blocks: [Block],
    finalNorm: Norm?, unembedding: LinearMap
  ) {
    self.dimensions = dimensions
    self.tokenEmbedding = tokenEmbedding
    self.positionEmbedding = positionEmbedding
    self.blocks = blocks
    self.finalNorm = finalNorm
    self.unembedding = unembedding
  }

  /// Whether the unembedding is the token embedding, transposed.
  package var isTied: Bool { unembedding.weight == tokenEmbedding.transposed() }

  package subscript(site: NormSite) -> Norm? {
    get {
      switch site {
      case .attentionQueryKey(let block): blocks[block].attention.queryKeyNorm
      case .attentionValue(let block): blocks[block].attention.valueNorm
      case .mlp(let block): blocks[block].mlp.norm
      case .final: finalNorm
      }
    }
    set {
      switch site {
      case .attentionQueryKey(let block): blocks[block].attention.queryKeyNorm = newValue
      case .attentionValue(let block): blocks[block].attention.valueNorm = newValue
      case .mlp(let block): blocks[block].mlp.norm = newValue
      case .final: finalNorm = newValue
      }
    }
  }

  /// Every norm site, in the order of computation.
  package var sites: [NormSite] {
    blocks.indices.flatMap { [.attentionQueryKey(block: $0), .attentionValue(block: $0), .mlp(block: $0)] } + [.final]
  }

  /// Every place where a norm can be stored, in the order of computation.
  package var normPlaces: [Role.NormPlace] {
    blocks.indices.flatMap { [.attention(block: $0), .mlp(block: $0)] } + [.final]
  }

  /// The sites that hold a norm.
  package var norms: [(site: NormSite, norm: Norm)] { sites.compactMap { site in self[site].map { (site, $0) } } }
}

/// The sizes of a network.
package struct Dimensions: Hashable, Sendable {
  /// The width of the residual stream.
  package var dModel: Int
  /// The number of heads that ask: of the queries.
  package var headCount: Int
  /// The number of heads that are asked: of the keys and values. Each serves ``headCount`` / `keyValueHeadCount` heads of
  /// the queries that stand side by side.
  package var keyValueHeadCount: Int
  /// The width of one head.
  package var dHead: Int
  /// The width of each MLP's hidden layer.
  package var dMLP: Int
  package var contextLength: Int
  package var vocabularySize: Int

  /// - Parameter keyValueHeadCount: as many as heads of the queries, unless said.
  package init(
    dModel: Int, headCount: Int, keyValueHeadCount: Int? = nil, dHead: Int, dMLP: Int, contextLength: Int,
    vocabularySize: Int
  ) {
    self.dModel = dModel
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount ?? headCount
    self.dHead = dHead
    self.dMLP = dMLP
    self.contextLength = contextLength
    self.vocabularySize = vocabularySize
  }
}

/// y = xW + b.
package struct LinearMap: Hashable, Sendable {
  /// [in, out]
  package var weight: Parameter
  /// [out]
  package var bias: Parameter?

  package init(weight: Parameter, bias: Parameter?) {
    self.weight = weight
    self.bias = bias
  }
}

/// x + s·attention(norm(x)), then x + s·mlp(norm(x)), with an ``Attention/outputScale`` and an ``MLP/outputScale`` s.
package struct Block: Hashable, Sendable {
  package var attention: Attention
  package var mlp: MLP

  package init(attention: Attention, mlp: MLP) {
    self.attention = attention
    self.mlp = mlp
  }
}

package struct Attention: Hashable, Sendable {
  package var queryKeyNorm: Norm?
  package var valueNorm: Norm?
  package var query: LinearMap
  package var key: LinearMap
  package var value: LinearMap
  package var output: LinearMap
  /// What the products of queries and keys are multiplied by before the softmax.
  package var scale: Double
  /// How queries and keys are turned by their positions, where they are.
  package var rotary: Rotary?
  /// What the output is multiplied by before it joins the residual stream.
  package var outputScale: Double

  package init(
    queryKeyNorm: Norm?, valueNorm: Norm?, query: LinearMap, key: LinearMap, value: LinearMap, output: LinearMap,
    scale: Double, rotary: Rotary? = nil, outputScale: Double = 1
  ) {
    self.queryKeyNorm = queryKeyNorm
    self.valueNorm = valueNorm
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.scale = scale
    self.rotary = rotary
    self.outputScale = outputScale
  }
}

/// output(activation(input(x))), or with a gate output(activation(gate(x)) ⊙ input(x)).
package struct MLP: Hashable, Sendable {
  package var norm: Norm?
  package var input: LinearMap
  /// The map whose activation multiplies the ``input``, which then has none of its own (arXiv 2002.05202).
  package var gate: LinearMap?
  package var activation: Activation
  package var output: LinearMap
  /// What the output is multiplied by before it joins the residual stream.
  package var outputScale: Double

  package init(
    norm: Norm?, input: LinearMap, gate: LinearMap? = nil, activation: Activation, output: LinearMap,
    outputScale: Double = 1
  ) {
    self.norm = norm
    self.input = input
    self.gate = gate
    self.activation = activation
    self.output = output
    self.outputScale = outputScale
  }
}
