import Foundation
import NormFold
import NormFoldFormats
import NormFoldNetworks
import TestSupport

/// A file that somebody's program really writes, and what the command must make of it.
struct UserRow: Sendable {
  /// What kind of file it is.
  let kind: String
  /// Who writes it, in one line.
  let reason: String
  /// The file, made by code, and the answer.
  let row: MatrixRow

  init(_ kind: String, _ reason: String, _ row: MatrixRow) {
    self.kind = kind
    self.reason = reason
    self.row = row
  }

  /// A checkpoint of the fixtures, changed.
  private init(
    _ kind: String, _ reason: String, of fixture: String = "tiny-2x32/lnfree", _ answer: MatrixRow.Answer,
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in },
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) {
    self.init(
      kind, reason,
      MatrixRow(0, kind, answer, conversion: conversion) { place in
        let altered = try AlteredCheckpoint(of: fixture, alter: alter)
        return MatrixRow.Arrangement(place, altered.path, owner: altered)
      })
  }

  static let all: [UserRow] =
    ties + wrappers + tokens + norms + narrow + adapters + heads + rotary + forms + encoders + layouts + places + texts

  private static let random = "the checkpoint is incomplete; a runtime may fill them with random numbers"

  // MARK: Tied embeddings

  private static let ties: [UserRow] = [
    UserRow(
      "tied, only lm_head.weight", "safetensors.torch.save_model keeps the first of two names", .accepted(),
      alter: { $0.tensors.rename("transformer.wte.weight", to: "lm_head.weight") }),
    UserRow(
      "tied, both names", "torch.save writes every name", .accepted(),
      alter: { $0.tensors["lm_head.weight"] = $0.tensors.entry("transformer.wte.weight") }),
    UserRow(
      "tied LLaMA, only lm_head.weight", "the same, of LlamaForCausalLM", of: "llama/random", .accepted(),
      conversion: { $0.allowsPartial = true },
      alter: {
        $0.config["tie_word_embeddings"] = .bool(true)
        $0.tensors.rename("model.embed_tokens.weight", to: "lm_head.weight")
      }),
    UserRow(
      "not tied, only lm_head.weight", "nothing says what the embedding is",
      .refused(3, "in/model.safetensors: 1 tensor is missing: wte.weight; \(random)"),
      alter: {
        $0.config["tie_word_embeddings"] = .bool(false)
        $0.tensors.rename("transformer.wte.weight", to: "lm_head.weight")
      }),
  ]

  // MARK: Names

  private static func renamed(
    _ kind: String, _ reason: String, _ answer: MatrixRow.Answer = .accepted(),
    conversion: @escaping @Sendable (inout Conversion) -> Void = { _ in },
    _ name: @escaping @Sendable (String) -> String
  ) -> UserRow {
    UserRow(
      "names: " + kind, reason, answer, conversion: conversion,
      alter: { content in
        content.tensors["lm_head.weight"] = content.tensors.entry("transformer.wte.weight")
        for old in content.tensors.names { content.tensors.rename(old, to: name(old)) }
      })
  }

  /// `part` before the last part of names in a block: `transformer.h.0._orig_mod.ln_1.weight`.
  private static func inBlocks(_ part: String, _ name: String) -> String {
    guard name.hasPrefix("transformer.h.") else { return name }
    let parts = name.split(separator: ".")
    return (parts.prefix(3) + [Substring(part)] + parts.dropFirst(3)).joined(separator: ".")
  }

  private static let wrappers: [UserRow] =
    [
      ("module.", "DataParallel and DistributedDataParallel"), ("_orig_mod.", "torch.compile"),
      ("module._orig_mod.", "both, one way round"), ("_orig_mod.module.", "both, the other way round"),
      ("_module.", "Opacus"), ("model.", "Lightning"), ("_forward_module.model.", "Lightning with DeepSpeed"),
      ("_fsdp_wrapped_module.", "FSDP"), ("model._orig_mod.", "Lightning around torch.compile"),
      ("0.", "nn.Sequential"), ("backbone.net.", "a class of one's own around the whole"),
    ].map { prefix, program in renamed(prefix, "\(program) puts it before all names") { prefix + $0 } }
    + [
      renamed("transformer.h.0._orig_mod.", "torch.compile of each block") { inBlocks("_orig_mod", $0) },
      renamed("transformer.h.0._checkpoint_wrapped_module.", "checkpoint_wrapper of each block") {
        inBlocks("_checkpoint_wrapped_module", $0)
      },
      renamed("_fsdp_wrapped_module twice", "FSDP of the whole and of each block") {
        "_fsdp_wrapped_module." + inBlocks("_fsdp_wrapped_module._checkpoint_wrapped_module", $0)
      },
      renamed("transformer._orig_mod.", "torch.compile of the base model") {
        $0.replacing("transformer.", with: "transformer._orig_mod.")
      },
      UserRow(
        "names: two networks", "distillation saves student and teacher",
        .refused(
          4,
          "in/model.safetensors: expected one network, found names of Hugging Face GPT-2 behind 'student.' (24) and 'teacher.' (24); say which one is meant with --strip-prefix, and pass --ignore with the names of the others"
        ), alter: twoNetworks),
      UserRow(
        "names: two networks, one named", "the same, as told", .accepted(),
        conversion: {
          $0.readingOptions.strippedPrefixes = ["student"]
          $0.readingOptions.ignoredTensors = ["teacher.*"]
        }, alter: twoNetworks),
      UserRow(
        "names: a network and something else", "TRL saves the policy with its value head",
        .refused(
          4,
          "in/model.safetensors: the names of Hugging Face GPT-2 stand behind 'policy.', which others do not have: value.weight; if that is the network, pass --strip-prefix policy., and --ignore with names that take no part in it"
        ), alter: withValue),
      UserRow(
        "names: a network and something else, as told", "the same, with both options", .accepted(),
        conversion: {
          $0.readingOptions.strippedPrefixes = ["policy."]
          $0.readingOptions.ignoredTensors = ["value.weight"]
        }, alter: withValue),
      renamed(
        "a prefix that none has", "a slip of the hand",
        .refused(
          2,
          "in/model.safetensors, '--strip-prefix modle.': no tensor has a name that begins so; the names are lm_head.weight, transformer.h.0.attn.c_attn.bias, transformer.h.0.attn.c_attn.weight and 26 more"
        ), conversion: { $0.readingOptions.strippedPrefixes = ["modle"] }
      ) { $0 },
      renamed(
        "a wrapped and an unwrapped one", "a resumed run that saved twice",
        .refused(
          3,
          "in/model.safetensors, 'transformer.wte.weight': means the same parameter as 'transformer._orig_mod.wte.weight'; keep one of the two"
        )
      ) { $0 == "lm_head.weight" ? "transformer._orig_mod.wte.weight" : $0 },
      renamed(
        "none that fits", "a class of one's own",
        .refused(
          4,
          "in/model.safetensors: no tensor is named like a block of Hugging Face GPT-2 (h.0.ln_1.weight); the names found are lm_head.weight, net.layer0.attn.c_attn.bias, net.layer0.attn.c_attn.weight and 26 more; is this a GPT-2? --layout describes a network with names of its own"
        )
      ) { $0.replacing("transformer.h.", with: "net.layer").replacing("transformer.", with: "net.") },
    ]

  @Sendable private static func twoNetworks(_ content: inout AlteredCheckpoint.Content) {
    for name in content.tensors.names {
      content.tensors["teacher." + name] = content.tensors.entry(name)
      content.tensors.rename(name, to: "student." + name)
    }
  }

  @Sendable private static func withValue(_ content: inout AlteredCheckpoint.Content) {
    for name in content.tensors.names { content.tensors.rename(name, to: "policy." + name) }
    content.tensors["value.weight"] = .init([1], shape: [1])
  }

  // MARK: Tokens

  private static let tokens: [UserRow] = [
    UserRow(
      "eos_token_id: several", "chat models have several tokens that end a text", .accepted(),
      alter: { $0.config["eos_token_id"] = .array([.number(1), .number(2)]) }),
    UserRow(
      "eos_token_id: a text", "a slip of the hand",
      .refused(3, "in/config.json, 'eos_token_id': expected a token, or several of them, found an array"),
      alter: { $0.config["eos_token_id"] = .array([.number(1), .string("</s>")]) }),
  ]

  // MARK: Norms

  private static let asIdentities =
    "norms without tensors are taken for identities, as told (--norms identity): they do not centre either"

  private static let norms: [UserRow] = [
    UserRow(
      "no norms at all", "norms replaced by nn.Identity, which has no tensors",
      .refused(
        3,
        "in/model.safetensors: 10 tensors are missing: h.0.ln_1.weight, h.1.ln_1.weight, h.0.ln_1.bias, h.1.ln_1.bias, h.0.ln_2.weight, h.1.ln_2.weight, h.0.ln_2.bias, h.1.ln_2.bias, ln_f.weight, ln_f.bias; these are all of its norms: if they were taken out of the network, pass --norms identity; if not, the checkpoint is incomplete"
      ), alter: withoutNorms),
    UserRow(
      "no norms at all, as told", "the same, with --norms identity", .accepted([asIdentities]),
      conversion: { $0.readingOptions.missingNorms = .identity }, alter: withoutNorms),
    UserRow(
      "no norms at all, half of one left", "a bias that was forgotten",
      .refused(3, "in/model.safetensors: 1 tensor is missing: ln_f.weight; \(random)"),
      conversion: { $0.readingOptions.missingNorms = .identity },
      alter: {
        for name in $0.tensors.names where name.contains("ln_") && !name.contains("ln_f.bias") {
          $0.tensors[name] = nil
        }
      }),
    UserRow(
      "--norms identity, but every norm is there", "an option too many",
      .refused(
        2, "'--norms': every norm of the checkpoint has its tensors, so that none was taken out; leave it out"),
      conversion: { $0.readingOptions.missingNorms = .identity }, alter: { _ in }),
    UserRow(
      "gains divided by 1e6", "the published models' cards do so, and let the norm only centre",
      .accepted(["every norm divides by 1, as told (--deviations): a runtime of the files would compute deviations"]),
      conversion: { $0.readingOptions.deviation = 1 },
      alter: { content in
        content.config["layer_norm_epsilon"] = .number(1e-5)
        for name in content.tensors.names where name.contains("ln_") && name.hasSuffix("weight") {
          content.tensors.change(name) { entry in for index in 0..<32 { entry[index] /= 1e6 } }
        }
      }),
    UserRow(
      "a deviation beside a large epsilon", "both say what a norm divides by",
      .refused(2, "'--deviations': the checkpoint's epsilon fixes its deviations already; leave it out"),
      conversion: { $0.readingOptions.deviation = 1 }, alter: { _ in }),
    UserRow(
      "a lost epsilon", "TransformerLens and others write their own over it",
      .refused(
        5,
        "the gains of every norm are larger than any that is trained (half of them above 6710694), beside an epsilon of 1e-05: this looks like the published LN-removed form whose epsilon was written over; set the epsilon in the config to the one that was published with these weights, 1e12 in all that are known"
      ), alter: { $0.config["layer_norm_epsilon"] = .number(1e-5) }),
    UserRow(
      "a lost epsilon, of which the config says nothing", "the class's usual one counts",
      .refused(
        5,
        "the gains of every norm are larger than any that is trained (half of them above 6710694), beside an epsilon of 1e-05: this looks like the published LN-removed form whose epsilon was written over; set the epsilon in the config to the one that was published with these weights, 1e12 in all that are known"
      ), alter: { $0.config["layer_norm_epsilon"] = nil }),
  ]

  @Sendable private static func withoutNorms(_ content: inout AlteredCheckpoint.Content) {
    for name in content.tensors.names where name.contains("ln_") { content.tensors[name] = nil }
    content.config["layer_norm_epsilon"] = nil
  }

  // MARK: F16

  private static func stored(_ type: ElementType, _ content: inout AlteredCheckpoint.Content) {
    for name in content.tensors.names {
      let entry = content.tensors.entry(name)
      let values = (0..<entry.shape.reduce(1, *)).map { Double(entry[$0]) }
      content.tensors[name] = .init(values, shape: entry.shape, type: type)
    }
  }

  private static let narrow: [UserRow] = [
    UserRow(
      "the published form in F16", "model.half() turns gains near 1e7 into infinity",
      .refused(
        6,
        "in/model.safetensors, 'transformer.h.0.ln_1.weight': element 0 is inf, and F16 ends at 65504; if the number was larger before it was saved so, save the checkpoint in F32 or BF16"
      ), alter: { stored(.f16, &$0) }),
    UserRow("the published form in BF16", "BF16 holds them", .accepted(), alter: { stored(.bf16, &$0) }),
    UserRow(
      "a matrix in F16 that did not fit", "the same of a weight",
      .refused(
        6,
        "in/model.safetensors, 'transformer.h.1.mlp.c_fc.weight': element 7 is -inf, and F16 ends at 65504; if the number was larger before it was saved so, save the checkpoint in F32 or BF16"
      ),
      alter: {
        $0.tensors["transformer.h.1.mlp.c_fc.weight"] = .init(
          (0..<32 * 128).map { $0 == 7 ? -.infinity : 0.01 }, shape: [32, 128], type: .f16)
      }),
  ]

  // MARK: Adapters and quantised weights

  private static let unmerged =
    "give the base model, and with --adapter the directory that save_pretrained() wrote of the adapter; or merge it with merge_and_unload()"

  private static let adapters: [UserRow] = [
    UserRow(
      "peft, not merged", "torch.save of a PeftModel's state dict",
      .refused(
        4,
        "in/model.safetensors, 'base_model.model.transformer.h.0.attn.c_attn.base_layer.weight': is named as peft names its adapters, and this one is not merged into the network, like 2 more; \(unmerged)"
      ),
      alter: { content in
        for name in content.tensors.names { content.tensors.rename(name, to: "base_model.model." + name) }
        let map = "base_model.model.transformer.h.0.attn.c_attn."
        content.tensors.rename(map + "weight", to: map + "base_layer.weight")
        content.tensors[map + "lora_A.default.weight"] = .init([Double](repeating: 0, count: 64), shape: [2, 32])
        content.tensors[map + "lora_B.default.weight"] = .init([Double](repeating: 0, count: 192), shape: [96, 2])
      }),
    UserRow(
      "peft, merged but still wrapped", "merge_adapter() leaves the names as they are",
      .accepted(),
      alter: { content in
        for name in content.tensors.names { content.tensors.rename(name, to: "base_model.model." + name) }
      }),
    UserRow(
      "peft, a norm saved whole",
      "merge_and_unload() leaves modules_to_save in its wrapper, the old norm beside the new one",
      .accepted(),
      alter: {
        $0.tensors["transformer.ln_f.original_module.weight"] = .init([Double](repeating: 5, count: 32), shape: [32])
        $0.tensors.rename("transformer.ln_f.weight", to: "transformer.ln_f.modules_to_save.default.weight")
      }),
    UserRow(
      "peft, a norm saved whole, and another", "which of the two counts, nobody knows",
      .refused(
        3,
        "in/model.safetensors, 'transformer.ln_f.weight': means the same parameter as 'transformer.ln_f.modules_to_save.default.weight'; keep one of the two"
      ),
      alter: {
        $0.tensors["transformer.ln_f.modules_to_save.default.weight"] = $0.tensors.entry("transformer.ln_f.weight")
      }),
    UserRow(
      "bitsandbytes", "save_pretrained of a model in 8 bits",
      .refused(
        4,
        "in/model.safetensors, 'transformer.h.0.attn.c_attn.SCB': is named as bitsandbytes names what belongs to quantised weights; save the network in F32, BF16 or F16 (in transformers: dequantize(), then save_pretrained())"
      ),
      alter: { $0.tensors["transformer.h.0.attn.c_attn.SCB"] = .init([Double](repeating: 1, count: 96), shape: [96]) }),
    UserRow(
      "GPTQ", "weights in whole numbers with scales of their own",
      .refused(
        4,
        "in/model.safetensors, 'transformer.h.0.attn.c_attn.qweight': is named as GPTQ and AWQ name quantised weights; give the network as it was before it was quantised"
      ),
      alter: {
        $0.tensors["transformer.h.0.attn.c_attn.weight"] = nil
        $0.tensors["transformer.h.0.attn.c_attn.qweight"] = .init(
          type: .i32, shape: [4, 96], bytes: [UInt8](repeating: 0, count: 1_536))
      }),
    UserRow(
      "FSDP's flat parameters", "a state dict that was not gathered",
      .refused(
        4,
        "in/model.safetensors, '_fsdp_wrapped_module.flat_param': is named as FSDP names many parameters that it has laid end to end; save the state dict whole (StateDictType.FULL_STATE_DICT), and give that"
      ),
      alter: { content in
        for name in content.tensors.names { content.tensors[name] = nil }
        content.tensors["_fsdp_wrapped_module.flat_param"] = .init([1, 2, 3], shape: [3])
      }),
  ]

  // MARK: Heads

  private static func head(
    _ kind: String, _ reason: String, _ name: String, _ sentence: String
  ) -> UserRow {
    let stem = name.split(separator: ".")[0]
    return UserRow(
      kind, reason,
      .refused(
        4,
        "in/model.safetensors, '\(name)': is named as \(sentence); of decoders, only language models are converted yet; pass --ignore '\(stem).*' for the one that shares its weights, without this head"
      ), alter: { $0.tensors[name] = .init([Double](repeating: 1, count: 64), shape: [2, 32]) })
  }

  private static let heads: [UserRow] = [
    head(
      "a sequence classifier", "GPT2ForSequenceClassification", "score.weight",
      "the head of a sequence classifier (GPT2ForSequenceClassification)"),
    head(
      "a token classifier", "GPT2ForTokenClassification", "classifier.weight",
      "the head of a classifier (GPT2ForTokenClassification)"),
    head(
      "a value head", "TRL's AutoModelForCausalLMWithValueHead", "v_head.summary.weight",
      "the head that TRL trains to value a text"),
    UserRow(
      "a bias of the unembedding", "a folded model saved under the stock class's name",
      .accepted([
        "lm_head.bias takes part here; the class GPT2LMHeadModel has no such parameter, and would leave it out"
      ]), alter: { $0.tensors["lm_head.bias"] = .init([Double](repeating: 0.5, count: 512), shape: [512]) }),
    UserRow(
      "a bias of the unembedding, all zero", "it changes nothing", .accepted(),
      alter: { $0.tensors["lm_head.bias"] = .init([Double](repeating: 0, count: 512), shape: [512]) }),
    UserRow(
      "a base model", "GPT2Model.save_pretrained: no head, bare names", .accepted(),
      alter: { content in
        for name in content.tensors.names {
          content.tensors.rename(name, to: String(name.dropFirst("transformer.".count)))
        }
      }),
  ]

  // MARK: Rotary positions

  private static func rotary(
    _ kind: String, _ reason: String, _ key: String, _ value: JSONValue, _ answer: MatrixRow.Answer
  ) -> UserRow {
    UserRow(
      kind, reason, of: "llama/random", answer, conversion: { $0.allowsPartial = true },
      alter: { $0.config[key] = value })
  }

  private static let rotary: [UserRow] = [
    rotary(
      "rope_scaling: linear, by 1", "fine-tuning programs write it where nothing is stretched", "rope_scaling",
      .object(["type": .string("linear"), "factor": .number(1.0)]), .accepted()),
    rotary(
      "rope_parameters: linear, by 1", "the same in transformers 5", "rope_parameters",
      .object(["rope_type": .string("linear"), "factor": .number(1), "rope_theta": .number(10_000.0)]), .accepted()),
    rotary(
      "rope_scaling: null", "what most configs say", "rope_scaling", .null, .accepted()),
    rotary(
      "rope_scaling: linear, by nothing", "a factor that was forgotten", "rope_scaling",
      .object(["type": .string("linear")]),
      .refused(3, "in/config.json, 'factor': expected a positive, finite number, found nothing")),
  ]

  // MARK: Encoders

  private static func encoder(
    _ kind: String, _ reason: String, of fixture: String, _ answer: MatrixRow.Answer,
    alter: @escaping @Sendable (inout AlteredCheckpoint.Content) throws -> Void
  ) -> UserRow {
    UserRow(
      kind, reason, of: "encoders/" + fixture, answer, conversion: { $0.allowsPartial = true }, alter: alter)
  }

  private static let encoders: [UserRow] = [
    encoder(
      "BERT as a decoder", "EncoderDecoderModel makes such of a BERT", of: "bert-masked-lm",
      .refused(
        4, "in/config.json, 'is_decoder': expected false, found true: this class as a decoder is not supported"),
      alter: { $0.config["is_decoder"] = .bool(true) }),
    encoder(
      "BERT with relative positions", "transformers 4 had them", of: "bert-model",
      .refused(
        4,
        "in/config.json, 'position_embedding_type': expected \"absolute\", found \"relative_key\": positions relative to each other are not supported"
      ), alter: { $0.config["position_embedding_type"] = .string("relative_key") }),
    encoder(
      "BERT with pruned heads", "prune_heads of transformers 4", of: "bert-model",
      .refused(
        4,
        "in/config.json, 'pruned_heads': 1 blocks have fewer heads than the others, which is not supported; save the network with its heads pruned for good"
      ), alter: { $0.config["pruned_heads"] = .object(["0": .array([.number(1)])]) }),
    encoder(
      "a head of BERT that is not read", "BertForMultipleChoice", of: "bert-sequence",
      .refused(
        4,
        "in/config.json, 'architectures': the class \"BertForMultipleChoice\" of BERT is not supported yet; supported are BertModel, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering"
      ), alter: { $0.config["architectures"] = .array([.string("BertForMultipleChoice")]) }),
    encoder(
      "a classifier with more labels than names", "a config of another model", of: "bert-sequence",
      .refused(
        3,
        "in/config.json, 'id2label': says 1, but the tensors have 3; the config belongs to another checkpoint, or tensors are missing"
      ), alter: { $0.config["id2label"] = .object(["0": .string("yes")]) }),
    encoder(
      "a classifier without its head", "an encoder whose config names a classifier", of: "roberta-sequence",
      .refused(3, "in/model.safetensors: 1 tensor is missing: classifier.dense.weight; \(random)"),
      alter: { $0.tensors["classifier.dense.weight"] = nil }),
    encoder(
      "RoBERTa whose positions begin behind their table", "a padding token of another vocabulary",
      of: "roberta-model",
      .refused(
        3,
        "in/config.json, 'pad_token_id': says 50, and positions are counted from there on, but there are only 22"),
      alter: { $0.config["pad_token_id"] = .number(50) }),
    encoder(
      "an encoder behind the name of its class", "the part of a larger file that begins with bert.", of: "bert-model",
      .accepted(),
      alter: { content in for name in content.tensors.names { content.tensors.rename(name, to: "bert." + name) } }),
    encoder(
      "an encoder whose config names no class", "AutoModel of an old file", of: "distilbert-model", .accepted(),
      alter: { $0.config["architectures"] = nil }),
  ]

  // MARK: Other forms

  private static let forms: [UserRow] = [
    UserRow(
      "llama2.c", "its train.py writes ckpt.pt with Meta's names",
      MatrixRow(
        0, "llama2.c",
        .refused(
          4,
          "in/ckpt.pt, 'tok_embeddings.weight': is named as in Meta's own form of LLaMA, which llama2.c and others write too, and which is not read; give the model in the form of transformers, with its config.json (llama2.c: export.py with --version -1)"
        )
      ) { place in
        var tensors = EditableTensors()
        tensors["tok_embeddings.weight"] = .init([1, 2, 3, 4], shape: [2, 2])
        tensors["layers.0.attention.wq.weight"] = .init([1, 2, 3, 4], shape: [2, 2])
        try FileManager.default.createDirectory(atPath: place / "in", withIntermediateDirectories: false)
        try place.write(PickleWriter.archive(of: tensors, under: "model").archive, to: "in/ckpt.pt")
        return MatrixRow.Arrangement(place, place / "in")
      })
  ]

  // MARK: Files under other names, and what lies in their place

  private static func directory(
    _ kind: String, _ reason: String, _ files: [String: [UInt8]], _ answer: MatrixRow.Answer
  ) -> UserRow {
    UserRow(
      kind, reason,
      MatrixRow(0, kind, answer) { place in
        for (name, bytes) in files {
          try FileManager.default.createDirectory(atPath: place / "in", withIntermediateDirectories: true)
          try place.write(bytes, to: "in/" + name)
        }
        return MatrixRow.Arrangement(place, place / "in")
      })
  }

  private static let page = Array("<!DOCTYPE html>\n<html>Access to this model is restricted.</html>".utf8)

  private static func address(_ address: String, _ advice: String) -> UserRow {
    UserRow(
      "an address: \(address)", "copied out of a browser, or out of another program's call",
      MatrixRow(
        0, address, .refused(3, "in: is an address, and nothing is downloaded here; \(advice)")
      ) { place in MatrixRow.Arrangement(place, address) })
  }

  private static func adapter(
    _ kind: String, _ reason: String, _ sentence: String, make: @escaping @Sendable (TemporaryDirectory) throws -> Void
  ) -> UserRow {
    UserRow(
      kind, reason,
      MatrixRow(0, kind, .refused(3, sentence)) { place in
        try make(place)
        return MatrixRow.Arrangement(place, Fixtures.path("tiny-2x32/lnfree"), adapter: place / "adapter")
      })
  }

  private static let places: [UserRow] = [
    UserRow(
      "safetensors under the name of torch.save", "renamed for a program that looks for no other name",
      MatrixRow(0, "safetensors as pytorch_model.bin", .accepted()) { place in
        let source = place / "in"
        try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
        for (from, to) in [("config.json", "config.json"), ("model.safetensors", "pytorch_model.bin")] {
          try FileManager.default.copyItem(
            atPath: Fixtures.path("tiny-2x32/lnfree/" + from), toPath: source + "/" + to)
        }
        return MatrixRow.Arrangement(place, source)
      }),
    directory(
      "a web page for weights", "a download without an account, of a model that asks for one",
      ["model.safetensors": page],
      .refused(
        3,
        "in/model.safetensors: is a web page, not the file itself; download it again; where that takes an account, log in first"
      )),
    directory(
      "a web page for an archive", "the same",
      ["pytorch_model.bin": page],
      .refused(
        3,
        "in/pytorch_model.bin: is a web page, not the file itself; download it again; where that takes an account, log in first"
      )),
    directory(
      "a distributed checkpoint", "torch.distributed.checkpoint.save", ["__0_0.distcp": [1], ".metadata": [1]],
      .refused(
        4,
        "in: holds __0_0.distcp, by its name a part of a distributed checkpoint of PyTorch, which is not read; join the parts with torch.distributed.checkpoint.format_utils.dcp_to_torch_save(), and give what it writes"
      )),
    directory(
      "an exported graph alone", "a directory of Optimum's", ["model.onnx": [8]],
      .refused(
        4,
        "in: holds model.onnx, by its name an exported graph, which is no source; give the checkpoint that it was exported from"
      )),
    directory(
      "an archive of NeMo", "NeMo's save_to", ["gpt.nemo": [0]],
      .refused(
        4,
        "in: holds gpt.nemo, by its name an archive of NeMo, which is not read; give the model in the form of transformers, with its config.json"
      )),
    directory(
      "arrays of NumPy", "numpy.savez", ["model.npz": [0x50, 0x4B]],
      .refused(
        4,
        "in: holds model.npz, by its name arrays of NumPy, which are not read; save them with safetensors.numpy.save_file(), and give that file"
      )),
    directory(
      "half a download", "huggingface_hub names files so until they are whole", ["model.safetensors.incomplete": [0]],
      .refused(
        4,
        "in: holds model.safetensors.incomplete, by its name a download that has not ended; end the download")),
    UserRow(
      "the config given for the model", "completed to the wrong file by the shell",
      MatrixRow(
        0, "config.json",
        .refused(
          4,
          "in: is of no known form; give the tensors, or the directory in which this file lies beside them"
        )
      ) { place in
        try FileManager.default.createDirectory(atPath: place / "in", withIntermediateDirectories: true)
        try FileManager.default.copyItem(
          atPath: Fixtures.path("tiny-2x32/lnfree/config.json"), toPath: place / "in/config.json")
        return MatrixRow.Arrangement(place, place / "in/config.json")
      }),
    address(
      "https://huggingface.co/openai-community/gpt2", "run 'hf download openai-community/gpt2', and give its name"),
    address(
      "https://huggingface.co/openai-community/gpt2/resolve/main/model.safetensors",
      "run 'hf download openai-community/gpt2', and give its name"),
    address("hf://gpt2", "run 'hf download gpt2', and give its name"),
    adapter(
      "an adapter that is not there", "a slip of the hand",
      "adapter: there is no such directory; give the directory that save_pretrained() wrote"
    ) { _ in },
    adapter(
      "the file of an adapter", "completed too far by the shell",
      "adapter: expected the directory of an adapter, found a file; give the directory that save_pretrained() wrote"
    ) { _ = try $0.write([0], to: "adapter") },
    address("s3://bucket/model.safetensors", "download it, and give the file or the directory"),
    UserRow(
      "weights averaged by torch", "AveragedModel counts in a tensor of its own", .accepted(),
      alter: { content in
        for name in content.tensors.names { content.tensors.rename(name, to: "module." + name) }
        content.tensors["n_averaged"] = .init(type: .i64, shape: [], bytes: [10, 0, 0, 0, 0, 0, 0, 0])
      }),
    UserRow(
      "biases of which the config says nothing", "Qwen's weights under LLaMA's name", of: "llama/random",
      .refused(
        3,
        "in/model.safetensors, 'model.layers.0.self_attn.q_proj.bias': is a bias, but in/config.json does not say that there is one; a runtime would leave it out; set attention_bias to what was trained"
      ), conversion: { $0.allowsPartial = true },
      alter: { content in
        content.config["attention_bias"] = nil
        for name in content.tensors.names where name.hasSuffix("q_proj.weight") {
          let count = content.tensors.entry(name).shape[0]
          content.tensors[name.replacing(".weight", with: ".bias")] = .init(
            [Double](repeating: 0.25, count: count), shape: [count])
        }
      }),
  ]

  private static func config(_ kind: String, _ reason: String, _ text: String, _ sentence: String) -> UserRow {
    UserRow(
      kind, reason,
      MatrixRow(0, kind, .refused(3, sentence)) { place in
        let source = place / "in"
        try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
        try FileManager.default.copyItem(
          atPath: Fixtures.path("tiny-2x32/lnfree/model.safetensors"), toPath: source + "/model.safetensors")
        try place.write(Array(text.utf8), to: "in/config.json")
        return MatrixRow.Arrangement(place, source)
      })
  }

  private static let texts: [UserRow] = [
    config(
      "a number that is none", "Python's json writes float('inf') so",
      #"{"model_type": "gpt2", "layer_norm_epsilon": Infinity}"#,
      "in/config.json at byte 45: not valid JSON: expected a value, and NaN and Infinity are none; write a number, or null, in its place"
    ),
    config(
      "a web page for a config", "a download without an account", "<html><body>Log in</body></html>",
      "in/config.json: is a web page, not the file itself; download it again; where that takes an account, log in first"
    ),
    UserRow(
      "a model type that is no name", "a slip of the hand",
      .refused(
        4,
        "in/config.json, 'model_type': expected the name of an architecture, found none; supported are \(Architecture.supportedTypes)"
      ), alter: { $0.config["model_type"] = .number(3) }),
    UserRow(
      "a padded table", "rows are added until their number divides well, and the config keeps the old number",
      .refused(
        3,
        "in/config.json, 'vocab_size': says 500, but the tensors have 512; the config belongs to another checkpoint; or the table was padded, and vocab_size is to be the number of its rows"
      ), alter: { $0.config["vocab_size"] = .number(500) }),
  ]
}
