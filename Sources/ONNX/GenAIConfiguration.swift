import NormFoldFormats
import NormFoldNetworks

extension Network {
  /// `genai_config.json` for onnxruntime-genai, as a plain decoder: its type `gpt2` means a graph whose keys and values
  /// are one tensor. It names sizes, tokens and values of the graph; nothing in it changes what the graph computes.
  ///
  /// - Parameter endOfText: the token that ends a text, where it is known.
  /// - Precondition: there is an attention, and all are alike.
  package func genAIConfiguration(endOfText: Int?) -> JSONValue {
    let (path, attention) = attentions[0]
    let (headCount, headsWidth) = (attention.headCount, width(of: path))
    // It requires the tokens; the first one where there is none that ends a text.
    let end = JSONValue.number(endOfText ?? 0)
    let decoder = JSONValue.object([
      "session_options": .object(["log_id": .string("onnxruntime-genai"), "provider_options": .array([])]),
      "filename": .string(ONNXNames.model), "head_size": .number(headsWidth / headCount),
      "hidden_size": .number(headsWidth),
      "inputs": .object([
        "input_ids": .string("input_ids"), "attention_mask": .string("attention_mask"),
        "position_ids": .string("position_ids"), "past_key_names": .string("past_key_values.%d.key"),
        "past_value_names": .string("past_key_values.%d.value"),
      ]),
      "outputs": .object([
        "logits": .string("logits"), "present_key_names": .string("present.%d.key"),
        "present_value_names": .string("present.%d.value"),
      ]),
      "num_attention_heads": .number(headCount), "num_hidden_layers": .number(blockCount),
      "num_key_value_heads": .number(attention.keyValueHeadCount),
    ])
    let model = JSONValue.object([
      "bos_token_id": end, "context_length": .number(contextLength), "decoder": decoder, "eos_token_id": end,
      "pad_token_id": end, "type": .string("decoder"), "vocab_size": .number(vocabularySize),
    ])
    let search = JSONValue.object([
      "do_sample": .bool(false), "max_length": .number(contextLength), "min_length": .number(0),
      "num_beams": .number(1), "num_return_sequences": .number(1), "past_present_share_buffer": .bool(false),
      "repetition_penalty": .number(1.0), "temperature": .number(1.0), "top_k": .number(1), "top_p": .number(1.0),
    ])
    return .object(["model": model, "search": search])
  }
}
