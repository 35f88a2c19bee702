"""Gives converted LLaMAs to transformers, onnxruntime, gguf-py and llama.cpp.

usage: llama.py CONVERTED REFERENCE.safetensors PREFIX [--story MARKDOWN]

CONVERTED holds a directory for each of transformers, llama.cpp and onnxruntime. The stock class of transformers must
load the first without a complaint and compute the reference's logits, all at once, through its cache and behind masked
tokens; onnxruntime likewise. The matrices of the GGUF file must be those of the first, queries and keys with the rows in
llama.cpp's order. Where the file has a tokenizer, llama.cpp must continue a text with the tokens that transformers finds
likeliest in double precision, and give the same log-probabilities; with --story, that text must be in MARKDOWN.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import pathlib
import sys

import gguf
import numpy
import onnxruntime
import torch
from llamacpp_server import serve
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

torch.set_grad_enabled(False)
# llama.cpp sums in float32, in another order; SiLU and softmax are its own.
LOG_PROBABILITY_LIMIT = 2e-4
LENGTH = 120
NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
               "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
               "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
KINDS = {"general.architecture": "STRING", "llama.context_length": "UINT32", "llama.embedding_length": "UINT32",
         "llama.feed_forward_length": "UINT32", "llama.block_count": "UINT32", "llama.attention.head_count": "UINT32",
         "llama.attention.head_count_kv": "UINT32", "llama.attention.key_length": "UINT32",
         "llama.attention.value_length": "UINT32", "llama.rope.dimension_count": "UINT32",
         "llama.rope.freq_base": "FLOAT32", "llama.attention.layer_norm_rms_epsilon": "FLOAT32",
         "llama.vocab_size": "UINT32", "tokenizer.ggml.model": "STRING"}


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def relative(found, expected):
    difference = (found.double() - expected.double()).abs().max() / expected.double().abs().max()
    return float("nan") if torch.isnan(found).any() else difference.item()


def require(what, found, limit):
    if not found <= limit:
        fail(f"{what}: {found:.2e}, limit {limit:.2e}")


def in_transformers(folder, tokens, positions, expected):
    model, info = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        fail(f"the stock class complains: {info}")
    model.eval()
    difference = relative(model(tokens).logits[:, positions], expected)
    require("logits in transformers, double precision", difference, 1e-6)
    single = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    logits = single(tokens).logits
    require("logits in transformers", relative(logits[:, positions], expected), 5e-6)
    past, steps = None, []
    for step in range(12):
        out = single(tokens[:, step : step + 1], past_key_values=past, use_cache=True)
        past = out.past_key_values
        steps.append(out.logits)
    require("through a cache", relative(torch.cat(steps, 1), logits[:, :12]), 5e-6)
    return model, difference


def in_onnxruntime(folder, tokens, positions, expected):
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
    caches = [entry for entry in session.get_inputs() if entry.name.startswith("past_key_values.")]
    outputs = ["logits"] + [entry.name.replace("past_key_values", "present") for entry in caches]

    def run(part, mask, ids, past):
        feed = {"input_ids": part, "attention_mask": mask, "position_ids": ids}
        feed |= {entry.name: value for entry, value in zip(caches, past)}
        return session.run(outputs, feed)

    batch, length = tokens.shape
    empty = [numpy.zeros((batch, entry.shape[1], 0, entry.shape[3]), numpy.float32) for entry in caches]
    ids = numpy.tile(numpy.arange(length), (batch, 1))
    ones = numpy.ones((batch, length), numpy.int64)
    whole = run(tokens.numpy(), ones, ids, empty)[0]
    difference = relative(torch.from_numpy(whole[:, positions.numpy()]), expected)
    require("logits in onnxruntime", difference, 5e-6)
    half = length // 2
    first, *past = run(tokens.numpy()[:, :half], ones[:, :half], ids[:, :half], empty)
    second, *_ = run(tokens.numpy()[:, half:], ones, ids[:, half:], past)
    parts = torch.from_numpy(numpy.concatenate([first, second], 1))
    require("through onnxruntime's cache", relative(parts, torch.from_numpy(whole)), 5e-6)
    zeros = numpy.zeros((batch, 3), numpy.int64)
    padded, *_ = run(numpy.concatenate([zeros, tokens.numpy()], 1), numpy.concatenate([zeros, ones], 1),
                     numpy.concatenate([zeros, ids], 1), empty)
    require("behind masked tokens", relative(torch.from_numpy(padded[:, 3:]), torch.from_numpy(whole)), 5e-6)
    return difference


def in_gguf(path, stored, config):
    """Holds every tensor against the one in safetensors; returns the texts of the tokens, where it has any."""
    reader = gguf.GGUFReader(path)
    for key, kinds in KINDS.items():
        field = reader.fields.get(key)
        found = " ".join(kind.name for kind in field.types) if field else "nothing"
        if found != kinds:
            fail(f"{key}: expected {kinds}, found {found}")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, tensor in stored.items():
        parts = name.removeprefix("model.").split(".")
        if parts[0] == "layers":
            other = f"blk.{parts[1]}.{LAYER_NAMES['.'.join(parts[2:-1])]}.{parts[-1]}"
        else:
            other = f"{NAMES[parts[0]]}.{parts[-1]}"
        values = tensor.float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(parts[-2])
        if heads:
            halves = values.reshape(heads, 2, config.head_dim // 2, -1)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if other not in tensors:
            fail(f"there is no {other}")
        if not numpy.array_equal(tensors.pop(other).data, values):
            fail(f"{other} is not {name}")
    if tensors:
        fail(f"tensors of the GGUF file alone: {sorted(tensors)}")
    field = reader.fields.get("tokenizer.ggml.tokens")
    return field.contents() if field else None


def in_llamacpp(path, model, pieces, story):
    answer = serve(path).handle_completions({"prompt": [1], "max_tokens": LENGTH if story else 48, "temperature": 0,
                                             "logprobs": 4, "ignore_eos": True, "cache_prompt": False})
    if "choices" not in answer:
        fail(f"llama.cpp says {answer}")
    steps = answer["choices"][0]["logprobs"]["content"]
    chosen = [step["id"] for step in steps]
    logits = model(torch.tensor([[1] + chosen[:-1]])).logits[0]
    best, second = logits.topk(2).values.T
    for step, (row, token, lead) in enumerate(zip(logits, chosen, best - second)):
        if lead > 2 * LOG_PROBABILITY_LIMIT and token != row.argmax().item():
            fail(f"token {step}: expected {row.argmax().item()}, which leads by {lead:.3f}, found {token}")
    theirs = torch.tensor([[top["logprob"] for top in step["top_logprobs"]] for step in steps]).double()
    ids = torch.tensor([[top["id"] for top in step["top_logprobs"]] for step in steps])
    found = (theirs - logits.log_softmax(-1).gather(1, ids)).abs().max().item()
    require("log-probabilities in llama.cpp", found, LOG_PROBABILITY_LIMIT)
    text = "".join("\n" if pieces[token] == "<0x0A>" else pieces[token].replace("▁", " ") for token in chosen)
    if story and text.strip() not in pathlib.Path(story).read_text():
        fail(f"llama.cpp tells another story: {text!r}")
    return len(chosen), found


def main():
    folder, reference_path, prefix = sys.argv[1:4]
    story = sys.argv[5] if len(sys.argv) > 5 else None
    reference = load_file(reference_path)
    tokens, positions, expected = reference["tokens"], reference["positions"], reference[prefix + "logits.f64"]
    model, ours = in_transformers(f"{folder}/transformers", tokens, positions, expected)
    theirs = in_onnxruntime(f"{folder}/onnxruntime", tokens, positions, expected)
    stored = load_file(f"{folder}/transformers/model.safetensors")
    pieces = in_gguf(f"{folder}/llama.cpp/model.gguf", stored, model.config)
    line = f"ok  {folder}: {len(stored)} tensors; transformers {ours:.1e}, onnxruntime {theirs:.1e}"
    if pieces:
        count, found = in_llamacpp(f"{folder}/llama.cpp/model.gguf", model, pieces, story)
        line += f"; llama.cpp: {count} tokens the same, log-probabilities to {found:.1e}"
    print(line)


main()
