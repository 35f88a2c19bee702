import Formats
import Networks

extension Network {
  /// - Throws: `.unsupported` where the rule would change what the network computes.
  package func applying(_ rule: FoldingRule) throws(Refusal) -> Network {
    switch rule {
    case .foldValueBiases: foldingValueBiases()
    case .centerWritingWeights: try centringWriters()
    case .centerUnembedding: centringUnembedding()
    }
  }

  /// The network whose values have no bias. Each attention row sums to one, so that a bias of the values arrives at the
  /// output map whole, at every position:
  ///
  ///     b_O' = b_O + b_V · W_O        over all heads side by side
  ///     b_V' = 0
  ///
  /// Exact for softmax attention without dropout or sinks, which is all that ``ForwardOperations/attend`` is.
  package func foldingValueBiases() -> Network {
    var result = self
    for block in blocks.indices {
      let attention = blocks[block].attention
      guard let bias = attention.value.bias else { continue }
      result.blocks[block].attention.output = attention.output.addingToBias(
        bias.projected(through: attention.output.weight))
      // A zero, not nothing: layouts that fuse the three biases need all of them.
      result.blocks[block].attention.value.bias = .constant(0, shape: bias.shape)
    }
    return result
  }

  /// The network whose residual stream has mean zero at every depth. With C, which subtracts the mean over the
  /// features, for all that writes into the stream:
  ///
  ///     W_E' = W_E · C    W_pos' = W_pos · C    W_O' = W_O · C    W_out' = W_out · C    b' = b · C
  ///
  /// The unembedding of a tied network stays what it is, and is tied no longer.
  ///
  /// Exact if and only if every reader of the stream ignores its mean: a layer norm does, and so does a map with
  /// C · W = W, which is what folding a layer norm leaves behind.
  ///
  /// - Parameter option: what asked for it, for messages.
  /// - Throws: `.unsupported` naming the readers that do not, or whose recipe does not say so: of a matrix that was
  ///   folded and stored, the mean is zero up to rounding only.
  package func centringWriters(
    for option: String = "--\(FoldingRule.centerWritingWeights.rawValue)"
  ) throws(Refusal) -> Network {
    let seeing = sites.flatMap { site in
      self[site].map { $0.kind == .layer ? [] : readers(of: site) }
        ?? readers(of: site).filter { !self[$0].weight.isCentred(axis: 0) }
    }
    if let first = seeing.first {
      throw Refusal(
        .unsupported, subject: option,
        seeing.count == 1
          ? "the map '\(first)' may see the mean of the residual stream"
          : "\(seeing.count) maps may see the mean of the residual stream, first '\(first)'",
        advice: "convert from the checkpoint that still has its norms, or leave the option out")
    }
    var result = self
    result.tokenEmbedding = tokenEmbedding.centred(axis: 1)
    result.positionEmbedding = positionEmbedding?.centred(axis: 1)
    for writer in writers { result[writer] = self[writer].centringOutput() }
    return result
  }

  /// The maps that write into the residual stream.
  var writers: [Role.Map] { blocks.indices.flatMap { [.attentionOutput(block: $0), .mlpOutput(block: $0)] } }

  /// The network whose logits have mean zero over the vocabulary:
  ///
  ///     W_U' = W_U · C    b_U' = b_U · C        C over the vocabulary
  ///
  /// The logits of each position lose one constant, their mean; probabilities, and differences of logits at a position,
  /// stay exactly what they were.
  package func centringUnembedding() -> Network {
    var result = self
    result.unembedding = unembedding.centringOutput()
    return result
  }
}

extension LinearMap {
  /// The map whose outputs have mean zero.
  fileprivate func centringOutput() -> LinearMap {
    LinearMap(weight: weight.centred(axis: 1), bias: bias?.centred(axis: 0))
  }
}
