extension Layout {
  /// A GPT-2 without norms as TransformerLens's HookedTransformer names it: each head with matrices of its own, and an
  /// unembedding that always has a bias. The causal mask, which its state dict has too, is no parameter.
  package static let transformerLens = Layout(
    name: "TransformerLens",
    [
      ("embed.W_E", .inOut, { _ in [.tokenEmbedding] }),
      ("pos_embed.W_pos", .inOut, { _ in [.positionEmbedding] }),
      ("blocks.#.attn.W_Q", .intoHeads, { [.weight(.query(block: $0))] }),
      ("blocks.#.attn.b_Q", .intoHeads, { [.bias(.query(block: $0))] }),
      ("blocks.#.attn.W_K", .intoHeads, { [.weight(.key(block: $0))] }),
      ("blocks.#.attn.b_K", .intoHeads, { [.bias(.key(block: $0))] }),
      ("blocks.#.attn.W_V", .intoHeads, { [.weight(.value(block: $0))] }),
      ("blocks.#.attn.b_V", .intoHeads, { [.bias(.value(block: $0))] }),
      ("blocks.#.attn.W_O", .outOfHeads, { [.weight(.attentionOutput(block: $0))] }),
      ("blocks.#.attn.b_O", .inOut, { [.bias(.attentionOutput(block: $0))] }),
      ("blocks.#.mlp.W_in", .inOut, { [.weight(.mlpInput(block: $0))] }),
      ("blocks.#.mlp.b_in", .inOut, { [.bias(.mlpInput(block: $0))] }),
      ("blocks.#.mlp.W_out", .inOut, { [.weight(.mlpOutput(block: $0))] }),
      ("blocks.#.mlp.b_out", .inOut, { [.bias(.mlpOutput(block: $0))] }),
      ("unembed.W_U", .inOut, { _ in [.weight(.unembedding)] }),
      ("unembed.b_U", .inOut, { _ in [.bias(.unembedding)] }),
    ])
}
