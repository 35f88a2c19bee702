import NormFoldFormats

extension Architecture {
  /// BERT (arXiv 1810.04805), as Hugging Face's classes compute it: one for each head. Where a key of the config is missing,
  /// what the class BertConfig says counts.
  package static let bert: [Architecture] = BERT.Head.allCases.map { head in
    .init(
      name: "BERT", modelType: "bert", className: head.rawValue, task: head.task, normKind: .layer,
      configuration: BERT.configuration, carriedKeys: carriedKeysOfEncoders, tokenKeys: [("pad_token_id", nil)],
      layout: BERT.layout(head), gguf: head == .model ? BERT.gguf : nil,
      forward: { sizes, b in
        let tokens = b.embed(by: .token, at: "embedding.tokens")
        // A file of llama.cpp that holds a DistilBERT has no types.
        let typed =
          b.has("embedding.types")
          ? b.add(tokens, b.embed(by: .tokenType, at: "embedding.types"), at: "embedding.typed") : tokens
        let sum = b.add(typed, b.embed(by: .position, at: "embedding.positions"), at: "embedding")
        var x = b.normalised(sum, at: "embedding.norm")
        for block in 0..<sizes.blockCount { x = b.block(of: x, number: block, form: .postNorm, mask: .bidirectional) }
        switch head {
        case .model:
          guard b.has("pooler") else { return b.giveAway(x) }
          b.giveAway(x, besides: [b.pooled(x)])
        case .maskedLM: b.maskedLanguageHead(of: x, activation: sizes.activation)
        case .sequence: _ = b.linear(b.pooled(x), at: "classifier")
        case .token, .question: _ = b.linear(x, at: "classifier")
        }
      })
  }

  /// Keys of encoders that speak of labels and of what people do with them, and of no weight.
  static let carriedKeysOfEncoders = [
    "classifier_dropout", "finetuning_task", "id2label", "initializer_range", "label2id", "num_labels", "problem_type",
    "sentence_transformers",
  ]
}

extension NetworkBuilder {
  /// An activation of a map of the first token, usually tanh: what the heads of a whole text read.
  mutating func pooled(_ x: Path, by activation: Activation = .tanh) -> Path {
    let first = apply(.select(.first), to: x, at: "pooler.first")
    return apply(.activate(activation), to: linear(first, at: "pooler"), at: "pooler.activation")
  }

  /// The logits of tokens in the places of others: decoder(norm(activation(dense(x)))).
  mutating func maskedLanguageHead(of x: Path, activation: Activation) {
    let hidden = apply(.activate(activation), to: linear(x, at: "head.input"), at: "head.activation")
    _ = linear(normalised(hidden, at: "head.norm"), at: "unembedding")
  }
}

enum BERT {
  fileprivate enum Head: String, CaseIterable {
    case model = "BertModel"
    case maskedLM = "BertForMaskedLM"
    case sequence = "BertForSequenceClassification"
    case token = "BertForTokenClassification"
    case question = "BertForQuestionAnswering"

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
    .only("is_decoder", .bool(false), because: "this class as a decoder is not supported"),
    .only("add_cross_attention", .bool(false), because: "attention to another sequence is not supported"),
    .only(
      "position_embedding_type", .string("absolute"), because: "positions relative to each other are not supported"),
    .prunedHeads,
    .size("num_attention_heads", .heads, required: "the tensors do not say how many heads there are"),
    .size("num_hidden_layers", .blocks), .size("hidden_size", .model), .size("intermediate_size", .hidden),
    .size("max_position_embeddings", .context), .size("type_vocab_size", .tokenTypes),
    .size("vocab_size", .vocabulary), .labels, .activation("hidden_act", usual: .geluErf),
    .epsilon("layer_norm_eps", usual: 1e-12), .tied(usual: true),
    .constant("attention_probs_dropout_prob", .number(0.0)), .constant("hidden_dropout_prob", .number(0.0)),
  ])

  /// The tensors that files have besides the head of their class, and that the class leaves out.
  private static func leftOut(_ head: Head) -> [(start: String, end: String, rule: String)] {
    var result = [(start: "embeddings.position_ids", end: "", rule: "numbers of the positions")]
    if head != .model, head != .sequence {
      result.append((start: "pooler.", end: "", rule: "pooler, which \(head.rawValue) does not have"))
    }
    if head != .maskedLM {
      result.append((start: "cls.", end: "", rule: "head of pretraining, which \(head.rawValue) does not have"))
    } else {
      result.append(
        (start: "cls.seq_relationship.", end: "", rule: "head of next sentences, which \(head.rawValue) does not have"))
    }
    return result
  }

  static let oldEndings = [
    (old: "LayerNorm.gamma", new: "LayerNorm.weight"), (old: "LayerNorm.beta", new: "LayerNorm.bias"),
  ]

  /// BERT as Hugging Face stores it, behind the prefix `bert.` where a head follows: Linear matrices [out, in], a map each, all
  /// with biases. Files that were made from TensorFlow's say `gamma` and `beta`.
  fileprivate static func layout(_ head: Head) -> Layout {
    .init(
      name: "Hugging Face BERT", prefix: head == .model ? "" : "bert.", buffers: leftOut(head),
      otherEndings: oldEndings,
      secondNames: ["cls.predictions.decoder.bias": "cls.predictions.bias"],
      encoder + [slots(head)])
  }

  /// The tensors of the encoder itself.
  static let encoder: [[SlotPattern]] = [
    [
      .table("embeddings.word_embeddings.weight", "embedding.tokens", rows: .vocabulary),
      .table("embeddings.position_embeddings.weight", "embedding.positions", rows: .positions),
      .table("embeddings.token_type_embeddings.weight", "embedding.types", rows: .tokenTypes),
    ],
    SlotPattern.norm("embeddings.LayerNorm", "embedding.norm"),
    linear("attention.self.query", "attention.query", from: .model, to: .heads),
    linear("attention.self.key", "attention.key", from: .model, to: .heads),
    linear("attention.self.value", "attention.value", from: .model, to: .heads),
    linear("attention.output.dense", "attention.output", from: .heads, to: .model),
    SlotPattern.norm("encoder.layer.#.attention.output.LayerNorm", "blocks.#.attention.norm"),
    linear("intermediate.dense", "mlp.input", from: .model, to: .hidden),
    linear("output.dense", "mlp.output", from: .hidden, to: .model),
    SlotPattern.norm("encoder.layer.#.output.LayerNorm", "blocks.#.mlp.norm"),
  ]

  private static func slots(_ head: Head) -> [SlotPattern] {
    func pooler(_ presence: Slot.Presence) -> [SlotPattern] {
      SlotPattern.linear("pooler.dense", "pooler", from: .model, to: .model, biasPresence: presence).map {
        $0.with(presence)
      }
    }
    func classifier(_ name: String) -> [SlotPattern] {
      SlotPattern.linear(name, "classifier", from: .model, to: .labels).map(\.withoutPrefix)
    }
    switch head {
    case .model: return pooler(.perhaps)
    case .maskedLM:
      let transform = "cls.predictions.transform"
      return SlotPattern.linear("\(transform).dense", "head.input", from: .model, to: .model).map(\.withoutPrefix)
        + SlotPattern.norm("\(transform).LayerNorm", "head.norm").map(\.withoutPrefix)
        + SlotPattern.unembedding("cls.predictions.decoder", biasNamed: "cls.predictions.bias")
    case .sequence: return pooler(.always) + classifier("classifier")
    case .token: return classifier("classifier")
    case .question: return classifier("qa_outputs")
    }
  }

  // MARK: GGUF

  /// The encoder as llama.cpp stores it: its own names, every bias, and no head. Token types but the first are stored, and not
  /// read; a DistilBERT has none.
  fileprivate static let gguf: GGUFDescription = .init(
    architecture: "bert",
    configuration: .init([
      .size("context_length", .context), .size("embedding_length", .model), .size("feed_forward_length", .hidden),
      .size("block_count", .blocks), .size("attention.head_count", .heads, required: ""),
      .size("vocab_size", .vocabulary), .epsilon("attention.layer_norm_epsilon", usual: nil),
      .only("attention.causal", .bool(false), .flag, because: "an encoder attends to all tokens"),
    ]),
    layout: .init(
      name: "GGUF bert",
      [
        [
          .table("token_embd.weight", "embedding.tokens", rows: .vocabulary),
          .table("token_types.weight", "embedding.types", rows: .tokenTypes).with(.perhaps),
          .table("position_embd.weight", "embedding.positions", rows: .positions),
        ],
        SlotPattern.norm("token_embd_norm", "embedding.norm"),
        SlotPattern.linear("blk.#.attn_q", "blocks.#.attention.query", from: .model, to: .heads),
        SlotPattern.linear("blk.#.attn_k", "blocks.#.attention.key", from: .model, to: .heads),
        SlotPattern.linear("blk.#.attn_v", "blocks.#.attention.value", from: .model, to: .heads),
        SlotPattern.linear("blk.#.attn_output", "blocks.#.attention.output", from: .heads, to: .model),
        SlotPattern.norm("blk.#.attn_output_norm", "blocks.#.attention.norm"),
        SlotPattern.linear("blk.#.ffn_up", "blocks.#.mlp.input", from: .model, to: .hidden),
        SlotPattern.linear("blk.#.ffn_down", "blocks.#.mlp.output", from: .hidden, to: .model),
        SlotPattern.norm("blk.#.layer_output_norm", "blocks.#.mlp.norm"),
      ]),
    activation: .geluTanh)

  private static func linear(_ name: String, _ path: String, from input: Extent, to output: Extent) -> [SlotPattern] {
    SlotPattern.linear("encoder.layer.#.\(name)", "blocks.#.\(path)", from: input, to: output)
  }
}

extension ConfigurationTable.Key {
  /// Heads that were taken out of some blocks.
  static let prunedHeads = Key(
    "pruned_heads",
    read: { (fields, _) throws(Refusal) in
      guard let members = fields["pruned_heads"]?.members, !members.isEmpty else { return }
      throw Refusal(
        .unsupported, file: fields.path, subject: "pruned_heads",
        "\(members.count) blocks have fewer heads than the others, which is not supported",
        advice: "save the network with its heads pruned for good")
    })

  /// The names of the labels, which say how many there are.
  static let labels = Key(
    "id2label",
    read: { (fields, hyperparameters) throws(Refusal) in
      guard let labels = try fields.object("id2label") else { return }
      hyperparameters.statements.append(
        .init(key: fields.fullName("id2label"), size: .labels, value: labels.members.count))
    })
}
