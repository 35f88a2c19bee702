"""Lets transformers' pipeline("text-generation") continue a text, and holds it against greedy steps of the model itself.

usage: pipelines.py DIRECTORY PROMPT

The directory has a tokenizer. Exits with 1 and a message at the first thing that is not as it should be.
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

torch.set_grad_enabled(False)
COUNT = 4


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def main():
    folder, prompt = sys.argv[1:3]
    generate = pipeline("text-generation", model=folder, trust_remote_code=True, dtype=torch.float32)
    found = generate(prompt, max_new_tokens=COUNT, do_sample=False, return_full_text=True)[0]["generated_text"]
    if not found.startswith(prompt):
        fail(f"the text {found!r} does not begin with the prompt")

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for _ in range(COUNT):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        if ids[0, -1].item() in ends:
            break
    expected = tokenizer.decode(ids[0], skip_special_tokens=True)
    if found != expected:
        fail(f"the text is {found!r}, expected {expected!r}")
    print(f"ok  {folder}: pipeline gives {found!r} of {type(model).__name__}")


main()
