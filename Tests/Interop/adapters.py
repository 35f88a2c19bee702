"""Holds what NormFold wrote of a base and an adapter of peft against what peft makes of both.

usage: adapters.py BASE ADAPTER CONVERTED CLASS

CLASS, in which the adapter was trained, takes the base, and PeftModel merges the adapter into it. The Auto class of that head must
load CONVERTED's `transformers` without a complaint about a tensor, and compute the same in double precision; so must the graph in
`onnxruntime`.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import sys

import numpy
import onnxruntime
import peft
import torch
import transformers

torch.set_grad_enabled(False)
# Folded weights are stored in single precision, and transformers computes LLaMA's norms in it.
LIMIT = 5e-6
AUTO = {
    "ForMaskedLM": transformers.AutoModelForMaskedLM,
    "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
    "ForTokenClassification": transformers.AutoModelForTokenClassification,
    "ForCausalLM": transformers.AutoModelForCausalLM,
    "LMHeadModel": transformers.AutoModelForCausalLM,
}


def fail(message):
    sys.exit(f"FAILED {sys.argv[3]}: {message}")


def require(what, found, expected):
    difference = ((found.double() - expected).abs().max() / expected.abs().max()).item()
    if not difference <= LIMIT:
        fail(f"{what}: {difference:.2e}, limit {LIMIT:.0e}")
    return difference


def main():
    base, adapter, folder, name = sys.argv[1:5]
    config = json.load(open(f"{folder}/transformers/config.json"))
    labels = {"num_labels": len(config["id2label"])} if "id2label" in config else {}
    model = getattr(transformers, name).from_pretrained(base, **labels)
    model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().double().eval()
    tokens = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(5))
    expected = model(input_ids=tokens).logits
    auto = next(value for end, value in AUTO.items() if name.endswith(end))
    written, info = auto.from_pretrained(
        f"{folder}/transformers", dtype=torch.float64, output_loading_info=True, trust_remote_code=True)
    complaints = {key: value for key, value in info.items() if value}
    if complaints:
        fail(f"the stock class complains: {complaints}")
    found = [require("transformers", written.eval()(input_ids=tokens).logits, expected)]
    session = onnxruntime.InferenceSession(f"{folder}/onnxruntime/model.onnx", providers=["CPUExecutionProvider"])
    given = {"input_ids": tokens.numpy(), "attention_mask": numpy.ones((2, 12), numpy.int64),
             "token_type_ids": numpy.zeros((2, 12), numpy.int64), "position_ids": numpy.arange(12)[None].repeat(2, 0)}
    for value in session.get_inputs():
        if value.name.startswith("past_key_values"):
            given[value.name] = numpy.zeros([2, value.shape[1], 0, value.shape[3]], numpy.float32)
    names = {value.name for value in session.get_inputs()}
    result = session.run(["logits"], {key: value for key, value in given.items() if key in names})
    found.append(require("onnxruntime", torch.tensor(result[0]), expected))
    print(f"ok  {folder}: {name}, {', '.join(f'{value:.1e}' for value in found)}")


main()
