extension Layout {
  /// GPT-2 as llama.cpp stores it (architecture `gpt2`): matrices [out, in] as numpy sees them, queries, keys and values
  /// fused; the unembedding is absent where it is tied, and never has a bias.
  ///
  /// That norms are fixed is said by a large epsilon only. Training checkpoints with FakeLayerNorm never come in this
  /// layout: llama.cpp's converter has no names for their buffers, and its loader refuses tensors that it does not know.
  package static let ggufGPT2 = Layout(
    name: "GGUF gpt2",
    [
      ("token_embd.weight", .inOut, { _ in [.tokenEmbedding] }),
      ("position_embd.weight", .inOut, { _ in [.positionEmbedding] }),
      ("blk.#.attn_norm.weight", .inOut, { [.normGain(.attention(block: $0))] }),
      ("blk.#.attn_norm.bias", .inOut, { [.normBias(.attention(block: $0))] }),
      (
        "blk.#.attn_qkv.weight", .outIn,
        { [.weight(.query(block: $0)), .weight(.key(block: $0)), .weight(.value(block: $0))] }
      ),
      (
        "blk.#.attn_qkv.bias", .inOut, { [.bias(.query(block: $0)), .bias(.key(block: $0)), .bias(.value(block: $0))] }
      ),
      ("blk.#.attn_output.weight", .outIn, { [.weight(.attentionOutput(block: $0))] }),
      ("blk.#.attn_output.bias", .inOut, { [.bias(.attentionOutput(block: $0))] }),
      ("blk.#.ffn_norm.weight", .inOut, { [.normGain(.mlp(block: $0))] }),
      ("blk.#.ffn_norm.bias", .inOut, { [.normBias(.mlp(block: $0))] }),
      ("blk.#.ffn_up.weight", .outIn, { [.weight(.mlpInput(block: $0))] }),
      ("blk.#.ffn_up.bias", .inOut, { [.bias(.mlpInput(block: $0))] }),
      ("blk.#.ffn_down.weight", .outIn, { [.weight(.mlpOutput(block: $0))] }),
      ("blk.#.ffn_down.bias", .inOut, { [.bias(.mlpOutput(block: $0))] }),
      ("output_norm.weight", .inOut, { _ in [.normGain(.final)] }),
      ("output_norm.bias", .inOut, { _ in [.normBias(.final)] }),
      ("output.weight", .outIn, { _ in [.weight(.unembedding)] }),
    ])
}
