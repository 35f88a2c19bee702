"""Converts and loads through the Python package, and holds what is loaded against reference logits.

usage: python_package.py CHECKPOINT REFERENCE.safetensors PREFIX DIRECTORY [LIBRARY]

LIBRARY is transformers, by default, or transformer_lens. The package runs the program that NORMFOLD names.
"""

import pathlib
import sys

# The scripts beside this one have the names of packages.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).parent]

import torch
from safetensors.torch import load_file

import normfold

torch.set_grad_enabled(False)


def fail(message):
    sys.exit(f"FAILED normfold: {message}")


def logits(model, tokens):
    found = model(tokens)
    return found.logits if hasattr(found, "logits") else found


def main():
    source, reference_path, prefix, place = sys.argv[1:5]
    library = sys.argv[5] if len(sys.argv) > 5 else "transformers"
    reference = load_file(reference_path)
    tokens, positions = reference["tokens"], reference["positions"]
    expected = reference[prefix + "logits.f64"]
    largest = expected.abs().max()
    single = ((reference[prefix + "logits.f32"].double() - expected).abs().max() / largest).item()
    targets = {"transformers": ["transformers", "gpt2"], "transformer_lens": ["transformer-lens"]}[library]
    report = normfold.convert(source, place, targets=targets)
    if not report.holds or [output.target for output in report.outputs] != targets:
        fail(f"{report.outputs}")
    for output in report.outputs:
        model = normfold.load(output.directory)
        difference = ((logits(model, tokens)[:, positions].double() - expected).abs().max() / largest).item()
        if not difference <= 2e-6 + 4 * single:
            fail(f"{output.target}: logits differ by {difference:.2e}")
        norms = [name for name, module in model.named_modules() if "LayerNorm" in type(module).__name__]
        if output.is_norm_free and norms:
            fail(f"{output.target}: norms are left: {norms}")
        print(f"ok  normfold.load, {output.target}: {type(model).__name__}, logits {difference:.1e}")


main()
