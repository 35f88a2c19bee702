import Formats
import Networks

/// The stock GPT-2 class of transformers, and what reads the same files: mlx-lm, vLLM, llama.cpp's converter. The class
/// cannot do without norms, so each is written as near an identity as it gets: with ε = 10¹² and a gain of 10⁶,
/// (x − mean) / √(variance + ε) · 10⁶ is x − mean up to a relative variance/(2·10¹²), and folded weights do not see the mean.
/// Where all norms are computed still, they stay what they are.
/// The last norm keeps its gain and bias, and with them the tied unembedding: there is no place for a vocabulary bias.
package struct StockGPT2Target: Target {
  package init() {}

  /// 10⁶ is no BF16 number; the nearest is 999,424, so ε is its square where norms are stored so.
  private static func epsilon(storedAs type: ElementType) -> Double {
    type == .bf16 ? 999_424 * 999_424 : Network.nearIdentityEpsilon
  }

  package var name: String { "gpt2" }
  package var summary: String { "stock GPT2LMHeadModel, mlx-lm, vLLM; near-identity norms" }
  package var types: [ElementType] { [.f32, .bf16] }
  package var normKinds: Set<Norm.Kind> { [.layer] }
  package func keptSites(of network: Network, type: ElementType) -> Set<NormSite> {
    network.lastNormBehindTie
  }

  package func leavesNorms(_ network: Network) -> Bool { true }

  package func output(of network: Network, from model: Model, options: TargetOptions) throws(Refusal) -> TargetOutput {
    try network.require(.gpt2, target: name)
    try requireActivation(of: network)
    try model.requireNorms(target: name)
    let (stock, epsilon) = try network.withEveryBias().withStockNorms(
      nearIdentityEpsilon: Self.epsilon(storedAs: options.type), layout: .gpt2, target: name)
    let configuration = model.gpt2Configuration(
      of: stock,
      head: [("architectures", .array([.string("GPT2LMHeadModel")])), ("model_type", .string("gpt2"))],
      epsilon: epsilon, isTied: stock.isTied, type: options.type)
    // Bare names, the widest-accepted spelling; a tied unembedding is not written twice.
    let parameters = Layout.gpt2.parameters(of: stock).filter { $0.name != "lm_head.weight" || !stock.isTied }.map {
      TargetOutput.StoredParameter(name: $0.name, value: $0.value, type: options.type)
    }
    return TargetOutput(
      safetensors: parameters,
      sideFiles: try model.tokenizerFiles() + [("config.json", Array(configuration.text.utf8))],
      notes: network.noteOnLastNorm
        + (stock.isTied ? [] : ["the unembedding is not tied: vLLM would ignore lm_head.weight"]))
  }

  /// - Throws: `.unsupported` for leaky ReLUs with slopes of their own: the class takes the function by its name, which
  ///   means a slope of 0.01.
  private func requireActivation(of network: Network) throws(Refusal) {
    for block in network.blocks {
      guard case .leakyReLU(let slope) = block.mlp.activation, slope != 0.01 else { continue }
      throw Refusal(
        .unsupported, subject: block.mlp.activation.configName,
        "the target \(name) has leaky ReLU with a slope of 0.01 only, found \(slope.twoDigits)",
        advice: "use --for transformers")
    }
  }
}
