"""Takes the norms out of a small GPT-2 by the same steps as PyTorch did, and holds the result against that run, against the
same training without a removal, and in transformers.

usage: removal.py NORMFOLD FIXTURES PLACE

FIXTURES has shakespeare-4x128/vanilla and removal/shakespeare-4x128; PLACE is an empty directory. Exits with 1 and a message at the
first thing that is not as it should be.
"""

import json
import subprocess
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_grad_enabled(False)
normfold, fixtures, place = sys.argv[1:4]
reference = f"{fixtures}/removal/shakespeare-4x128"
source = f"{fixtures}/shakespeare-4x128/vanilla"


def fail(message):
    sys.exit(f"FAILED removal of shakespeare-4x128: {message}")


def remove(name, *options):
    """Returns the log of a run, step by step."""
    log = f"{place}/{name}.jsonl"
    subprocess.run(
        [normfold, "remove", source, f"{place}/{name}", "--tokens", f"{reference}/tokens.bin", "--recipe",
         f"{reference}/settings.json", "--log", log, "--for", "transformers", "--quiet", *options],
        check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in open(log)]


def mean_of_last(steps):
    return sum(step["loss"] for step in steps[-20:]) / 20


expected = json.load(open(f"{reference}/run.json"))["steps"]
double = remove("double", "--precision", "double")
if len(double) != len(expected):
    fail(f"{len(double)} steps, expected {len(expected)}")
for found, step in zip(double, expected):
    if found["fixed"] != step["fixed"]:
        fail(f"step {step['step']} fixes {found['fixed']}, expected {step['fixed']}")
    for key in ("loss", "gradient_norm"):
        if not abs(found[key] - step[key]) <= 1e-10 * max(1, abs(step[key])):
            fail(f"{key} of step {step['step']} is {found[key]}, expected {step[key]}")
logits = load_file(f"{reference}/logits.safetensors")
model = AutoModelForCausalLM.from_pretrained(f"{place}/double", trust_remote_code=True, dtype=torch.float64)
found = model(logits["tokens"]).logits[:, logits["positions"].long()]
difference = ((found - logits["logits"]).abs().max() / logits["logits"].abs().max()).item()
# What was written is single precision.
if not difference <= 1e-5:
    fail(f"logits of the result are {difference:.1e} of the largest from those of the reference")

# In single precision, as a user runs it.
single = remove("single")
for found, step in zip(single, expected):
    if not abs(found["loss"] - step["loss"]) <= 1e-5 * step["loss"]:
        fail(f"loss of step {step['step']} is {found['loss']} in single precision, expected {step['loss']}")
control = remove("control", "--no-removal")
price = mean_of_last(single) - mean_of_last(control)
if not price <= 0.05:
    fail(f"the last 20 steps lose {price:.4f} nats more than the control run")

folder = f"{place}/single"
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
norms = [name for name, module in model.named_modules() if "norm" in type(module).__name__.lower()]
if norms:
    fail(f"the result still has norms: {norms}")
start = logits["tokens"][:, :8]
ids = start
for _ in range(8):
    ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
generated = model.generate(start, max_new_tokens=8, do_sample=False, pad_token_id=0)
if not torch.equal(generated, ids[:, : generated.shape[1]]):
    fail(f"generate gives {generated.tolist()}, expected {ids.tolist()}")
print(
    f"ok  shakespeare-4x128: {len(double)} steps to 1e-10, logits to {difference:.1e}, "
    f"{price:.3f} nats more than the control run, generates in transformers")
