import NormFoldFormats

extension Architecture {
  /// DistilBERT (arXiv 1910.01108), as Hugging Face's classes compute it: one for each head. Where a key of the config is
  /// missing, what the class DistilBertConfig says counts. No key says the epsilon of the norms.
  package static let distilBERT: [Architecture] = DistilBERT.Head.allCases.map { head in
    .init(
      name: "DistilBERT", modelType: "distilbert", className: head.rawValue, task: head.task, normKind: .layer,
      classEpsilon: 1e-12, configuration: DistilBERT.configuration,
      carriedKeys: carriedKeysOfEncoders + ["sinusoidal_pos_embds"], tokenKeys: [("pad_token_id", nil)],
      layout: DistilBERT.layout(head),
      forward: { sizes, b in
        let tokens = b.embed(by: .token, at: "embedding.tokens")
        let sum = b.add(tokens, b.embed(by: .position, at: "embedding.positions"), at: "embedding")
        var x = b.normalised(sum, at: "embedding.norm")
        for block in 0..<sizes.blockCount { x = b.block(of: x, number: block, form: .postNorm, mask: .bidirectional) }
        switch head {
        case .model: b.giveAway(x)
        case .maskedLM: b.maskedLanguageHead(of: x, activation: sizes.activation)
        case .sequence: _ = b.linear(b.pooled(x, by: .relu), at: "classifier")
        case .token, .question: _ = b.linear(x, at: "classifier")
        }
      })
  }
}

private enum DistilBERT {
  enum Head: String, CaseIterable {
    case model = "DistilBertModel"
    case maskedLM = "DistilBertForMaskedLM"
    case sequence = "DistilBertForSequenceClassification"
    case token = "DistilBertForTokenClassification"
    case question = "DistilBertForQuestionAnswering"

    var task: Task {
      switch self {
      case .model: .features
      case .maskedLM: .fillMask
      case .sequence: .sequenceClassification
      case .token: .tokenClassification
      case .question: .questionAnswering
      }
    }
  }

  static let configuration: ConfigurationTable = .init([
    .prunedHeads,
    .size("n_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("n_layers", .blocks), .size("dim", .model), .size("hidden_dim", .hidden),
    .size("max_position_embeddings", .context), .size("vocab_size", .vocabulary), .labels,
    .activation("activation", usual: .geluErf), .tied(usual: true), .constant("attention_dropout", .number(0.0)),
    .constant("dropout", .number(0.0)),
  ])

  private static func leftOut(_ head: Head) -> [(start: String, end: String, rule: String)] {
    let positions = (start: "embeddings.position_ids", end: "", rule: "numbers of the positions")
    guard head != .maskedLM else { return [positions] }
    return [positions]
      + ["vocab_transform.", "vocab_layer_norm.", "vocab_projector."].map {
        (start: $0, end: "", rule: "head of pretraining, which \(head.rawValue) does not have")
      }
  }

  /// DistilBERT as Hugging Face stores it, behind the prefix `distilbert.` where a head follows.
  static func layout(_ head: Head) -> Layout {
    .init(
      name: "Hugging Face DistilBERT", prefix: head == .model ? "" : "distilbert.", buffers: leftOut(head),
      otherEndings: [
        (old: "_norm.gamma", new: "_norm.weight"), (old: "_norm.beta", new: "_norm.bias"),
      ] + BERT.oldEndings,
      [
        [
          .table("embeddings.word_embeddings.weight", "embedding.tokens", rows: .vocabulary),
          .table("embeddings.position_embeddings.weight", "embedding.positions", rows: .positions),
        ],
        SlotPattern.norm("embeddings.LayerNorm", "embedding.norm"),
        linear("attention.q_lin", "attention.query", from: .model, to: .heads),
        linear("attention.k_lin", "attention.key", from: .model, to: .heads),
        linear("attention.v_lin", "attention.value", from: .model, to: .heads),
        linear("attention.out_lin", "attention.output", from: .heads, to: .model),
        SlotPattern.norm("transformer.layer.#.sa_layer_norm", "blocks.#.attention.norm"),
        linear("ffn.lin1", "mlp.input", from: .model, to: .hidden),
        linear("ffn.lin2", "mlp.output", from: .hidden, to: .model),
        SlotPattern.norm("transformer.layer.#.output_layer_norm", "blocks.#.mlp.norm"),
        slots(head),
      ])
  }

  private static func slots(_ head: Head) -> [SlotPattern] {
    func map(_ name: String, _ path: String, to output: Extent) -> [SlotPattern] {
      SlotPattern.linear(name, path, from: .model, to: output).map(\.withoutPrefix)
    }
    switch head {
    case .model: return []
    case .maskedLM:
      return map("vocab_transform", "head.input", to: .model)
        + SlotPattern.norm("vocab_layer_norm", "head.norm").map(\.withoutPrefix)
        + SlotPattern.unembedding("vocab_projector", biasNamed: "vocab_projector.bias")
    case .sequence:
      return map("pre_classifier", "pooler", to: .model) + map("classifier", "classifier", to: .labels)
    case .token: return map("classifier", "classifier", to: .labels)
    case .question: return map("qa_outputs", "classifier", to: .labels)
    }
  }

  private static func linear(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
    SlotPattern.linear("transformer.layer.#.\(name)", "blocks.#.\(path)", from: input, to: output)
  }
}
