extension Layout {
  /// GPT-2 as Hugging Face stores it, without the prefix `transformer.`: Conv1D matrices [in, out], queries, keys and
  /// values fused. `lm_head` is absent where it is tied; its bias exists in folded checkpoints only.
  package static let gpt2 = gpt2(name: "Hugging Face GPT-2", orientation: .inOut)

  /// GPT-2 as nanoGPT stores it: the same names, Linear matrices [out, in].
  package static let nanoGPT = gpt2(name: "nanoGPT", orientation: .outIn)

  private static func gpt2(name: String, orientation: Orientation) -> Layout {
    Layout(
      name: name, prefix: "transformer.",
      [
        // Embeddings are looked up by row: no orientation to choose.
        ("wte.weight", .inOut, { _ in [.tokenEmbedding] }),
        ("wpe.weight", .inOut, { _ in [.positionEmbedding] }),
        ("h.#.ln_1.weight", .inOut, { [.normGain(.attention(block: $0))] }),
        ("h.#.ln_1.bias", .inOut, { [.normBias(.attention(block: $0))] }),
        (
          "h.#.attn.c_attn.weight", orientation,
          { [.weight(.query(block: $0)), .weight(.key(block: $0)), .weight(.value(block: $0))] }
        ),
        (
          "h.#.attn.c_attn.bias", .inOut,
          { [.bias(.query(block: $0)), .bias(.key(block: $0)), .bias(.value(block: $0))] }
        ),
        ("h.#.attn.c_proj.weight", orientation, { [.weight(.attentionOutput(block: $0))] }),
        ("h.#.attn.c_proj.bias", .inOut, { [.bias(.attentionOutput(block: $0))] }),
        ("h.#.ln_2.weight", .inOut, { [.normGain(.mlp(block: $0))] }),
        ("h.#.ln_2.bias", .inOut, { [.normBias(.mlp(block: $0))] }),
        ("h.#.mlp.c_fc.weight", orientation, { [.weight(.mlpInput(block: $0))] }),
        ("h.#.mlp.c_fc.bias", .inOut, { [.bias(.mlpInput(block: $0))] }),
        ("h.#.mlp.c_proj.weight", orientation, { [.weight(.mlpOutput(block: $0))] }),
        ("h.#.mlp.c_proj.bias", .inOut, { [.bias(.mlpOutput(block: $0))] }),
        ("ln_f.weight", .inOut, { _ in [.normGain(.final)] }),
        ("ln_f.bias", .inOut, { _ in [.normBias(.final)] }),
        // The unembedding is a Linear in both: [vocabulary, dModel].
        ("lm_head.weight", .outIn, { _ in [.weight(.unembedding)] }),
        ("lm_head.bias", .inOut, { _ in [.bias(.unembedding)] }),
      ])
  }
}
