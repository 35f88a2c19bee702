"""Loads what was written for transformers as nnsight's LanguageModel, with text in, and holds it against the class itself.

usage: language_model.py DIRECTORY

The directory has a tokenizer. Exits with 1 and a message at the first thing that is not as it should be.
"""

import sys

import torch
from nnsight import LanguageModel
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_grad_enabled(False)


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def main():
    folder = sys.argv[1]
    text = "To be, or not to be: that is the question"
    plain = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    expected = plain(ids, output_hidden_states=True)

    model = LanguageModel(folder, trust_remote_code=True, dispatch=True, dtype=torch.float32)
    with model.trace(text):
        hidden = model.transformer.h[0].output.save()
        logits = model.lm_head.output.save()
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    if logits.shape != expected.logits.shape or not torch.equal(logits, expected.logits):
        fail("the logits are not those of the class")
    if not torch.equal(hidden.reshape(expected.hidden_states[1].shape), expected.hidden_states[1]):
        fail("the residual stream behind the first block is not that of the class")
    # A change in the middle reaches the end.
    with model.trace(text):
        model.transformer.h[0].mlp.output[:] = 0
        changed = model.lm_head.output.save()
    if not (changed - logits).abs().max() > 1e-2:
        fail("without the first MLP the logits are the same")
    print(f"ok  {folder}: nnsight's LanguageModel reads text and is {type(plain).__name__}")


main()
