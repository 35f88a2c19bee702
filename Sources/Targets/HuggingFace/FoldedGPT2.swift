import NormFoldFormats
import NormFoldNetworks

/// The class of this project for a GPT-2 without norms, or with bare ones: `AutoModelForCausalLM` loads it with
/// `trust_remote_code=True` from the modeling file beside the weights.
enum FoldedGPT2 {
  private static let module = "modeling_gpt2_folded"

  /// - Throws: `.unsupported` for norms that the modeling file cannot compute, and for a home-made network that is no GPT-2.
  static func output(
    of network: Network, from source: TargetSource, options: TargetOptions, target: String
  ) throws(Refusal) -> TargetOutput {
    let architecture = Architecture.gpt2
    let network = try source.architecture == .gpt2 ? network : asGPT2(network, from: source, target: target)
    var head: [(String, JSONValue)] = [
      ("architectures", .array([.string("GPT2FoldedLMHeadModel")])),
      (
        "auto_map",
        .object([
          "AutoConfig": .string("\(module).GPT2FoldedConfig"),
          "AutoModelForCausalLM": .string("\(module).GPT2FoldedLMHeadModel"),
        ])
      ),
      ("model_type", .string(Architecture.foldedGPT2ModelType)),
    ]
    let kept = try keptNorms(of: network, target: target)
    if !kept.isEmpty { head.append(("kept_norms", .object(kept.map { .init(key: $0, value: .string($1.rawValue)) }))) }
    if let kind = network.norms.first?.norm.kind, kind != .layer {
      head.append(("norm_kind", .string(kind.rawValue)))
    }
    let slopes = network.activations.map(\.negativeSlope)
    if slopes.contains(where: { $0 != nil }) {
      head.append(("leaky_relu_slopes", .array(slopes.map { .number($0 ?? 0) })))
    }
    var sizes = architecture.hyperparameters(of: network, from: source.hyperparameters)
    sizes.isTied = false
    let configuration = source.configuration(
      for: architecture, sizes: sizes, head: head, omitting: kept.isEmpty ? ["layer_norm_epsilon"] : [],
      type: options.type)
    // The class has every bias; where the network has none it is zero.
    var whole = network.withBiases(of: architecture.layout)
    if let map = whole.unembedding, map.bias == nil {
      whole[linear: whole.unembeddingPath]?.bias = .constant(0, shape: [map.weight.columnCount])
    }
    let parameters = architecture.layout.tensors(of: whole, sizes: sizes).compactMap {
      slot, value -> TargetOutput.StoredParameter? in
      // What is kept of a norm has neither gain nor bias.
      if whole[norm: Path(String(slot.parameters[0].dropLast(".weight".count)))] != nil { return nil }
      return TargetOutput.StoredParameter(
        name: architecture.layout.fullName(of: slot), value: value, type: options.type)
    }
    let tokenizer = try source.tokenizerFiles()
    return TargetOutput(
      safetensors: parameters, maximumByteCount: options.maximumShardByteCount,
      sideFiles: tokenizer + [
        ("config.json", Array(configuration.text.utf8)), ("\(module).py", Array(Self.modelingFile.utf8)),
      ],
      notes: (note(on: kept.map(\.0), of: network.norms.first?.norm.kind).map { [$0] } ?? [])
        + source.notes(onTokenizerFiles: tokenizer))
  }

  /// A home-made network with the attention scores of a GPT-2.
  ///
  /// - Throws: `.unsupported` with the first place where it computes something else.
  private static func asGPT2(
    _ network: Network, from source: TargetSource, target: String
  ) throws(Refusal) -> Network {
    let architecture = Architecture.gpt2
    let sizes = architecture.hyperparameters(of: network, from: source.hyperparameters)
    let scaled = network.withAttentionScales(of: architecture, sizes)
    var skeleton = architecture.network(sizes, parametersOf: scaled)
    for (path, _) in skeleton?.norms ?? [] { skeleton?[norm: path] = scaled[norm: path] }
    if let skeleton, skeleton.firstDifference(from: scaled) == nil { return scaled }
    let place = skeleton.flatMap { scaled.firstDifference(from: $0) }?.description
    throw Refusal(
      .unsupported, subject: place ?? target,
      "no class that the target \(target) writes computes this, nor does GPT-2's",
      advice: "use \(.targets, "onnxruntime")")
  }

  private static func note(on kept: [String], of kind: Norm.Kind?) -> Message? {
    guard let kind, !kept.isEmpty else { return nil }
    let count = kept.count == 1 ? "1 \(kind.displayName) is" : "\(kept.count) \(kind.displayName)s are"
    return "\(count) still computed: \(kept.joined(separator: ", "))"
  }

  /// The norms that the modeling file has to compute, by their bare names.
  ///
  /// - Throws: `.unsupported` for one that it cannot: with a gain, or of another kind than the others.
  private static func keptNorms(
    of network: Network, target: String
  ) throws(Refusal) -> [(String, Dialect.KeptPath)] {
    var kept: [(String, Dialect.KeptPath)] = []
    for (path, norm) in network.norms {
      guard norm.kind == network.norms.first?.norm.kind, norm.gain.constantValue == 1, norm.bias == nil, norm.isComputed
      else {
        throw Refusal(
          .unsupported, subject: norm.name, "the target \(target) keeps norms of one kind, without gain and bias",
          advice: "use \(.targets, "onnxruntime")")
      }
      let readers = norm.readers ?? []
      // A norm that is split between its readers has the path of the norm, or one that goes on behind it.
      let place =
        readers == ["value"] && path.lastComponent == "value"
        ? Path(String(path.description.dropLast(".value".count))) : path
      guard let bareName = Architecture.gpt2.layout.normName(at: place) else { continue }
      if let index = kept.firstIndex(where: { $0.0 == bareName }) {
        kept[index].1 = .all
      } else {
        kept.append((bareName, readers.isEmpty ? .all : readers == ["value"] ? .values : .queriesAndKeys))
      }
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
