extension Layout {
  /// GPT-2 as Hugging Face stores it, without the prefix `transformer.`: Conv1D matrices [in, out], queries, keys and
  /// values fused. `lm_head` is absent where it is tied; its bias exists in folded checkpoints only.
  package static let gpt2 = gpt2(name: "Hugging Face GPT-2", orientation: .inOut)

  /// GPT-2 as nanoGPT stores it: the same names, Linear matrices [out, in].
  package static let nanoGPT = gpt2(name: "nanoGPT", orientation: .outIn)

  /// GPT-2 as Nandan91/relu-revival-normfree stores it: queries and keys fused, values apart.
  package static let splitGPT2 = gpt2(name: "GPT-2 with qk_attn and v_attn", orientation: .inOut, hasSplitValues: true)

  /// The same trained without norms: those of the blocks are identities, which have no tensors; the last one is there.
  package static let normFreeGPT2 = gpt2(
    name: "norm-free GPT-2", orientation: .inOut, hasSplitValues: true, hasBlockNorms: false)

  private static func gpt2(
    name: String, orientation: Orientation, hasSplitValues: Bool = false, hasBlockNorms: Bool = true
  ) -> Layout {
    // Embeddings are looked up by row: no orientation to choose.
    let embeddings: [Pattern] = [
      ("wte.weight", .inOut, { _ in [.tokenEmbedding] }),
      ("wpe.weight", .inOut, { _ in [.positionEmbedding] }),
    ]
    let attentionNorm: [Pattern] = [
      ("h.#.ln_1.weight", .inOut, { [.normGain(.attention(block: $0))] }),
      ("h.#.ln_1.bias", .inOut, { [.normBias(.attention(block: $0))] }),
    ]
    let fused: [Pattern] = [
      (
        "h.#.attn.c_attn.weight", orientation,
        { [.weight(.query(block: $0)), .weight(.key(block: $0)), .weight(.value(block: $0))] }
      ),
      (
        "h.#.attn.c_attn.bias", .inOut,
        { [.bias(.query(block: $0)), .bias(.key(block: $0)), .bias(.value(block: $0))] }
      ),
    ]
    let split: [Pattern] = [
      ("h.#.attn.qk_attn.weight", orientation, { [.weight(.query(block: $0)), .weight(.key(block: $0))] }),
      ("h.#.attn.qk_attn.bias", .inOut, { [.bias(.query(block: $0)), .bias(.key(block: $0))] }),
      ("h.#.attn.v_attn.weight", orientation, { [.weight(.value(block: $0))] }),
      ("h.#.attn.v_attn.bias", .inOut, { [.bias(.value(block: $0))] }),
    ]
    let attentionOutput: [Pattern] = [
      ("h.#.attn.c_proj.weight", orientation, { [.weight(.attentionOutput(block: $0))] }),
      ("h.#.attn.c_proj.bias", .inOut, { [.bias(.attentionOutput(block: $0))] }),
    ]
    let mlpNorm: [Pattern] = [
      ("h.#.ln_2.weight", .inOut, { [.normGain(.mlp(block: $0))] }),
      ("h.#.ln_2.bias", .inOut, { [.normBias(.mlp(block: $0))] }),
    ]
    let rest: [Pattern] = [
      ("h.#.mlp.c_fc.weight", orientation, { [.weight(.mlpInput(block: $0))] }),
      ("h.#.mlp.c_fc.bias", .inOut, { [.bias(.mlpInput(block: $0))] }),
      ("h.#.mlp.c_proj.weight", orientation, { [.weight(.mlpOutput(block: $0))] }),
      ("h.#.mlp.c_proj.bias", .inOut, { [.bias(.mlpOutput(block: $0))] }),
      ("ln_f.weight", .inOut, { _ in [.normGain(.final)] }),
      ("ln_f.bias", .inOut, { _ in [.normBias(.final)] }),
      // The unembedding is a Linear in both: [vocabulary, dModel].
      ("lm_head.weight", .outIn, { _ in [.weight(.unembedding)] }),
      ("lm_head.bias", .inOut, { _ in [.bias(.unembedding)] }),
    ]
    return Layout(
      name: name, prefix: "transformer.",
      embeddings + (hasBlockNorms ? attentionNorm : []) + (hasSplitValues ? split : fused) + attentionOutput
        + (hasBlockNorms ? mlpNorm : []) + rest)
  }
}
