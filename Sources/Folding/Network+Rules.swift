import NormFoldFormats
import NormFoldNetworks

extension Network {
  /// - Throws: `.unsupported` where the rule would change what the network computes.
  package func applying(_ rule: FoldingRule) throws(Refusal) -> Network {
    switch rule {
    case .foldValueBiases: foldingValueBiases()
    case .centerWritingWeights: try centringWriters()
    case .centerUnembedding: try centringUnembedding()
    }
  }

  /// The network whose values have no bias. Each attention row sums to one, so that a bias of the values arrives at the
  /// output map whole, at every position:
  ///
  ///     b_O' = b_O + b_V · W_O        over all heads side by side
  ///     b_V' = 0
  ///
  /// Exact for softmax attention without dropout or sinks. Retention, whose weights do not sum to one, is left as it is; so is
  /// an attention whose values or mixtures something else reads, too.
  package func foldingValueBiases() -> Network {
    var result = self
    for (path, attention) in attentions where attention.isDistribution {
      guard let values = node(at: path)?.operands[2], let bias = self[linear: values]?.bias,
        users(of: values).count == 1, obstacle(to: path) == nil
      else { continue }
      // Heads of the queries that share values get the same bias each.
      let dHead = bias.elementCount / attention.keyValueHeadCount
      let shares = (0..<attention.headCount).map { head in
        let first = head * attention.keyValueHeadCount / attention.headCount * dHead
        return bias.sliced(axis: 0, first..<first + dHead)
      }
      let whole =
        attention.headCount == attention.keyValueHeadCount ? bias : Parameter.concatenating(shares, axis: 0)
      for output in users(of: path).map(\.path) {
        guard let map = self[linear: output] else { continue }
        result[linear: output] = map.addingToBias(whole.projected(through: map.weight))
      }
      // A zero, not nothing: layouts that fuse the three biases need all of them.
      result[linear: values]?.bias = .constant(0, shape: bias.shape)
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
  ///   folded and stored, the mean is zero up to rounding only. Also for a writer that cannot be centred.
  package func centringWriters(
    for option: Message = "\(.rules, FoldingRule.centerWritingWeights)"
  ) throws(Refusal) -> Network {
    let seeing = streamReaders.flatMap { reader -> [Path] in
      switch reader.operation {
      case .norm(let norm): norm.kind == .layer ? [] : users(of: reader.path).map(\.path)
      case .linear(let map): map.weight.isCentred(axis: 0) ? [] : [reader.path]
      default: [reader.path]
      }
    }
    if let first = seeing.first {
      let noun = seeing.allSatisfy { self[linear: $0] != nil } ? "map" : "operation"
      throw Refusal(
        .unsupported, subject: option,
        seeing.count == 1
          ? "the \(noun) '\(first)' may see the mean of the residual stream"
          : "\(seeing.count) \(noun)s may see the mean of the residual stream, first '\(first)'",
        advice: "convert from the checkpoint that still has its norms, or leave the option out")
    }
    var result = self
    for writer in streamWriters {
      if let table = self[table: writer] {
        result[table: writer] = table.centred(axis: 1)
      } else if let map = self[linear: writer] {
        result[linear: writer] = map.centringOutput()
      } else {
        throw Refusal(
          .unsupported, subject: option,
          "'\(writer)' writes into the residual stream and is neither a linear map nor an embedding",
          advice: "leave the option out")
      }
    }
    return result
  }

  /// The network whose logits have mean zero over the vocabulary:
  ///
  ///     W_U' = W_U · C    b_U' = b_U · C        C over the vocabulary
  ///
  /// The logits of each position lose one constant, their mean; probabilities, and differences of logits at a position,
  /// stay exactly what they were.
  ///
  /// - Throws: `.unsupported` where logits are capped, so that a constant that they lose shows in their differences.
  package func centringUnembedding() throws(Refusal) -> Network {
    if logitCap != nil {
      throw Refusal(
        .unsupported, subject: "\(.rules, FoldingRule.centerUnembedding)",
        "logits are capped here, which a constant that all of them lose would change", advice: "leave the option out")
    }
    var result = self
    if let map = unembedding { result[linear: unembeddingPath] = map.centringOutput() }
    return result
  }
}

extension LinearMap {
  /// The map whose outputs have mean zero.
  fileprivate func centringOutput() -> LinearMap {
    LinearMap(weight: weight.centred(axis: 1), bias: bias?.centred(axis: 0))
  }
}
