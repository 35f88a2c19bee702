import Formats
import Networks

/// Hugging Face transformers. A GPT-2 comes with a modeling file of ours, which `AutoModelForCausalLM` loads with
/// `trust_remote_code=True`, and no norm is left. A LLaMA is a plain LlamaForCausalLM: see ``llamaOutput(of:from:options:)``.
package struct TransformersTarget: Target {
  package init() {}

  package var name: String { "transformers" }
  package var summary: String { "AutoModelForCausalLM: GPT-2 with trust_remote_code, no norms; LLaMA as it is" }
  package var types: [ElementType] { [.f32, .bf16, .f16] }
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
    let configuration = model.gpt2Configuration(
      of: network, head: head, epsilon: kept.isEmpty ? nil : model.configuration.epsilon, isTied: false,
      type: options.type)
    var parameters = Layout.gpt2.slotParameters(of: network).compactMap {
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
    let infos = parameters.map(\.info)
    return TargetOutput(
      fileName: "model.safetensors", parameters: parameters,
      writer: { (path, metadata) throws(Refusal) in
        try SafetensorsWriter(creating: path, tensors: infos, metadata: metadata.merging(["format": "pt"]) { $1 })
      },
      sideFiles: try model.tokenizerFiles() + [
        ("config.json", Array(configuration.text.utf8)), ("\(module).py", Array(Self.modelingFile.utf8)),
      ],
      notes: kept.isEmpty ? [] : ["\(kept.count) norms are still computed: \(kept.map(\.0).joined(separator: ", "))"])
  }

  /// The norms that the modeling file has to compute, by their bare names.
  ///
  /// - Throws: `.unsupported` for one that it cannot: with a gain, or of another kind.
  private func keptNorms(of network: Network) throws(Refusal) -> [(String, Configuration.KeptPath)] {
    var kept: [(String, Configuration.KeptPath)] = []
    for place in network.normPlaces {
      let norms = place.sites.map { network[$0] }
      for norm in norms.compactMap({ $0 }) {
        guard norm.kind == .layer, norm.gain.constantValue == 1, norm.bias == nil, case .computed = norm.deviation
        else {
          throw Refusal(.unsupported, subject: norm.name, "the target \(name) keeps bare LayerNorms only")
        }
      }
      guard let bareName = Layout.gpt2.normName(at: place), norms.contains(where: { $0 != nil }) else { continue }
      let path: Configuration.KeptPath =
        norms.allSatisfy { $0 != nil } ? .all : norms[0] == nil ? .values : .queriesAndKeys
      kept.append((bareName, path))
    }
    return kept
  }

  package func written(in directory: String) throws(Refusal) -> WrittenModel {
    let model = try Model(opening: directory)
    return .network(model.literalNetwork ?? model.network)
  }

  /// Stock GPT-2 with its norms replaced by identities and an unembedding of its own: attention, cache and masks are
  /// the library's.
  static let modelingFile = """
    \"\"\"GPT-2 with its LayerNorms folded into the weights, as NormFold writes it.

    The blocks read the residual stream as it is, and the unembedding has a weight and a bias of its own. Norms that
    could not be folded are named in the config's kept_norms; they have neither gain nor bias.
    \"\"\"

    import torch
    from torch import nn
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.pytorch_utils import Conv1D


    class GPT2FoldedConfig(GPT2Config):
        model_type = "gpt2_folded"


    class PartlyNormalisedConv1D(Conv1D):
        \"\"\"Queries, keys and values of which only some still read a norm.\"\"\"

        def __init__(self, width, epsilon, path):
            super().__init__(3 * width, width)
            self.norm = nn.LayerNorm(width, eps=epsilon, elementwise_affine=False)
            self.path = path

        def forward(self, x):
            normalised = self.norm(x)
            first, last = (x, normalised) if self.path == "values" else (normalised, x)
            split = 2 * self.nx
            return torch.cat([super().forward(first)[..., :split], super().forward(last)[..., split:]], -1)


    class GPT2FoldedLMHeadModel(GPT2LMHeadModel):
        config_class = GPT2FoldedConfig

        def __init__(self, config):
            super().__init__(config)
            kept = getattr(config, "kept_norms", None) or {}

            def norm(name):
                if kept.get(name) != "all":
                    return nn.Identity()
                return nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, elementwise_affine=False)

            for number, block in enumerate(self.transformer.h):
                block.ln_1 = norm(f"h.{number}.ln_1")
                block.ln_2 = norm(f"h.{number}.ln_2")
                path = kept.get(f"h.{number}.ln_1")
                if path in ("values", "queries_keys"):
                    block.attn.c_attn = PartlyNormalisedConv1D(config.n_embd, config.layer_norm_epsilon, path)
            self.transformer.ln_f = norm("ln_f")
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=True)
            self.post_init()

    """
}
