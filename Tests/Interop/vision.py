"""Gives a converted ViT to stock transformers and to onnxruntime, and holds both against reference outputs.

usage: vision.py CONVERTED REFERENCE.safetensors NAME

CONVERTED has the folders `transformers` and `onnxruntime`. The Auto class must choose the class that config.json names, without a
complaint about a tensor, and compute the reference's outputs in double and in single precision; the graph must have the input and
the output that Optimum looks for, and compute the same.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import sys

import onnxruntime
import torch
import transformers
from safetensors.torch import load_file

torch.set_grad_enabled(False)
LIMITS = {torch.float64: 1e-6, torch.float32: 5e-6}


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def require(what, found, expected, limit):
    difference = ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
    if not difference <= limit:
        fail(f"{what}: {difference:.2e}, limit {limit:.2e}")
    return difference


def main():
    folder, reference_path, name = sys.argv[1:4]
    reference = load_file(reference_path)
    pixels = reference["pixels"]
    name_of_class = json.load(open(f"{folder}/transformers/config.json"))["architectures"][0]
    is_model = name_of_class == "ViTModel"
    auto = transformers.AutoModel if is_model else transformers.AutoModelForImageClassification
    output = "last_hidden_state" if is_model else "logits"
    found = {}
    for type, limit in LIMITS.items():
        model, info = auto.from_pretrained(f"{folder}/transformers", dtype=type, output_loading_info=True)
        complaints = {key: value for key, value in info.items() if value}
        if complaints:
            fail(f"the stock class complains: {complaints}")
        if model.__class__.__name__ != name_of_class:
            fail(f"expected {name_of_class}, found {model.__class__.__name__}")
        result = model.eval()(pixel_values=pixels.to(type))
        found[type] = require(f"in {type}", result[output], reference[f"{name}.output"], limit)
        if is_model:
            require(f"pooled in {type}", result.pooler_output, reference[f"{name}.pooled"], limit)
    session = onnxruntime.InferenceSession(f"{folder}/onnxruntime/model.onnx", providers=["CPUExecutionProvider"])
    names = ([i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()])
    if names != (["pixel_values"], [output]):
        fail(f"the graph has inputs {names[0]} and outputs {names[1]}")
    result = session.run([output], {"pixel_values": pixels.numpy()})[0]
    single = require("in onnxruntime", torch.tensor(result), reference[f"{name}.output"], 5e-6)
    print(f"ok  {folder}: {name_of_class}, double {found[torch.float64]:.1e}, single {found[torch.float32]:.1e}, onnxruntime {single:.1e}")


main()
