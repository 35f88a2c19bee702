extension ModelingFile {
  /// Decoders of torchscale and fairseq, whose branches have norms inside, which no class of transformers computes.
  static let torchscale = ModelingFile(
    module: "modeling_torchscale", configurationClass: "TorchscaleConfig", modelClass: "TorchscaleForCausalLM",
    text: decoder(
      of: "torchscale's Sub-LN (arXiv 2210.06423)", prefix: "Torchscale", modelType: "torchscale", innerNorms: "subln"))

  static let normFormer = ModelingFile(
    module: "modeling_normformer", configurationClass: "NormFormerConfig", modelClass: "NormFormerForCausalLM",
    text: decoder(
      of: "NormFormer (arXiv 2110.09456)", prefix: "NormFormer", modelType: "normformer", innerNorms: "scale_fc"))

  /// - Parameters:
  ///   - system: whose norms they are.
  ///   - prefix: of the names of the classes.
  ///   - innerNorms: the key that says whether the MLP has a norm inside.
  private static func decoder(of system: String, prefix: String, modelType: String, innerNorms: String) -> String {
    """
    \"\"\"A decoder with norms inside its branches, as NormFold writes it: \(system).

    Tensors have the names of torchscale, and keys of the config its own or fairseq's. Beyond them the unembedding may have a bias
    (output_projection_bias), which is where the bias of a folded last norm goes, and all norms may be folded (has_norms).
    \"\"\"

    import torch
    from torch import nn
    from torch.nn import functional as F
    from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.activations import ACT2FN
    from transformers.modeling_outputs import CausalLMOutputWithPast


    class \(prefix)Config(PretrainedConfig):
        model_type = "\(modelType)"
        attribute_map = {
            "hidden_size": "decoder_embed_dim",
            "num_hidden_layers": "decoder_layers",
            "num_attention_heads": "decoder_attention_heads",
            "max_position_embeddings": "max_target_positions",
        }


    def layer_norm(config, width, is_there=True):
        return nn.LayerNorm(width, eps=config.layernorm_eps) if is_there and config.has_norms else nn.Identity()


    class Attention(nn.Module):
        def __init__(self, config, number):
            super().__init__()
            width = config.decoder_embed_dim
            self.number = number
            self.heads = config.decoder_attention_heads
            self.q_proj = nn.Linear(width, width)
            self.k_proj = nn.Linear(width, width)
            self.v_proj = nn.Linear(width, width)
            self.inner_attn_ln = layer_norm(config, width, getattr(config, "subln", False))
            self.out_proj = nn.Linear(width, width)

        def forward(self, x, visible, cache):
            query, key, value = (
                proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
            )
            if cache is not None:
                key, value = cache.update(key, value, self.number)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
            return self.out_proj(self.inner_attn_ln(mixed.transpose(1, 2).flatten(2)))


    class FeedForward(nn.Module):
        def __init__(self, config):
            super().__init__()
            width, hidden = config.decoder_embed_dim, config.decoder_ffn_embed_dim
            self.fc1 = nn.Linear(width, hidden)
            self.activation = ACT2FN[config.activation_fn]
            self.ffn_layernorm = layer_norm(config, hidden, config.\(innerNorms))
            self.fc2 = nn.Linear(hidden, width)

        def forward(self, x):
            return self.fc2(self.ffn_layernorm(self.activation(self.fc1(x))))


    class Layer(nn.Module):
        def __init__(self, config, number):
            super().__init__()
            width = config.decoder_embed_dim
            self.self_attn_layer_norm = layer_norm(config, width)
            self.self_attn = Attention(config, number)
            self.attn_ln = layer_norm(config, width, getattr(config, "scale_attn", False))
            self.final_layer_norm = layer_norm(config, width)
            self.ffn = FeedForward(config)
            self.w_resid = nn.Parameter(torch.ones(width)) if getattr(config, "scale_resids", False) else None

        def forward(self, x, visible, cache):
            x = x + self.attn_ln(self.self_attn(self.self_attn_layer_norm(x), visible, cache))
            kept = x if self.w_resid is None else self.w_resid * x
            return kept + self.ffn(self.final_layer_norm(x))


    class \(prefix)ForCausalLM(PreTrainedModel, GenerationMixin):
        config_class = \(prefix)Config
        _no_split_modules = ["Layer"]
        _supports_sdpa = True

        def __init__(self, config):
            super().__init__(config)
            width = config.decoder_embed_dim
            self.embed_tokens = nn.Embedding(config.vocab_size, width)
            self.embed_positions = None
            if not config.no_token_positional_embeddings:
                # Two rows stand before that of the first position.
                self.embed_positions = nn.Embedding(config.max_target_positions + 2, width)
            self.layernorm_embedding = layer_norm(config, width, config.layernorm_embedding)
            self.layers = nn.ModuleList(Layer(config, number) for number in range(config.decoder_layers))
            self.layer_norm = layer_norm(config, width, not getattr(config, "no_decoder_final_norm", False))
            self.output_projection = None
            if not config.share_decoder_input_output_embed:
                self.output_projection = nn.Linear(width, config.vocab_size, bias=config.output_projection_bias)
            self.post_init()

        def _init_weights(self, module):
            pass

        def get_input_embeddings(self):
            return self.embed_tokens

        def forward(
            self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, cache=None, use_cache=None,
            return_dict=None, **unused
        ):
            # The name that transformers gives to what it kept has changed.
            past_key_values = cache if past_key_values is None else past_key_values
            past = past_key_values.get_seq_length() if past_key_values is not None else 0
            if use_cache and past_key_values is None:
                past_key_values = DynamicCache()
            count, whole = input_ids.shape[1], past + input_ids.shape[1]
            # Keys up to the query's own, and of them those that the mask shows; a masked query sees itself.
            visible = torch.ones(count, whole, dtype=torch.bool, device=input_ids.device).tril(past)
            if attention_mask is not None:
                itself = torch.eye(whole, dtype=torch.bool, device=input_ids.device)[past:]
                visible = visible & attention_mask[:, None, None, :whole].bool() | itself
            x = self.embed_tokens(input_ids)
            if self.embed_positions is not None:
                if position_ids is None:
                    if attention_mask is None:
                        position_ids = torch.arange(past, whole, device=input_ids.device)[None]
                    else:
                        position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:whole]
                x = x + self.embed_positions(position_ids + 2)
            x = self.layernorm_embedding(x)
            for layer in self.layers:
                x = layer(x, visible, past_key_values)
            x = self.layer_norm(x)
            head = self.output_projection
            logits = head(x) if head is not None else F.linear(x, self.embed_tokens.weight)
            return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    """
  }
}
