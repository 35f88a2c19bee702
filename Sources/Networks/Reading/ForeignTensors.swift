import NormFoldFormats

/// Tensors that no layout here has and whose names tell which program made them: what they are, and what to give instead.
struct ForeignTensors: Sendable {
  /// Parts of a name between dots, any of which tells.
  private let marks: Set<Substring>
  /// Is true if one of the marks must be the last part of the name, and false if it must be another part.
  private let isLast: Bool
  /// The words behind the name of such a tensor that say what it is: `is named as …`.
  private let problem: String
  private let advice: Message

  private init(_ marks: Set<Substring>, isLast: Bool, _ problem: String, advice: Message) {
    self.marks = marks
    self.isLast = isLast
    self.problem = problem
    self.advice = advice
  }

  private func includes(_ name: String) -> Bool {
    let parts = name.split(separator: ".")
    return isLast ? parts.last.map(marks.contains) ?? false : parts.dropLast().contains(where: marks.contains)
  }

  /// Those beside which parameters are missing or mean something else.
  private static let obstacles: [ForeignTensors] = [
    .init(
      [
        "base_layer", "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
        "ln_tuning_layers", "ia3_l", "hada_w1_a", "oft_r", "vera_lambda_b",
      ], isLast: false, "is named as peft names its adapters, and this one is not merged into the network",
      advice:
        "give the base model, and with \(.adapters) the directory that save_pretrained() wrote of the adapter; or merge it with merge_and_unload()"
    ),
    .init(
      ["flat_param", "_flat_param"], isLast: true, "is named as FSDP names many parameters that it has laid end to end",
      advice: "save the state dict whole (StateDictType.FULL_STATE_DICT), and give that"),
    .init(
      ["absmax", "quant_map", "nested_absmax", "SCB", "weight_format"], isLast: true,
      "is named as bitsandbytes names what belongs to quantised weights",
      advice: "save the network in F32, BF16 or F16 (in transformers: dequantize(), then save_pretrained())"),
    .init(
      ["qweight", "qzeros", "g_idx"], isLast: true, "is named as GPTQ and AWQ name quantised weights",
      advice: "give the network as it was before it was quantised"),
  ]

  /// Forms of whole networks that no config here describes.
  private static let forms: [ForeignTensors] = [
    .init(
      ["tok_embeddings"], isLast: false,
      "is named as in Meta's own form of LLaMA, which llama2.c and others write too, and which is not read",
      advice: "give the model in the form of transformers, with its config.json (llama2.c: export.py with --version -1)"
    ),
    .init(
      ["language_model"], isLast: false, "is named as Megatron names a network, in a form that is not read",
      advice: "give the model in the form of transformers, with its config.json"),
  ]

  /// Heads that take the place of the unembedding, or stand beside it.
  private static let heads: [ForeignTensors] = [
    .init(
      ["score"], isLast: false, "is named as the head of a sequence classifier (GPT2ForSequenceClassification)",
      advice: headAdvice("score")),
    .init(
      ["classifier"], isLast: false, "is named as the head of a classifier (GPT2ForTokenClassification)",
      advice: headAdvice("classifier")),
    .init(
      ["qa_outputs"], isLast: false, "is named as the head of a reader of questions (GPT2ForQuestionAnswering)",
      advice: headAdvice("qa_outputs")),
    .init(
      ["multiple_choice_head"], isLast: false, "is named as the second head of GPT2DoubleHeadsModel",
      advice: headAdvice("multiple_choice_head")),
    .init(
      ["v_head"], isLast: false, "is named as the head that TRL trains to value a text", advice: headAdvice("v_head")),
  ]

  private static func headAdvice(_ name: String) -> Message {
    "of decoders, only language models are converted yet; pass \(.ignoredTensors, "'\(name).*'") for the one that shares its weights, without this "
      + "head"
  }

  private func refusal(_ names: [String], in checkpoint: Checkpoint) -> Refusal? {
    let found = names.filter(includes)
    guard let first = found.first else { return nil }
    let others = found.count == 1 ? "" : ", like \(found.count - 1) more"
    return Refusal(.unsupported, file: checkpoint.path, subject: first, problem + others, advice: advice)
  }

  /// - Throws: `.unsupported` for tensors of another program, which a reader would otherwise miss parameters beside.
  static func refuse(in checkpoint: Checkpoint) throws(Refusal) {
    let names = checkpoint.tensors.map(\.name)
    for kind in obstacles {
      if let refusal = kind.refusal(names, in: checkpoint) { throw refusal }
    }
  }

  /// - Throws: `.unsupported` for a network in the form of another program, where no config says what it is.
  static func refuseForm(of checkpoint: Checkpoint) throws(Refusal) {
    let names = checkpoint.tensors.map(\.name)
    for form in forms {
      if let refusal = form.refusal(names, in: checkpoint) { throw refusal }
    }
  }

  /// - Throws: `.unsupported` where all of the names are those of one head.
  static func refuseHead(named names: [String], in checkpoint: Checkpoint) throws(Refusal) {
    for kind in heads where names.allSatisfy(kind.includes) {
      if let refusal = kind.refusal(names, in: checkpoint) { throw refusal }
    }
  }
}
