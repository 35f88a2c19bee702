"""Loads a converted decoder in the stock class of Hugging Face transformers and holds its logits against reference logits.

usage: stock_class.py CONVERTED REFERENCE.safetensors PREFIX CLASS [--code] [--stock]

AutoModelForCausalLM must choose CLASS, without code beside the weights unless --code says that there is some, and without a
complaint about a tensor. With --stock the reference is what transformers computes as it comes (`logits.stock`), where that differs from
double precision by more than the limit. Greedy text must come out of it. In double precision, in single precision, token by token through the cache and behind masked tokens, it must compute the reference's
logits.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_grad_enabled(False)
# The classes compute rotary tables in float32 whatever the weights are.
LIMITS = {torch.float64: 1e-6, torch.float32: 5e-6}


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def relative(found, expected):
    difference = (found.double() - expected.double()).abs().max() / expected.double().abs().max()
    return float("nan") if torch.isnan(found).any() else difference.item()


def require(what, found, limit):
    if not found <= limit:
        fail(f"{what}: {found:.2e}, limit {limit:.2e}")
    return found


def main():
    folder, reference_path, prefix, name = sys.argv[1:5]
    reference = load_file(reference_path)
    tokens, positions, expected = reference["tokens"], reference["positions"], reference[prefix + ("logits.stock" if "--stock" in sys.argv else "logits.f64")]
    found = {}
    for type, limit in LIMITS.items():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=type, output_loading_info=True,
            # With capped scores there is no other.
            attn_implementation="eager" if name.startswith("Gemma2") else "sdpa",
            trust_remote_code="--code" in sys.argv)
        if any(info.values()):
            fail(f"the stock class complains: {info}")
        if model.__class__.__name__ != name:
            fail(f"expected {name}, found {model.__class__.__name__}")
        model.eval()
        logits = model(tokens).logits
        found[type] = require(f"logits in {type}", relative(logits[:, positions], expected), limit)

    past, steps = None, []
    for step in range(16):
        out = model(tokens[:, step : step + 1], past_key_values=past, use_cache=True)
        past = out.past_key_values
        steps.append(out.logits)
    require("through a cache", relative(torch.cat(steps, 1), logits[:, :16]), 5e-6)

    padded = torch.cat([torch.zeros_like(tokens[:, :5]), tokens[:, :16]], 1)
    mask = torch.cat([torch.zeros_like(tokens[:, :5]), torch.ones_like(tokens[:, :16])], 1)
    # Rotary positions do not feel a shift; positions in a table are counted from the mask.
    masked = relative(model(padded, attention_mask=mask).logits[:, 5:], logits[:, :16])
    require("behind masked tokens", masked, 5e-6)

    begin = tokens[:1, :8]
    options = dict(max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
    text = model.generate(begin, attention_mask=torch.ones_like(begin), **options)
    for place in range(8, 16):
        if text[0, place] != model(text[:, :place]).logits[0, -1].argmax():
            fail(f"generates {text[0].tolist()}")
    print(f"ok  {folder}: {name}, logits {found[torch.float32]:.1e}, in double {found[torch.float64]:.1e}")


main()
