"""Gives a converted encoder to stock transformers and to onnxruntime, and holds both against reference outputs.

usage: encoders.py CONVERTED REFERENCE.safetensors NAME

CONVERTED has the folders `transformers` and `onnxruntime`. The Auto class of the head must choose the class that config.json names,
without a complaint about a tensor, and compute the reference's outputs in double and in single precision, padded sequences and
pairs included. The graph must have the inputs and outputs that Optimum looks for, and compute the same.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import sys

import onnxruntime
import torch
import transformers
from safetensors.torch import load_file

torch.set_grad_enabled(False)
CLASSES = {
    "Model": (transformers.AutoModel, ["last_hidden_state"]),
    "ForMaskedLM": (transformers.AutoModelForMaskedLM, ["logits"]),
    "ForSequenceClassification": (transformers.AutoModelForSequenceClassification, ["logits"]),
    "ForTokenClassification": (transformers.AutoModelForTokenClassification, ["logits"]),
    "ForQuestionAnswering": (transformers.AutoModelForQuestionAnswering, ["start_logits", "end_logits"]),
}
LIMITS = {torch.float64: 1e-6, torch.float32: 5e-6}


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def require(what, found, expected, limit):
    difference = ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
    if not difference <= limit:
        fail(f"{what}: {difference:.2e}, limit {limit:.2e}")
    return difference


def joined(values):
    return values[0] if len(values) == 1 else torch.stack(values, -1)


def main():
    folder, reference_path, name = sys.argv[1:4]
    reference = load_file(reference_path)
    family = "roberta" if name.startswith("roberta") else "bert"
    given = {"input_ids": reference[f"{family}.tokens"], "attention_mask": reference[f"{family}.mask"]}
    if not name.startswith("distilbert"):
        given["token_type_ids"] = reference[f"{family}.types"]
    full = {"input_ids": reference[f"{family}.full.tokens"]}
    name_of_class = json.load(open(f"{folder}/transformers/config.json"))["architectures"][0]
    auto, outputs = next(value for end, value in reversed(CLASSES.items()) if name_of_class.endswith(end))
    found = {}
    for type, limit in LIMITS.items():
        model, info = auto.from_pretrained(f"{folder}/transformers", dtype=type, output_loading_info=True)
        complaints = {key: value for key, value in info.items() if value}
        if complaints:
            fail(f"the stock class complains: {complaints}")
        if model.__class__.__name__ != name_of_class:
            fail(f"expected {name_of_class}, found {model.__class__.__name__}")
        model.eval()
        result = model(**given)
        found[type] = require(f"in {type}", joined([result[o] for o in outputs]), reference[f"{name}.output"], limit)
        if f"{name}.full" in reference:
            result = model(**full)
            require(f"in {type}, full", joined([result[o] for o in outputs]), reference[f"{name}.full"], limit)
        if f"{name}.pooled" in reference:
            require(f"pooled in {type}", model(**given).pooler_output, reference[f"{name}.pooled"], limit)

    session = onnxruntime.InferenceSession(f"{folder}/onnxruntime/model.onnx", providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    wanted = ["input_ids", "attention_mask"] + (["token_type_ids"] if "token_type_ids" in given else [])
    if names != wanted or [o.name for o in session.get_outputs()] != outputs:
        fail(f"the graph has inputs {names} and outputs {[o.name for o in session.get_outputs()]}")
    result = session.run(outputs, {key: value.numpy() for key, value in given.items()})
    single = require("in onnxruntime", joined([torch.tensor(r) for r in result]), reference[f"{name}.output"], 5e-6)
    print(f"ok  {folder}: {name_of_class}, double {found[torch.float64]:.1e}, single {found[torch.float32]:.1e}, onnxruntime {single:.1e}")


main()
