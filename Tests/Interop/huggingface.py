"""Loads converted checkpoints in Hugging Face transformers and holds their logits against reference logits.

usage: huggingface.py CONVERTED REFERENCE.safetensors PREFIX {transformers,gpt2} [SOURCE]

With SOURCE, the greedy continuation of the converted model must be that of the source (stock class, its epsilon), and
what single precision may cost is also measured on the source, in this process: kernels differ between machines.
Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

torch.set_grad_enabled(False)


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def relative(found, expected):
    difference = (found.double() - expected.double()).abs().max() / expected.double().abs().max()
    return float("nan") if torch.isnan(found).any() else difference.item()


def main():
    folder, reference_path, prefix, target = sys.argv[1:5]
    reference = load_file(reference_path)
    tokens, positions = reference["tokens"], reference["positions"]
    expected = reference[prefix + "logits.f64"]
    single = reference.get(prefix + "logits.f32")

    stored = load_file(f"{folder}/model.safetensors")
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        if "normfold.source.digest" not in (file.metadata() or {}):
            fail("the metadata do not say what made the file")
    norms = [name for name in stored if ".ln_" in name or name.startswith("ln_")]
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    if target == "transformers":
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
        kind = {"rms": "RMSNorm", "crms": "RMSNorm"}.get(config.get("norm_kind"), "LayerNorm")
        modules = [name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")]
        if any(type(model.get_submodule(name)).__name__ != kind for name in modules):
            fail(f"the config says {kind}, the model has {modules}")
        if norms or (modules and "kept_norms" not in config):
            fail(f"norms are left: {norms} {modules}")
        if len(modules) != len(config.get("kept_norms", {})):
            fail(f"the config keeps {config.get('kept_norms')}, the model has {modules}")
    else:
        model, info = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
            fail(f"the stock class complains: {info}")
        if config["n_ctx"] != config["n_positions"]:
            fail("n_ctx is not the context length")
    model.eval()

    source = None
    if len(sys.argv) > 5:
        source = GPT2LMHeadModel.from_pretrained(sys.argv[5], dtype=torch.float32).eval()
    noises = [relative(single, expected)] if single is not None else [0.0]
    if source is not None:
        noises.append(relative(source(tokens).logits[:, positions], expected))
    limit = 2e-6 + 4 * max(noises)

    logits = model(tokens).logits
    difference = relative(logits[:, positions], expected)
    model.double()
    double = relative(model(tokens).logits[:, positions], expected)
    model.float()
    if not (difference <= limit and double <= limit):
        again = relative(model(tokens).logits[:, positions], expected)
        fail(f"logits differ by {difference:.2e}, limit {limit:.2e}; a second time by {again:.2e}, "
             f"in double precision by {double:.2e}; the source by {noises[1:]}")

    # The cache: token by token must give what the whole sequence gives.
    past, steps = None, []
    for step in range(16):
        out = model(tokens[:, step : step + 1], past_key_values=past, use_cache=True)
        past = out.past_key_values
        steps.append(out.logits)
    cached = relative(torch.cat(steps, 1), logits[:, :16])
    if not cached <= limit:
        fail(f"with a cache the logits differ by {cached:.2e}")

    # Left padding under an attention mask must not be seen.
    padded = torch.cat([torch.zeros_like(tokens[:, :5]), tokens[:, :16]], 1)
    mask = torch.cat([torch.zeros_like(tokens[:, :5]), torch.ones_like(tokens[:, :16])], 1)
    ids = (mask.cumsum(1) - 1).clamp(min=0)
    masked = relative(model(padded, attention_mask=mask, position_ids=ids).logits[:, 5:], logits[:, :16])
    if not masked <= limit:
        fail(f"with left padding the logits differ by {masked:.2e}")

    def continuation(net):
        options = dict(max_new_tokens=min(24, config["n_positions"] - 8), do_sample=False, pad_token_id=0, eos_token_id=None)
        return net.generate(tokens[:1, :8], attention_mask=torch.ones_like(tokens[:1, :8]), **options)

    text = continuation(model)
    if source is not None and not torch.equal(text, continuation(source)):
        fail("the greedy continuation is not that of the source")
    print(f"ok  {folder}: logits {difference:.1e}, in double {double:.1e} (limit {limit:.1e}), cache {cached:.1e}, padding {masked:.1e}, "
          f"{text.shape[1] - 8} tokens generated")


main()
