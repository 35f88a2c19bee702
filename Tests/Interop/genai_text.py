"""Loads what was written for onnxruntime in onnxruntime-genai, with its tokenizer, and holds the text that it continues a prompt by
against NormFold's.

usage: genai_text.py NORMFOLD DIRECTORY MODEL PROMPT

DIRECTORY was written for onnxruntime, with a tokenizer, from MODEL. Exits with 1 and a message at the first thing that is not as it
should be.
"""

import json
import subprocess
import sys

import onnxruntime_genai

COUNT = 24


def fail(message):
    sys.exit(f"FAILED {sys.argv[2]}: {message}")


def main():
    normfold, folder, source, prompt = sys.argv[1:5]
    command = [normfold, "generate", source, "--tokenizer", folder, "--prompt", prompt, "-n", str(COUNT), "--json"]
    expected = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    model = onnxruntime_genai.Model(folder)
    tokenizer = onnxruntime_genai.Tokenizer(model)
    ids = [int(id) for id in tokenizer.encode(prompt)]
    if ids != expected["promptTokens"]:
        fail(f"the prompt has the ids {ids}, expected {expected['promptTokens']}")
    settings = onnxruntime_genai.GeneratorParams(model)
    settings.set_search_options(max_length=len(ids) + COUNT, do_sample=False)
    generator = onnxruntime_genai.Generator(model, settings)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    found = [int(id) for id in generator.get_sequence(0)][len(ids):]
    if found != expected["tokens"]:
        fail(f"continues by {found}, expected {expected['tokens']}")
    text = tokenizer.decode(found)
    if text != expected["text"]:
        fail(f"continues by {text!r}, expected {expected['text']!r}")
    print(f"ok  {folder}: onnxruntime-genai continues {prompt!r} by {text!r}")


main()
