extension ModelingFile {
  /// RetNets of XATL, which no class of transformers computes, with the formulas that they were trained with.
  static let retNet = ModelingFile(
    module: "modeling_retnet", configurationClass: "RetNetConfig", modelClass: "RetNetForCausalLM",
    text: """
      \"\"\"A RetNet of XATL (arXiv 2404.02684), as NormFold writes it.

      Tensors and keys of the config have the names of that work's class. Beyond them all norms but those of the heads may be folded
      (has_norms), and a LayerNorm of the heads has a bias whatever use_bias says.
      \"\"\"

      import torch
      from torch import nn
      from torch.nn import functional as F
      from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
      from transformers.activations import ACT2FN
      from transformers.modeling_outputs import CausalLMOutputWithPast


      class RetNetConfig(PretrainedConfig):
          model_type = "retnet"
          attribute_map = {
              "hidden_size": "decoder_embed_dim",
              "num_hidden_layers": "decoder_layers",
              "num_attention_heads": "decoder_retention_heads",
          }


      def layer_norm(config, width, is_there=True):
          return nn.LayerNorm(width, eps=config.layernorm_eps) if is_there and config.has_norms else nn.Identity()


      def turned(x, cosines, sines):
          # Pairs of neighbours; features behind the last pair stay as they are.
          width = 2 * cosines.shape[-1]
          first, second = x[..., :width].unflatten(-1, (-1, 2)).unbind(-1)
          pairs = torch.stack([first * cosines - second * sines, second * cosines + first * sines], -1)
          return torch.cat([pairs.flatten(-2), x[..., width:]], -1)


      class Retention(nn.Module):
          def __init__(self, config, number):
              super().__init__()
              width = config.decoder_embed_dim
              self.number, self.heads, self.eps = number, config.decoder_retention_heads, config.layernorm_eps
              for name in ("q_proj", "k_proj", "v_proj", "g_proj", "out_proj"):
                  setattr(self, name, nn.Linear(width, width, bias=config.use_bias))
              self.group_norm = None
              if config.groupnorm_affine:
                  self.group_norm = nn.LayerNorm(width // self.heads, eps=config.layernorm_eps)

          def forward(self, x, angles, decays, cache):
              query, key, value = (
                  proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
              )
              query, key = turned(query, *angles), turned(key, *angles)
              if cache is not None:
                  key, value = cache.update(key, value, self.number)
              weights = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 * decays
              mixed = (weights @ value).transpose(1, 2)
              if self.group_norm is None:
                  mixed = mixed * torch.rsqrt(mixed.square().mean(-1, keepdim=True) + self.eps)
              else:
                  mixed = self.group_norm(mixed)
              return self.out_proj(F.silu(self.g_proj(x)) * mixed.flatten(2))


      class FeedForward(nn.Module):
          def __init__(self, config):
              super().__init__()
              self.fc1 = nn.Linear(config.decoder_embed_dim, config.decoder_ffn_embed_dim)
              self.activation = ACT2FN[config.activation_fn]
              self.fc2 = nn.Linear(config.decoder_ffn_embed_dim, config.decoder_embed_dim)

          def forward(self, x):
              return self.fc2(self.activation(self.fc1(x)))


      class Layer(nn.Module):
          def __init__(self, config, number):
              super().__init__()
              width = config.decoder_embed_dim
              self.is_parallel = config.parallel_residual
              self.retention_layer_norm = layer_norm(config, width)
              self.retention = Retention(config, number)
              self.final_layer_norm = layer_norm(config, width)
              self.ffn = FeedForward(config)

          def forward(self, x, angles, decays, cache):
              y = x + self.retention(self.retention_layer_norm(x), angles, decays, cache)
              return y + self.ffn(self.final_layer_norm(x if self.is_parallel else y))


      class RetNetModel(nn.Module):
          def __init__(self, config):
              super().__init__()
              width = config.decoder_embed_dim
              self.embed_tokens = nn.Embedding(config.vocab_size, width)
              self.layernorm_embedding = layer_norm(config, width, config.layernorm_embedding)
              self.layers = nn.ModuleList(Layer(config, number) for number in range(config.decoder_layers))
              self.layer_norm = layer_norm(config, width)


      class RetNetForCausalLM(PreTrainedModel, GenerationMixin):
          config_class = RetNetConfig
          _no_split_modules = ["Layer"]
          # There is no attention, so that any implementation of it will do.
          _supports_sdpa = True

          def __init__(self, config):
              super().__init__(config)
              self.model = RetNetModel(config)
              self.lm_head = None
              if not config.tie_word_embeddings:
                  self.lm_head = nn.Linear(config.decoder_embed_dim, config.vocab_size, bias=config.lm_head_bias)
              self.post_init()

          def _init_weights(self, module):
              pass

          def get_input_embeddings(self):
              return self.model.embed_tokens

          def angles(self, position_ids, dtype):
              heads, share = self.config.decoder_retention_heads, self.config.rotary_percentage
              pairs = int(share * (self.config.decoder_embed_dim // heads)) // 2
              steps = 10000.0 ** -torch.linspace(0, 1, pairs, device=position_ids.device)
              angles = (position_ids[..., None] * steps)[:, None]  # [B, 1, S, pairs]
              return angles.cos().to(dtype), angles.sin().to(dtype)

          def decays(self, past, whole, attention_mask, like):
              heads = torch.arange(self.config.decoder_retention_heads, device=like.device)
              factors = (1 - 2.0 ** (-5.0 - heads))[:, None, None]
              tokens = torch.arange(whole, device=like.device)
              steps = tokens[past:, None] - tokens  # [S, K]
              decays = torch.where(steps < 0, 0, factors ** steps.clamp(min=0))[None]  # [1, H, S, K]
              if attention_mask is not None:
                  decays = decays * attention_mask[:, None, None, :whole]
              return decays.to(like.dtype)

          def forward(
              self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, cache=None, use_cache=None,
              return_dict=None, **unused
          ):
              # The name that transformers gives to what it kept has changed.
              past_key_values = cache if past_key_values is None else past_key_values
              past = past_key_values.get_seq_length() if past_key_values is not None else 0
              if use_cache and past_key_values is None:
                  past_key_values = DynamicCache()
              whole = past + input_ids.shape[1]
              if position_ids is None:
                  if attention_mask is None:
                      position_ids = torch.arange(past, whole, device=input_ids.device)[None]
                  else:
                      position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:whole]
              x = self.model.layernorm_embedding(self.model.embed_tokens(input_ids))
              angles, decays = self.angles(position_ids, x.dtype), self.decays(past, whole, attention_mask, x)
              for layer in self.model.layers:
                  x = layer(x, angles, decays, past_key_values)
              x = self.model.layer_norm(x)
              logits = self.lm_head(x) if self.lm_head is not None else F.linear(x, self.model.embed_tokens.weight)
              return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

      """)
}
