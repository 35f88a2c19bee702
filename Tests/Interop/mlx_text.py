"""Loads what was written for stock GPT-2 in mlx-lm, and holds the text that it continues a prompt by against NormFold's.

usage: mlx_text.py NORMFOLD DIRECTORY PROMPT

DIRECTORY was written for gpt2, with a tokenizer. Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import subprocess
import sys
import tempfile

import mlx.core as mx
from mlx_lm import convert, generate, load

COUNT = 24


def fail(message):
    sys.exit(f"FAILED {sys.argv[2]}: {message}")


def greedy(model, ids, end):
    """The most likely token, again and again up to the one that ends a text, and how clear the closest choice was, in logits."""
    found, margin = list(ids), float("inf")
    for _ in range(COUNT):
        logits = model(mx.array([found]))[0, -1]
        best = mx.sort(logits)[-2:].tolist()
        margin = min(margin, best[1] - best[0])
        token = int(mx.argmax(logits))
        if token == end:
            break
        found.append(token)
    return found[len(ids):], margin


def main():
    normfold, folder, prompt = sys.argv[1:4]
    run = subprocess.run(
        [normfold, "generate", folder, "--prompt", prompt, "-n", str(COUNT), "--json"], capture_output=True, text=True, check=True)
    expected = json.loads(run.stdout)
    model, tokenizer = load(folder)
    ids = tokenizer.encode(prompt)
    if ids != expected["promptTokens"]:
        fail(f"the prompt has the ids {ids}, expected {expected['promptTokens']}")
    found, margin = greedy(model, ids, tokenizer.eos_token_id)
    if found != expected["tokens"] or margin < 1e-3:
        fail(f"continues by {found} (margin {margin:.1e}), expected {expected['tokens']}")
    text = generate(model, tokenizer, prompt=prompt, max_tokens=COUNT)
    # mlx-lm leaves out the space that a continuation begins with.
    if text != expected["text"].removeprefix(" "):
        fail(f"continues by {text!r}, expected {expected['text']!r}")
    # Its own quantiser takes the file.
    with tempfile.TemporaryDirectory() as place:
        convert(folder, f"{place}/q8", quantize=True, q_bits=8, q_group_size=64)
        quantised, _ = load(f"{place}/q8")
        if not greedy(quantised, ids, None)[0]:
            fail("quantised to 8 bits it says nothing")
    print(f"ok  {folder}: mlx-lm continues {prompt!r} by {text!r}, the closest choice by {margin:.2f}")


main()
