import Formats
import Networks

/// Hugging Face transformers by way of a modeling file of ours, which `AutoModelForCausalLM` loads with
/// `trust_remote_code=True`. No norm is left.
package struct TransformersTarget: Target {
  package init() {}

  package var name: String { "transformers" }
  package var summary: String { "AutoModelForCausalLM with trust_remote_code; no norms" }
  package var types: [ElementType] { [.f32, .bf16, .f16] }
  package func keptSites(of network: Network) -> Set<NormSite> { [] }

  package func leavesNorms(_ network: Network) -> Bool { !network.norms.isEmpty }

  package func output(of network: Network, from model: Model, type: ElementType) throws(Refusal) -> TargetOutput {
    let module = "modeling_gpt2_lnfree"
    let head: KeyValuePairs<String, JSONValue> = [
      "architectures": .array([.string("GPT2LNFreeLMHeadModel")]),
      "auto_map": .object([
        "AutoConfig": .string("\(module).GPT2LNFreeConfig"),
        "AutoModelForCausalLM": .string("\(module).GPT2LNFreeLMHeadModel"),
      ]),
      "model_type": .string("gpt2_lnfree"),
    ]
    let configuration = model.gpt2Configuration(of: network, head: head, epsilon: nil, isTied: false, type: type)
    var parameters = Layout.gpt2.parameters(of: network).map { name, value in
      TargetOutput.StoredParameter(
        name: name.hasPrefix("lm_head.") ? name : "transformer." + name, value: value, type: type)
    }
    if network.unembedding.bias == nil {
      // The class always has one.
      let zeros = Parameter.constant(0, shape: [network.dimensions.vocabularySize])
      parameters.append(.init(name: "lm_head.bias", value: zeros, type: type))
    }
    let infos = parameters.map(\.info)
    return TargetOutput(
      fileName: "model.safetensors", parameters: parameters,
      writer: { (path, metadata) throws(Refusal) in
        try SafetensorsWriter(
          creating: path, tensors: infos, metadata: metadata.merging(["format": "pt"]) { $1 })
      },
      sideFiles: try model.carriedFiles() + [
        ("config.json", Array(configuration.text.utf8)), ("\(module).py", Array(Self.modelingFile.utf8)),
      ],
      notes: [])
  }

  package func written(in directory: String) throws(Refusal) -> Network { try Model(opening: directory).network }

  /// Stock GPT-2 with its norms replaced by identities and an unembedding of its own: attention, cache and masks are
  /// the library's.
  static let modelingFile = """
    \"\"\"GPT-2 without LayerNorms, as NormFold writes it.

    Each norm's fixed scale and bias are folded into the weights that read it, so the blocks read the residual stream
    as it is, and the unembedding has a weight and a bias of its own.
    \"\"\"

    from torch import nn
    from transformers import GPT2Config, GPT2LMHeadModel


    class GPT2LNFreeConfig(GPT2Config):
        model_type = "gpt2_lnfree"


    class GPT2LNFreeLMHeadModel(GPT2LMHeadModel):
        config_class = GPT2LNFreeConfig

        def __init__(self, config):
            super().__init__(config)
            for block in self.transformer.h:
                block.ln_1 = nn.Identity()
                block.ln_2 = nn.Identity()
            self.transformer.ln_f = nn.Identity()
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=True)
            self.post_init()

    """
}
