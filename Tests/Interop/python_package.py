"""Converts and loads through the Python package, and holds what is loaded against reference logits.

usage: python_package.py CHECKPOINT REFERENCE.safetensors PREFIX TOKENIZER DIRECTORY LIBRARY

LIBRARY is transformers or transformer_lens, and must be installed. What was written for every target that can be loaded is loaded as
it, also what was written for the other library. The package runs the program that NORMFOLD names.
"""

import pathlib
import sys

# The scripts beside this one have the names of packages.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).parent]

import torch
from safetensors.torch import load_file

import normfold

torch.set_grad_enabled(False)
TARGETS = ["transformers", "gpt2", "transformer-lens"]


def fail(message):
    sys.exit(f"FAILED normfold: {message}")


def expected_class(library, target):
    """What a network of GPT-2 is loaded as."""
    if library == "transformers":
        return {"gpt2": "GPT2LMHeadModel"}.get(target, "GPT2FoldedLMHeadModel")
    from importlib.metadata import version

    return "HookedTransformer" if int(version("transformer_lens").split(".")[0]) < 4 else "TransformerBridge"


def logits(model, tokens):
    found = model(tokens)
    return found.logits if hasattr(found, "logits") else found


def main():
    source, reference_path, prefix, tokenizer, place, library = sys.argv[1:7]
    reference = load_file(reference_path)
    tokens, positions = reference["tokens"], reference["positions"]
    expected = reference[prefix + "logits.f64"]
    largest = expected.abs().max()
    single = ((reference[prefix + "logits.f32"].double() - expected).abs().max() / largest).item()
    report = normfold.convert(source, place, targets=TARGETS, tokenizer=tokenizer)
    if not report.holds or [output.target for output in report.outputs] != TARGETS:
        fail(f"{report.outputs}")
    for output in report.outputs:
        model = normfold.load(output.directory, as_=library)
        name = type(model).__name__
        if name != expected_class(library, output.target):
            fail(f"{output.target}: loaded as {name}, expected {expected_class(library, output.target)}")
        difference = ((logits(model, tokens)[:, positions].double() - expected).abs().max() / largest).item()
        if not difference <= 2e-6 + 4 * single:
            fail(f"{output.target}: logits differ by {difference:.2e}")
        # A bridge around the stock class has its near-identities.
        norms = [part for part, module in model.named_modules() if "LayerNorm" in type(module).__name__]
        if output.is_norm_free and norms:
            fail(f"{output.target}: norms are left: {norms}")
        if library == "transformer_lens":
            lens(model, output.target)
        print(f"ok  normfold.load, {output.target} as {library}: {name}, logits {difference:.1e}")
    by_default = normfold.load(report.outputs[TARGETS.index("transformer-lens" if library != "transformers" else "gpt2")].directory)
    if type(by_default).__name__ != expected_class(library, "gpt2"):
        fail(f"by default loaded as {type(by_default).__name__}")
    try:
        normfold.load(report.outputs[0].directory, as_="tensorflow")
    except ValueError as error:
        if "'tensorflow'" not in str(error):
            fail(f"{error}")
    else:
        fail("loaded as tensorflow")


def lens(model, target):
    """What TransformerLens is for: text in, activations out."""
    text = "To be, or not"
    found, cache = model.run_with_cache(text)
    if "blocks.0.hook_resid_post" not in cache:
        fail(f"{target}: no residual stream in the cache")
    tokens = model.to_tokens(text)
    if not torch.equal(logits(model, tokens), found):
        fail(f"{target}: text and its tokens give different logits")


main()
