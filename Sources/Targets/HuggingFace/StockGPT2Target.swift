import NormFoldFormats
import NormFoldNetworks

/// The stock GPT-2 class of transformers, and what reads the same files: mlx-lm, vLLM, llama.cpp's converter. The class
/// cannot do without norms, so each is written as near an identity as it gets: with ε = 10¹² and a gain of 10⁶,
/// (x − mean) / √(variance + ε) · 10⁶ is x − mean up to a relative variance/(2·10¹²), and folded weights do not see the mean.
/// Where all norms are computed still, they stay what they are.
/// The last norm keeps its gain and bias, and with them the tied unembedding: there is no place for a vocabulary bias.
package struct StockGPT2Target: Target {
  package init() {}

  /// 10⁶ is no BF16 number; the nearest is 999,424, so ε is its square where norms are stored so.
  private static func epsilon(storedAs type: ElementType) -> Double {
    type == .bf16 ? 999_424 * 999_424 : StockClass.nearIdentityEpsilon
  }

  package var name: String { "gpt2" }
  package var summary: String { "stock GPT2LMHeadModel, mlx-lm, vLLM; near-identity norms" }
  package var types: [ElementType] { [.f32, .bf16] }
  package var normKinds: Set<Norm.Kind> { [.layer] }

  private static let stock = StockClass.huggingFace(.gpt2)

  package func keptNorms(of source: TargetSource, options: TargetOptions) -> Set<Path> {
    Self.stock.keptNorms(of: source.network)
  }

  package func leavesNorms(_ network: Network, from source: TargetSource) -> Bool { true }

  package func output(
    of network: Network, from source: TargetSource, options: TargetOptions
  ) throws(Refusal) -> TargetOutput {
    let stored = try Self.stock.stored(
      network, from: source, options: options, target: name,
      nearIdentityEpsilon: Self.epsilon(storedAs: options.type))
    let layout = Self.stock.layout
    let configuration = source.configuration(for: .gpt2, sizes: stored.sizes, type: options.type)
    let isTied = stored.sizes.isTied
    // Bare names, the widest-accepted spelling; a tied unembedding is not written twice.
    let parameters = layout.tensors(of: stored.network, sizes: stored.sizes).filter {
      !$0.slot.isOmittedWhereTied || !isTied
    }.map { TargetOutput.StoredParameter(name: $0.slot.name, value: $0.value, type: options.type) }
    let tokenizer = try source.tokenizerFiles()
    return TargetOutput(
      safetensors: parameters, maximumByteCount: options.maximumShardByteCount,
      sideFiles: tokenizer + [("config.json", Array(configuration.text.utf8))],
      notes: network.noteOnLastNorm
        + (isTied ? [] : ["the unembedding is not tied: vLLM would ignore lm_head.weight"])
        + source.notes(onTokenizerFiles: tokenizer))
  }
}
