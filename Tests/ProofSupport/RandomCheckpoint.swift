import Foundation
import NormFoldFormats
import TestSupport

/// A small checkpoint of random weights, in the names and the config of its family.
package struct RandomCheckpoint {
  package enum Family: String, CaseIterable, Sendable {
    /// GPT-2 with the large epsilon of the published LN-removed networks.
    case gpt2Fixed
    case gpt2, llama, mistral, gemma2, gptNeoX, gptNeoXFixed, opt, torchscale, torchscaleFixed, normFormer,
      normFormerFixed, retNet
  }

  package let family: Family
  /// What was drawn, for messages: `gpt2 2×32, 4 heads, tied`.
  package private(set) var summary = ""
  /// Whether the norms are computed, so that a conversion has to say what they are to be.
  package var hasComputedNorms: Bool {
    ![.gpt2Fixed, .gptNeoXFixed, .torchscaleFixed, .normFormerFixed].contains(family)
  }

  private var tensors = EditableTensors()
  private var configuration: [String: Any] = [:]
  private var generator: SeededGenerator
  private let (width, heads, blocks, vocabulary, context, hidden): (Int, Int, Int, Int, Int, Int)
  private let scale: Double
  package let type: ElementType

  package init(_ family: Family, seed: UInt64) {
    self.family = family
    var generator = SeededGenerator(seed: seed)
    func draw<Value>(_ values: [Value]) -> Value { values[Int(generator.next() % UInt64(values.count))] }
    heads = draw([1, 2, 4])
    width = heads * draw([4, 8, 16])
    blocks = draw([1, 2, 3])
    vocabulary = draw([16, 33, 64])
    context = draw([8, 16, 24])
    hidden = draw([width, 2 * width, 4 * width])
    scale = draw([0.02, 0.1, 0.3])
    type = draw([.f32, .f32, .f32, .bf16])
    self.generator = generator
    summary = "\(family.rawValue) \(blocks)×\(width), \(heads) heads, scale \(scale), \(type.displayName)"
    switch family {
    case .gpt2, .gpt2Fixed: makeGPT2()
    case .llama: makeLLaMA()
    case .mistral: makeMistral()
    case .gemma2: makeGemma2()
    case .gptNeoX, .gptNeoXFixed: makeGPTNeoX()
    case .opt: makeOPT()
    case .torchscale, .torchscaleFixed: makeTorchscale()
    case .normFormer, .normFormerFixed: makeNormFormer()
    case .retNet: makeRetNet()
    }
  }

  package func write(to directory: String) throws {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try tensors.write(to: directory + "/model.safetensors")
    let data = try JSONSerialization.data(withJSONObject: configuration, options: [.sortedKeys])
    try data.write(to: URL(filePath: directory + "/config.json"))
  }

  private var isFixed: Bool { !hasComputedNorms }

  private mutating func pick<Value>(_ values: [Value]) -> Value { values[Int(generator.next() % UInt64(values.count))] }

  private mutating func normal() -> Double {
    let (u, v) = (
      Double.random(in: .leastNonzeroMagnitude..<1, using: &generator), Double.random(in: 0..<1, using: &generator)
    )
    return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
  }

  private mutating func add(_ name: String, _ shape: [Int], deviation: Double, mean: Double = 0) {
    let values = (0..<shape.reduce(1, *)).map { _ in mean + deviation * normal() }
    tensors[name] = .init(values, shape: shape, type: type)
  }

  private mutating func addMap(_ name: String, _ shape: [Int], biasCount: Int?) {
    add(name + ".weight", shape, deviation: scale)
    if let biasCount { add(name + ".bias", [biasCount], deviation: scale) }
  }

  /// The published form multiplies gains by √ε.
  private mutating func addNorm(_ name: String, of count: Int? = nil, hasBias: Bool = true) {
    let factor = isFixed ? 1e6 : 1.0
    let count = count ?? width
    add(name + ".weight", [count], deviation: 0.3 * factor, mean: factor)
    if hasBias { add(name + ".bias", [count], deviation: scale) }
  }

  private var epsilon: Double { isFixed ? 1e12 : 1e-5 }

  private mutating func makeGPT2() {
    let isTied = pick([true, false])
    let activation = pick(["gelu_new", "gelu", "relu", "silu"])
    configuration = [
      "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": blocks, "n_head": heads,
      "n_embd": width, "n_positions": context, "n_inner": hidden, "vocab_size": vocabulary,
      "layer_norm_epsilon": epsilon, "activation_function": activation, "tie_word_embeddings": isTied,
      "eos_token_id": vocabulary - 1,
    ]
    summary += isTied ? ", tied" : ", untied"
    summary += ", \(activation)"
    let p = "transformer."
    add(p + "wte.weight", [vocabulary, width], deviation: scale)
    add(p + "wpe.weight", [context, width], deviation: scale)
    for block in 0..<blocks {
      let h = p + "h.\(block)."
      addNorm(h + "ln_1")
      addMap(h + "attn.c_attn", [width, 3 * width], biasCount: 3 * width)
      addMap(h + "attn.c_proj", [width, width], biasCount: width)
      addNorm(h + "ln_2")
      addMap(h + "mlp.c_fc", [width, hidden], biasCount: hidden)
      addMap(h + "mlp.c_proj", [hidden, width], biasCount: width)
    }
    addNorm(p + "ln_f")
    if !isTied { add("lm_head.weight", [vocabulary, width], deviation: scale) }
  }

  private mutating func makeLLaMA() {
    let isTied = pick([true, false])
    let groups = pick([heads, max(1, heads / 2)])
    let (key, dHead) = (groups * width / heads, width / heads)
    configuration = [
      "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": blocks,
      "num_attention_heads": heads, "num_key_value_heads": groups, "hidden_size": width, "head_dim": dHead,
      "intermediate_size": hidden, "max_position_embeddings": context, "vocab_size": vocabulary,
      "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": isTied, "rope_theta": 500.0,
      "attention_bias": false, "mlp_bias": false, "bos_token_id": 1, "eos_token_id": 2,
    ]
    summary += ", \(groups) of keys, \(isTied ? "tied" : "untied")"
    add("model.embed_tokens.weight", [vocabulary, width], deviation: scale)
    for block in 0..<blocks {
      let h = "model.layers.\(block)."
      addNorm(h + "input_layernorm", hasBias: false)
      addMap(h + "self_attn.q_proj", [width, width], biasCount: nil)
      addMap(h + "self_attn.k_proj", [key, width], biasCount: nil)
      addMap(h + "self_attn.v_proj", [key, width], biasCount: nil)
      addMap(h + "self_attn.o_proj", [width, width], biasCount: nil)
      addNorm(h + "post_attention_layernorm", hasBias: false)
      addMap(h + "mlp.gate_proj", [hidden, width], biasCount: nil)
      addMap(h + "mlp.up_proj", [hidden, width], biasCount: nil)
      addMap(h + "mlp.down_proj", [width, hidden], biasCount: nil)
    }
    addNorm("model.norm", hasBias: false)
    if !isTied { add("lm_head.weight", [vocabulary, width], deviation: scale) }
  }

  /// A LLaMA that looks back over a window.
  private mutating func makeMistral() {
    makeLLaMA()
    let window = pick([1, 3, context - 1])
    configuration["model_type"] = "mistral"
    configuration["architectures"] = ["MistralForCausalLM"]
    configuration["sliding_window"] = window
    for key in ["attention_bias", "mlp_bias"] { configuration[key] = nil }
    summary += ", a window of \(window)"
  }

  /// A LLaMA with norms behind branches, capped scores and logits, and a window in every other block.
  private mutating func makeGemma2() {
    makeLLaMA()
    let window = pick([1, 3, context - 1])
    let isTied = configuration["tie_word_embeddings"] as? Bool ?? false
    configuration["model_type"] = "gemma2"
    configuration["architectures"] = ["Gemma2ForCausalLM"]
    configuration["hidden_activation"] = "gelu_pytorch_tanh"
    configuration["sliding_window"] = window
    configuration["query_pre_attn_scalar"] = pick([4, 10, 256])
    configuration["attn_logit_softcapping"] = pick([0.5, 5.0, 50.0])
    configuration["final_logit_softcapping"] = pick([0.3, 3.0, 30.0])
    for key in ["hidden_act", "attention_bias", "mlp_bias"] { configuration[key] = nil }
    for block in 0..<blocks {
      for name in ["pre_feedforward_layernorm", "post_feedforward_layernorm"] {
        addNorm("model.layers.\(block).\(name)", hasBias: false)
      }
    }
    summary += ", a window of \(window)\(isTied ? "" : ", a head of its own")"
  }

  private mutating func makeGPTNeoX() {
    let isParallel = pick([true, false])
    let share = pick([0.25, 0.5, 1.0])
    configuration = [
      "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "num_hidden_layers": blocks,
      "num_attention_heads": heads, "hidden_size": width, "intermediate_size": hidden,
      "max_position_embeddings": context, "vocab_size": vocabulary, "layer_norm_eps": epsilon,
      "hidden_act": pick(["gelu", "gelu_new"]),
      "rotary_pct": width / heads == 4 ? 1.0 : share, "rotary_emb_base": 10_000,
      "use_parallel_residual": isParallel, "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 0,
      "attention_bias": true,
    ]
    summary += isParallel ? ", parallel" : ", sequential"
    add("gpt_neox.embed_in.weight", [vocabulary, width], deviation: scale)
    for block in 0..<blocks {
      let h = "gpt_neox.layers.\(block)."
      addNorm(h + "input_layernorm")
      addNorm(h + "post_attention_layernorm")
      addMap(h + "attention.query_key_value", [3 * width, width], biasCount: 3 * width)
      addMap(h + "attention.dense", [width, width], biasCount: width)
      addMap(h + "mlp.dense_h_to_4h", [hidden, width], biasCount: hidden)
      addMap(h + "mlp.dense_4h_to_h", [width, hidden], biasCount: width)
    }
    addNorm("gpt_neox.final_layer_norm")
    add("embed_out.weight", [vocabulary, width], deviation: scale)
  }

  private mutating func makeOPT() {
    let isTied = pick([true, false])
    configuration = [
      "model_type": "opt", "architectures": ["OPTForCausalLM"], "num_hidden_layers": blocks,
      "num_attention_heads": heads, "hidden_size": width, "ffn_dim": hidden, "word_embed_proj_dim": width,
      "max_position_embeddings": context, "vocab_size": vocabulary, "activation_function": pick(["relu", "gelu"]),
      "do_layer_norm_before": true, "tie_word_embeddings": isTied, "enable_bias": true, "bos_token_id": 2,
      "eos_token_id": 2, "layer_norm_elementwise_affine": true,
    ]
    summary += isTied ? ", tied" : ", untied"
    let p = "model.decoder."
    add(p + "embed_tokens.weight", [vocabulary, width], deviation: scale)
    add(p + "embed_positions.weight", [context + 2, width], deviation: scale)
    for block in 0..<blocks {
      let h = p + "layers.\(block)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        addMap(h + "self_attn." + name, [width, width], biasCount: width)
      }
      addNorm(h + "self_attn_layer_norm")
      addMap(h + "fc1", [hidden, width], biasCount: hidden)
      addMap(h + "fc2", [width, hidden], biasCount: width)
      addNorm(h + "final_layer_norm")
    }
    addNorm(p + "final_layer_norm")
    if !isTied { add("lm_head.weight", [vocabulary, width], deviation: scale) }
  }

  private mutating func makeTorchscale() {
    let isTied = pick([true, false])
    let (hasInner, hasPositions) = (pick([true, true, false]), pick([true, false]))
    // A norm behind the embedding is read by the residual stream: where it is fixed there is no place for it.
    let hasEmbeddingNorm = !isFixed && pick([true, false])
    let isScaled = pick([true, false])
    configuration = [
      "model_type": "torchscale", "decoder_layers": blocks, "decoder_attention_heads": heads,
      "decoder_embed_dim": width,
      "decoder_ffn_embed_dim": hidden, "vocab_size": vocabulary, "max_target_positions": context,
      "activation_fn": pick(["gelu", "relu", "swish"]), "subln": hasInner, "layernorm_embedding": hasEmbeddingNorm,
      "no_scale_embedding": !isScaled, "share_decoder_input_output_embed": isTied, "layernorm_eps": epsilon,
      "eos_token_id": 2,
    ]
    summary += isTied ? ", tied" : ", untied"
    summary += "\(hasInner ? ", inner norms" : "")\(hasEmbeddingNorm ? ", embedding norm" : "")"
    summary += "\(hasPositions ? ", positions" : "")\(isScaled ? ", scaled" : "")"
    add("embed_tokens.weight", [vocabulary, width], deviation: scale)
    if hasPositions { add("embed_positions.weight", [context + 2, width], deviation: scale) }
    if hasEmbeddingNorm { addNorm("layernorm_embedding") }
    for block in 0..<blocks {
      let h = "layers.\(block)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        addMap(h + "self_attn." + name, [width, width], biasCount: width)
      }
      addNorm(h + "self_attn_layer_norm")
      addMap(h + "ffn.fc1", [hidden, width], biasCount: hidden)
      addMap(h + "ffn.fc2", [width, hidden], biasCount: width)
      addNorm(h + "final_layer_norm")
      if hasInner {
        addNorm(h + "self_attn.inner_attn_ln")
        addNorm(h + "ffn.ffn_layernorm", of: hidden)
      }
    }
    addNorm("layer_norm")
    if !isTied { add("output_projection.weight", [vocabulary, width], deviation: scale) }
  }

  private mutating func makeNormFormer() {
    let isTied = pick([true, false])
    let (hasInner, hasOuter) = (pick([true, false]), pick([true, false]))
    let (hasHeads, hasResidual) = (pick([true, false]), pick([true, false]))
    configuration = [
      "model_type": "normformer", "decoder_layers": blocks, "decoder_attention_heads": heads,
      "decoder_embed_dim": width,
      "decoder_ffn_embed_dim": hidden, "vocab_size": vocabulary, "max_target_positions": context,
      "activation_fn": pick(["gelu", "relu", "relu_squared"]), "decoder_normalize_before": true, "scale_fc": hasInner,
      "scale_attn": hasOuter, "scale_heads": hasHeads, "scale_resids": hasResidual,
      "no_scale_embedding": pick([true, false]),
      "share_decoder_input_output_embed": isTied, "layernorm_eps": epsilon, "eos_token_id": 2,
    ]
    summary += isTied ? ", tied" : ", untied"
    summary += "\(hasInner ? ", scale_fc" : "")\(hasOuter ? ", scale_attn" : "")"
    summary += "\(hasHeads ? ", scale_heads" : "")\(hasResidual ? ", scale_resids" : "")"
    add("embed_tokens.weight", [vocabulary, width], deviation: scale)
    add("embed_positions.weight", [context + 2, width], deviation: scale)
    for block in 0..<blocks {
      let h = "layers.\(block)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        addMap(h + "self_attn." + name, [width, width], biasCount: width)
      }
      addNorm(h + "self_attn_layer_norm")
      addMap(h + "ffn.fc1", [hidden, width], biasCount: hidden)
      addMap(h + "ffn.fc2", [width, hidden], biasCount: width)
      addNorm(h + "final_layer_norm")
      if hasInner { addNorm(h + "ffn.ffn_layernorm", of: hidden) }
      if hasOuter { addNorm(h + "attn_ln") }
      if hasHeads { add(h + "c_attn", [heads], deviation: 0.3, mean: 1) }
      if hasResidual { add(h + "w_resid", [width], deviation: 0.3, mean: 1) }
    }
    addNorm("layer_norm")
    if !isTied { add("output_projection.weight", [vocabulary, width], deviation: scale) }
  }
  private mutating func makeRetNet() {
    let (isParallel, hasBiases, isAffine) = (pick([true, false]), pick([true, false]), pick([true, false]))
    let hasEmbeddingNorm = pick([true, false, false])
    configuration = [
      "model_type": "retnet", "decoder_layers": blocks, "decoder_retention_heads": heads, "decoder_embed_dim": width,
      "decoder_value_embed_dim": width, "decoder_ffn_embed_dim": hidden, "vocab_size": vocabulary,
      "max_position_embeddings": context, "activation_fn": pick(["gelu", "gelu_new", "relu"]), "use_rms_norm": false,
      "use_glu": false, "subln": false, "parallel_residual": isParallel, "use_bias": hasBiases,
      "groupnorm_affine": isAffine, "rotary_percentage": pick([0.5, 1.0]), "layernorm_eps": epsilon,
      "layernorm_embedding": hasEmbeddingNorm, "no_scale_embedding": pick([true, false]), "eos_token_id": 2,
    ]
    summary += "\(isParallel ? ", parallel" : ", sequential")\(hasBiases ? ", biases" : "")"
    summary += "\(isAffine ? ", gains of heads" : "")\(hasEmbeddingNorm ? ", embedding norm" : "")"
    add("model.embed_tokens.weight", [vocabulary, width], deviation: scale)
    if hasEmbeddingNorm { addNorm("model.layernorm_embedding") }
    for block in 0..<blocks {
      let h = "model.layers.\(block)."
      for name in ["q_proj", "k_proj", "v_proj", "g_proj", "out_proj"] {
        addMap(h + "retention." + name, [width, width], biasCount: hasBiases ? width : nil)
      }
      if isAffine { addNorm(h + "retention.group_norm", of: width / heads, hasBias: hasBiases) }
      addNorm(h + "retention_layer_norm")
      addNorm(h + "final_layer_norm")
      addMap(h + "ffn.fc1", [hidden, width], biasCount: hidden)
      addMap(h + "ffn.fc2", [width, hidden], biasCount: width)
    }
    addNorm("model.layer_norm")
    add("lm_head.weight", [vocabulary, width], deviation: scale)
  }
}
