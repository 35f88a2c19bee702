import Formats
import Networks

/// Hugging Face transformers. A GPT-2 comes with a modeling file of ours, which `AutoModelForCausalLM` loads with
/// `trust_remote_code=True`, and no norm is left. A LLaMA is a plain LlamaForCausalLM: see ``llamaOutput(of:from:options:)``.
package struct TransformersTarget: Target {
  package init() {}

  package var name: String { "transformers" }
  package var summary: String { "AutoModelForCausalLM: GPT-2 with trust_remote_code, no norms; LLaMA as it is" }
  package var types: [ElementType] { [.f32, .bf16, .f16] }
  package var normKinds: Set<Norm.Kind> { Set(Norm.Kind.allCases) }
  package func keptSites(of network: Network, type: ElementType) -> Set<NormSite> {
    Architecture(of: network) == .llama ? network.lastNormBehindTie : []
  }

  package func leavesNorms(_ network: Network) -> Bool {
    Architecture(of: network) == .llama || !network.norms.isEmpty
  }

  package func output(of network: Network, from model: Model, options: TargetOptions) throws(Refusal) -> TargetOutput {
    if Architecture(of: network) == .llama { return try llamaOutput(of: network, from: model, options: options) }
    let module = "modeling_gpt2_folded"
    var head: [(String, JSONValue)] = [
      ("architectures", .array([.string("GPT2FoldedLMHeadModel")])),
      (
        "auto_map",
        .object([
          "AutoConfig": .string("\(module).GPT2FoldedConfig"),
          "AutoModelForCausalLM": .string("\(module).GPT2FoldedLMHeadModel"),
        ])
      ),
      ("model_type", .string(Model.foldedModelType)),
    ]
    let kept = try keptNorms(of: network)
    if !kept.isEmpty { head.append(("kept_norms", .object(kept.map { .init(key: $0, value: .string($1.rawValue)) }))) }
    if let kind = network.norms.first?.norm.kind, kind != .layer {
      head.append(("norm_kind", .string(kind.rawValue)))
    }
    let slopes = network.blocks.map(\.mlp.activation.negativeSlope)
    if slopes.contains(where: { $0 != nil }) {
      head.append(("leaky_relu_slopes", .array(slopes.map { .number($0 ?? 0) })))
    }
    let configuration = model.gpt2Configuration(
      of: network, head: head, epsilon: kept.isEmpty ? nil : model.configuration.epsilon, isTied: false,
      type: options.type)
    // The class has every bias; where the network has none it is zero.
    var parameters = Layout.gpt2.slotParameters(of: network.withEveryBias()).compactMap {
      slot, value -> TargetOutput.StoredParameter? in
      // What is kept of a norm has neither gain nor bias.
      if case .normGain = slot.roles[0] { return nil }
      return TargetOutput.StoredParameter(name: Layout.gpt2.fullName(of: slot), value: value, type: options.type)
    }
    if network.unembedding.bias == nil {
      // The class always has one.
      let zeros = Parameter.constant(0, shape: [network.dimensions.vocabularySize])
      parameters.append(.init(name: "lm_head.bias", value: zeros, type: options.type))
    }
    return TargetOutput(
      safetensors: parameters,
      sideFiles: try model.tokenizerFiles() + [
        ("config.json", Array(configuration.text.utf8)), ("\(module).py", Array(Self.modelingFile.utf8)),
      ],
      notes: Self.note(on: kept.map(\.0), of: network.norms.first?.norm.kind).map { [$0] } ?? [])
  }

  private static func note(on kept: [String], of kind: Norm.Kind?) -> String? {
    guard let kind, !kept.isEmpty else { return nil }
    let count = kept.count == 1 ? "1 \(kind.displayName) is" : "\(kept.count) \(kind.displayName)s are"
    return "\(count) still computed: \(kept.joined(separator: ", "))"
  }

  /// The norms that the modeling file has to compute, by their bare names.
  ///
  /// - Throws: `.unsupported` for one that it cannot: with a gain, or of another kind than the others.
  private func keptNorms(of network: Network) throws(Refusal) -> [(String, Configuration.KeptPath)] {
    var kept: [(String, Configuration.KeptPath)] = []
    for place in network.normPlaces {
      let norms = place.sites.map { network[$0] }
      for norm in norms.compactMap({ $0 }) {
        guard norm.kind == network.norms.first?.norm.kind, norm.gain.constantValue == 1, norm.bias == nil,
          norm.isComputed
        else {
          throw Refusal(
            .unsupported, subject: norm.name, "the target \(name) keeps norms of one kind, without gain and bias")
        }
      }
      guard let bareName = Layout.gpt2.normName(at: place), norms.contains(where: { $0 != nil }) else { continue }
      let path: Configuration.KeptPath =
        norms.allSatisfy { $0 != nil } ? .all : norms[0] == nil ? .values : .queriesAndKeys
      kept.append((bareName, path))
    }
    return kept
  }

  /// Stock GPT-2 with its norms replaced by identities or bare norms and an unembedding of its own: attention, cache and
  /// masks are the library's.
  static let modelingFile = """
    \"\"\"GPT-2 with its LayerNorms folded into the weights, as NormFold writes it.

    The blocks read the residual stream as it is, and the unembedding has a weight and a bias of its own. Norms that
    are still computed are named in the config's kept_norms; they have neither gain nor bias, and are of the kind
    norm_kind: LayerNorm, RMSNorm on a residual stream of mean zero (rms), or the same without its last feature (crms).
    leaky_relu_slopes has the slope of each block where the activation is a leaky ReLU.
    \"\"\"

    import torch
    from torch import nn
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.pytorch_utils import Conv1D


    class GPT2FoldedConfig(GPT2Config):
        model_type = "gpt2_folded"


    class RMSNorm(nn.Module):
        \"\"\"Divides by the root of the mean square of all features, the one that a compressed stream leaves out included.

        That one is minus the sum of the others.
        \"\"\"

        def __init__(self, epsilon, is_compressed):
            super().__init__()
            self.epsilon = epsilon
            self.is_compressed = is_compressed

        def forward(self, x):
            z = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            squares = z.square().sum(-1, keepdim=True)
            width = z.shape[-1]
            if self.is_compressed:
                squares = squares + z.sum(-1, keepdim=True).square()
                width += 1
            return (z * torch.rsqrt(squares / width + self.epsilon)).to(x.dtype)


    class PartlyNormalisedConv1D(Conv1D):
        \"\"\"Queries, keys and values of which only some still read a norm.\"\"\"

        def __init__(self, outputs, width, norm, path):
            super().__init__(outputs, width)
            self.norm = norm
            self.path = path

        def forward(self, x):
            normalised = self.norm(x)
            first, last = (x, normalised) if self.path == "values" else (normalised, x)
            split = self.nf // 3 * 2
            return torch.cat([super().forward(first)[..., :split], super().forward(last)[..., split:]], -1)


    class GPT2FoldedLMHeadModel(GPT2LMHeadModel):
        config_class = GPT2FoldedConfig

        def __init__(self, config):
            super().__init__(config)
            kept = getattr(config, "kept_norms", None) or {}
            kind = getattr(config, "norm_kind", None) or "layer"
            slopes = getattr(config, "leaky_relu_slopes", None)
            heads = config.n_embd
            width = heads - 1 if kind == "crms" else heads

            def bare_norm():
                if kind == "layer":
                    return nn.LayerNorm(width, eps=config.layer_norm_epsilon, elementwise_affine=False)
                return RMSNorm(config.layer_norm_epsilon, kind == "crms")

            def norm(name):
                return bare_norm() if kept.get(name) == "all" else nn.Identity()

            for number, block in enumerate(self.transformer.h):
                block.ln_1 = norm(f"h.{number}.ln_1")
                block.ln_2 = norm(f"h.{number}.ln_2")
                path = kept.get(f"h.{number}.ln_1")
                if path in ("values", "queries_keys"):
                    block.attn.c_attn = PartlyNormalisedConv1D(3 * heads, width, bare_norm(), path)
                elif width < heads:
                    block.attn.c_attn = Conv1D(3 * heads, width)
                if width < heads:
                    block.attn.c_proj = Conv1D(width, heads)
                    block.mlp.c_fc = Conv1D(block.mlp.c_fc.nf, width)
                    block.mlp.c_proj = Conv1D(width, block.mlp.c_proj.nx)
                if slopes is not None:
                    block.mlp.act = nn.LeakyReLU(slopes[number])
            if width < heads:
                self.transformer.wte = nn.Embedding(config.vocab_size, width)
                self.transformer.wpe = nn.Embedding(config.n_positions, width)
            self.transformer.ln_f = norm("ln_f")
            self.lm_head = nn.Linear(width, config.vocab_size, bias=True)
            self.post_init()

    """
}
