"""Reads a plain graph in CrypTen, runs it on plain numbers and on shares that no party can read, and holds the logits against those of
the defining program.

usage: private_inference.py DIRECTORY REFERENCE.safetensors PREFIX

DIRECTORY was written with --onnx-form plain-embeds. Both parties are on this machine. Exits with 1 and a message at the first thing that is not
as it should be.
"""

import sys
import types

# Python looks for modules beside the script first, and would find one of another purpose instead of a package.
sys.path.pop(0)

import numpy as np
import onnxruntime
import torch
import torch.onnx
from safetensors.torch import load_file

# CrypTen 0.4.1 imports a module of older versions of PyTorch, which only its exporter uses.
torch.onnx.symbolic_registry = types.ModuleType("torch.onnx.symbolic_registry")
sys.modules["torch.onnx.symbolic_registry"] = torch.onnx.symbolic_registry

import crypten

torch.set_grad_enabled(False)
# Numbers have 16 binary places, and the exponential and the reciprocal are approximations.
LIMIT = 1e-2


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def main():
    folder, prefix = sys.argv[1], sys.argv[3]
    reference = load_file(sys.argv[2])
    crypten.init()
    with open(f"{folder}/model.onnx", "rb") as file:
        model = crypten.nn.from_onnx(file)
    lookup = onnxruntime.InferenceSession(f"{folder}/embed_tokens.onnx", providers=["CPUExecutionProvider"])
    length = lookup.get_inputs()[0].shape[1]
    ids = reference["tokens"][0, :length].numpy().astype(np.int64)[None]
    embeddings = torch.from_numpy(lookup.run(None, {"input_ids": ids})[0])
    kept = reference["positions"] < length
    expected = reference[prefix + "logits.f64"][0, kept]

    def difference(logits):
        found = logits[0, reference["positions"][kept]].double()
        same = (found.argmax(-1) == expected.argmax(-1)).double().mean()
        return ((found - expected).abs().max() / expected.abs().max()).item(), same.item()

    plain, _ = difference(model(embeddings))
    if not plain <= 5e-6:
        fail(f"on plain numbers the logits differ by {plain:.2e}")
    model.encrypt()
    model.eval()
    shared, same = difference(model(crypten.cryptensor(embeddings)).get_plain_text())
    if not shared <= LIMIT:
        fail(f"on shares the logits differ by {shared:.2e}")
    print(f"ok  {folder}: CrypTen, logits {plain:.1e} on plain numbers, {shared:.1e} on shares, same top-1 token {same:.0%}")


main()
