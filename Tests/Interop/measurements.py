"""Holds what normfold measures on a text against PyTorch and transformers.

usage: measurements.py NORMFOLD FAMILY WORK
FAMILY has vanilla, fakeln, lnfree, tokenizer and measured/passage.txt; WORK is an empty folder.

Losses of a source and of what it was converted to, deviations at the norms, attention entropies and sinks, residual
norms, greedy continuations. Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

torch.set_grad_enabled(False)
normfold, family, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
passage = family / "measured" / "passage.txt"
ids = Tokenizer.from_file(str(family / "tokenizer" / "tokenizer.json")).encode(passage.read_text()).ids


def fail(message):
    sys.exit(f"FAILED measurements: {message}")


def run(*arguments):
    return subprocess.run([normfold, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def measure(command, model, *arguments):
    text = ["--text", passage, "--tokenizer", family / "tokenizer", "--json"]
    return json.loads(run(command, model, *text, *arguments))


def agree(what, found, expected, digits):
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if found.shape != expected.shape:
        fail(f"{what}: expected shape {expected.shape}, found {found.shape}")
    difference = np.abs(found - expected).max()
    # NaN is within nothing.
    if not difference <= 10.0**-digits * np.abs(expected).max():
        fail(f"{what}: differs by {difference:.2e} of {np.abs(expected).max():.4g}")


def same_loss(what, found, expected):
    if not round(found - expected, 5) == 0:
        fail(f"{what}: expected a loss of {expected:.6f}, found {found:.6f}")


def stock(folder):
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


vanilla = stock(family / "vanilla")
context = vanilla.config.n_positions
chunks = torch.tensor(ids[: len(ids) // context * context]).view(-1, context)

# Losses: the source's, and those of what it becomes, in the hands of transformers and in ours.
losses = {}
for source in ("lnfree", "fakeln"):
    losses[source] = measure("eval", family / source)["loss"]["mean"]
    run("convert", family / source, work / source, "--for", "transformers", "gpt2", "--quiet")
    for target in ("transformers", "gpt2"):
        folder = work / source / target
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
        same_loss(f"{source} as {target}", losses[source], model(chunks, labels=chunks).loss.item())
        same_loss(f"{source} as {target}, read back", measure("eval", folder)["loss"]["mean"], losses[source])
losses["vanilla"] = measure("eval", family / "vanilla")["loss"]["mean"]
same_loss("vanilla", losses["vanilla"], vanilla(chunks, labels=chunks).loss.item())
same_loss("lnfree", losses["lnfree"], stock(family / "lnfree")(chunks, labels=chunks).loss.item())

# Deviations.
double = vanilla.double()
inputs = {}


def record(name):
    return lambda module, arguments: inputs.__setitem__(name, arguments[0])


for i, block in enumerate(double.transformer.h):
    block.ln_1.register_forward_pre_hook(record(f"blocks.{i}.hook_resid_pre"))
    block.ln_2.register_forward_pre_hook(record(f"blocks.{i}.hook_resid_mid"))
double.transformer.ln_f.register_forward_pre_hook(record(f"blocks.{i}.hook_resid_post"))
out = double(chunks, output_attentions=True, output_hidden_states=True)
states = list(out.hidden_states[:-1]) + [inputs[f"blocks.{i}.hook_resid_post"]]
calibration = measure("calibrate", family / "vanilla", "-o", work / "deviations.json")
written = json.loads((work / "deviations.json").read_text())
for site in calibration["sites"]:
    x = inputs[site["key"]]
    for part, rows, table in (("usual", x[:, 1:], "std_dict"), ("first", x[:, :1], "std_bos_dict")):
        sigma = (rows.var(-1, unbiased=False) + vanilla.config.layer_norm_epsilon).sqrt().flatten()
        expected = [sigma.mean(), sigma.min(), sigma.max(), (rows - rows.mean(-1, keepdim=True)).std()]
        found = [site[part][key] for key in ("mean", "smallest", "largest", "pooled")]
        agree(f"{site['key']}, {part}", found, expected, 6)
        agree(f"{site['key']}, {part}, spread", site[part]["standardDeviation"], sigma.std(), 5)
        agree(f"{table}.{site['key']}", written[table][site["key"]], sigma.mean(), 6)

# Norms that were fixed to them: the loss that eval announces is that of the converted model.
run("convert", family / "vanilla", work / "fixed", "--for", "gpt2", "--deviations", work / "deviations.json", "--quiet")
announced = measure("eval", family / "vanilla", "--deviations", work / "deviations.json", "--compare", family / "vanilla")
same_loss("vanilla, fixed", announced["loss"]["mean"], stock(work / "fixed")(chunks, labels=chunks).loss.item())

# Attention and the residual stream.
diagnosis = measure("diagnose", family / "vanilla")
attention = torch.stack(out.attentions)
sink = attention[..., 0]
agree("entropy", diagnosis["attention"]["entropy"], -torch.xlogy(attention, attention).sum(-1).mean((1, 3)), 6)
agree("attention on position 0", diagnosis["attention"]["sinkAttention"], sink.mean((1, 3)), 6)
agree("sink rate", diagnosis["attention"]["sinkRate"], (sink.mean((1, 3)) >= 0.3).double().mean(), 6)
norms = torch.stack([state.norm(dim=-1) for state in states])
ranges = [(r["first"], r["last"] + 1) for r in diagnosis["residual"]["positions"]]
agree("norms", diagnosis["residual"]["meanNorm"], [[n[:, a:b].mean() for a, b in ranges] for n in norms], 6)
agree("largest norms", diagnosis["residual"]["largestNorm"], [[n[:, a:b].max() for a, b in ranges] for n in norms], 6)

# Continuations.
prompt = torch.tensor([ids[:12]])
options = dict(max_new_tokens=context - 12, do_sample=False, pad_token_id=0, eos_token_id=None)
for folder in (family / "vanilla", family / "lnfree", work / "lnfree" / "gpt2", work / "fakeln" / "gpt2"):
    expected = stock(folder).generate(prompt, attention_mask=torch.ones_like(prompt), **options)[0, 12:].tolist()
    arguments = ["--prompt-tokens", ",".join(map(str, ids[:12])), "--max-tokens", context, "--ignore-eot", "--json"]
    if json.loads(run("generate", folder, *arguments))["tokens"] != expected:
        fail(f"the greedy continuation of {folder} is not that of transformers")
print(f"ok  measurements: losses {', '.join(f'{name} {loss:.5f}' for name, loss in losses.items())}, "
      f"fixed {announced['loss']['mean']:.5f}, {len(calibration['sites'])} deviations, {attention.shape[0]} × "
      f"{attention.shape[2]} heads, 4 continuations of {context - 12} tokens")
