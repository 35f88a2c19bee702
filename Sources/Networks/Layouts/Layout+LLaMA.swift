extension Layout {
  /// LLaMA as Hugging Face stores it, without the prefix `model.`: Linear matrices [out, in], a map each. `lm_head` is
  /// absent where it is tied.
  package static let llama = Layout(
    name: "Hugging Face LLaMA", prefix: "model.",
    [
      ("embed_tokens.weight", .inOut, { _ in [.tokenEmbedding] }),
      ("layers.#.input_layernorm.weight", .inOut, { [.normGain(.attention(block: $0))] }),
      ("layers.#.self_attn.q_proj.weight", .outIn, { [.weight(.query(block: $0))] }),
      ("layers.#.self_attn.q_proj.bias", .inOut, { [.bias(.query(block: $0))] }),
      ("layers.#.self_attn.k_proj.weight", .outIn, { [.weight(.key(block: $0))] }),
      ("layers.#.self_attn.k_proj.bias", .inOut, { [.bias(.key(block: $0))] }),
      ("layers.#.self_attn.v_proj.weight", .outIn, { [.weight(.value(block: $0))] }),
      ("layers.#.self_attn.v_proj.bias", .inOut, { [.bias(.value(block: $0))] }),
      ("layers.#.self_attn.o_proj.weight", .outIn, { [.weight(.attentionOutput(block: $0))] }),
      ("layers.#.self_attn.o_proj.bias", .inOut, { [.bias(.attentionOutput(block: $0))] }),
      ("layers.#.post_attention_layernorm.weight", .inOut, { [.normGain(.mlp(block: $0))] }),
      ("layers.#.mlp.gate_proj.weight", .outIn, { [.weight(.mlpGate(block: $0))] }),
      ("layers.#.mlp.gate_proj.bias", .inOut, { [.bias(.mlpGate(block: $0))] }),
      ("layers.#.mlp.up_proj.weight", .outIn, { [.weight(.mlpInput(block: $0))] }),
      ("layers.#.mlp.up_proj.bias", .inOut, { [.bias(.mlpInput(block: $0))] }),
      ("layers.#.mlp.down_proj.weight", .outIn, { [.weight(.mlpOutput(block: $0))] }),
      ("layers.#.mlp.down_proj.bias", .inOut, { [.bias(.mlpOutput(block: $0))] }),
      ("norm.weight", .inOut, { _ in [.normGain(.final)] }),
      ("lm_head.weight", .outIn, { _ in [.weight(.unembedding)] }),
    ])

  /// LLaMA as llama.cpp stores it (architecture `llama`). Its rotary positions turn neighbouring features, so the rows
  /// of queries and keys stand in another order than Hugging Face's.
  package static let ggufLLaMA = Layout(
    name: "GGUF llama",
    [
      ("token_embd.weight", .inOut, { _ in [.tokenEmbedding] }),
      ("blk.#.attn_norm.weight", .inOut, { [.normGain(.attention(block: $0))] }),
      ("blk.#.attn_q.weight", .outInPairs, { [.weight(.query(block: $0))] }),
      ("blk.#.attn_q.bias", .outInPairs, { [.bias(.query(block: $0))] }),
      ("blk.#.attn_k.weight", .outInPairs, { [.weight(.key(block: $0))] }),
      ("blk.#.attn_k.bias", .outInPairs, { [.bias(.key(block: $0))] }),
      ("blk.#.attn_v.weight", .outIn, { [.weight(.value(block: $0))] }),
      ("blk.#.attn_v.bias", .inOut, { [.bias(.value(block: $0))] }),
      ("blk.#.attn_output.weight", .outIn, { [.weight(.attentionOutput(block: $0))] }),
      ("blk.#.attn_output.bias", .inOut, { [.bias(.attentionOutput(block: $0))] }),
      ("blk.#.ffn_norm.weight", .inOut, { [.normGain(.mlp(block: $0))] }),
      ("blk.#.ffn_gate.weight", .outIn, { [.weight(.mlpGate(block: $0))] }),
      ("blk.#.ffn_gate.bias", .inOut, { [.bias(.mlpGate(block: $0))] }),
      ("blk.#.ffn_up.weight", .outIn, { [.weight(.mlpInput(block: $0))] }),
      ("blk.#.ffn_up.bias", .inOut, { [.bias(.mlpInput(block: $0))] }),
      ("blk.#.ffn_down.weight", .outIn, { [.weight(.mlpOutput(block: $0))] }),
      ("blk.#.ffn_down.bias", .inOut, { [.bias(.mlpOutput(block: $0))] }),
      ("output_norm.weight", .inOut, { _ in [.normGain(.final)] }),
      ("output.weight", .outIn, { _ in [.weight(.unembedding)] }),
    ])
}
