import NormFoldFormats

extension Architecture {
  /// RoBERTa (arXiv 1907.11692), as Hugging Face's classes compute it: one for each head. Where a key of the config is missing,
  /// what the class RobertaConfig says counts, which is not what the published models have.
  package static let roberta: [Architecture] = RoBERTa.Head.allCases.map { head in
    .init(
      name: "RoBERTa", modelType: "roberta", className: head.rawValue, task: head.task, normKind: .layer,
      configuration: RoBERTa.configuration, carriedKeys: carriedKeysOfEncoders,
      tokenKeys: [("bos_token_id", nil), ("eos_token_id", nil)], layout: RoBERTa.layout(head),
      forward: { sizes, b in
        let x = b.robertaEncoder(sizes)
        switch head {
        case .model:
          guard b.has("pooler") else { return b.giveAway(x) }
          b.giveAway(x, besides: [b.pooled(x)])
        case .maskedLM: b.maskedLanguageHead(of: x, activation: .geluErf)
        case .sequence: _ = b.linear(b.pooled(x), at: "classifier")
        case .token, .question: _ = b.linear(x, at: "classifier")
        }
      })
  }
}

extension NetworkBuilder {
  /// The states of the tokens behind the last block.
  mutating func robertaEncoder(_ sizes: Hyperparameters) -> Path {
    let padding = sizes.own["pad_token_id"]?.count ?? RoBERTa.usualPadding
    // Rows of the table up to that of padding are no positions.
    limitContext(to: sizes.contextLength - padding - 1)
    let tokens = embed(by: .token, at: "embedding.tokens")
    let typed = add(tokens, embed(by: .tokenType, at: "embedding.types"), at: "embedding.typed")
    let positions = embed(by: .unpaddedPosition(padding: padding), at: "embedding.positions")
    var x = normalised(add(typed, positions, at: "embedding"), at: "embedding.norm")
    for block in 0..<sizes.blockCount { x = self.block(of: x, number: block, form: .postNorm, mask: .bidirectional) }
    return x
  }
}

private enum RoBERTa {
  static let usualPadding = 1

  enum Head: String, CaseIterable {
    case model = "RobertaModel"
    case maskedLM = "RobertaForMaskedLM"
    case sequence = "RobertaForSequenceClassification"
    case token = "RobertaForTokenClassification"
    case question = "RobertaForQuestionAnswering"

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

  static let configuration: ConfigurationTable = .init(
    BERT.configuration.keys + [.token("pad_token_id", usual: usualPadding, check: requirePositions)])

  /// - Throws: `.malformed` where the table of positions ends before the first one.
  @Sendable private static func requirePositions(_ fields: Fields, _ padding: Int) throws(Refusal) {
    guard let count = try fields.count("max_position_embeddings"), padding + 1 >= count else { return }
    throw Refusal(
      .malformed, file: fields.path, subject: "pad_token_id",
      "says \(padding), and positions are counted from there on, but there are only \(count)")
  }

  private static func leftOut(_ head: Head) -> [(start: String, end: String, rule: String)] {
    var result = [(start: "embeddings.position_ids", end: "", rule: "numbers of the positions")]
    if head != .model {
      result.append((start: "pooler.", end: "", rule: "pooler, which \(head.rawValue) does not have"))
    }
    if head != .maskedLM {
      result.append((start: "lm_head.", end: "", rule: "head of pretraining, which \(head.rawValue) does not have"))
    }
    return result
  }

  /// RoBERTa as Hugging Face stores it: BERT's encoder behind the prefix `roberta.` where a head follows, and other heads.
  static func layout(_ head: Head) -> Layout {
    .init(
      name: "Hugging Face RoBERTa", prefix: head == .model ? "" : "roberta.", buffers: leftOut(head),
      otherEndings: BERT.oldEndings, secondNames: ["lm_head.decoder.bias": "lm_head.bias"],
      BERT.encoder + [slots(head)])
  }

  private static func slots(_ head: Head) -> [SlotPattern] {
    func map(_ name: String, _ path: String, to output: Extent) -> [SlotPattern] {
      SlotPattern.linear(name, path, from: .model, to: output).map(\.withoutPrefix)
    }
    switch head {
    case .model:
      return SlotPattern.linear("pooler.dense", "pooler", from: .model, to: .model).map { $0.with(.perhaps) }
    case .maskedLM:
      return map("lm_head.dense", "head.input", to: .model)
        + SlotPattern.norm("lm_head.layer_norm", "head.norm").map(\.withoutPrefix)
        + SlotPattern.unembedding("lm_head.decoder", biasNamed: "lm_head.bias")
    case .sequence:
      return map("classifier.dense", "pooler", to: .model) + map("classifier.out_proj", "classifier", to: .labels)
    case .token: return map("classifier", "classifier", to: .labels)
    case .question: return map("qa_outputs", "classifier", to: .labels)
    }
  }
}
