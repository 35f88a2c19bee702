"""Gives a GGUF file to llama.cpp and holds its log-probabilities against reference logits.

usage: gguf_logits.py CONVERTED REFERENCE.safetensors PREFIX ARCHITECTURE MODEL

CONVERTED holds model.gguf, which must be of ARCHITECTURE, with a tokenizer. MODEL is the same network as transformers loads
it. At the positions of the reference, the last one excepted, which the context has no token behind, the 20 log-probabilities
that llama.cpp gives must be the reference's. It looks its GELU up by 16-bit floats; what that costs is measured without it,
on MODEL with such a GELU, and it may err twice as much.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import sys

import gguf
import torch
from llamacpp_server import serve
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

torch.set_grad_enabled(False)
COUNT = 20


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


class TableGELU(nn.Module):
    def forward(self, x):
        return nn.functional.gelu(x.half().float(), approximate="tanh").half().float().where(x < 10, x)


def emulation(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    changed = 0
    for module in model.modules():
        if isinstance(getattr(module, "act", None), nn.Module):
            module.act = TableGELU()
            changed += 1
        elif hasattr(module, "activation_fn"):
            module.activation_fn = TableGELU()
            changed += 1
    if changed == 0:
        fail("no activation was found in the model")
    return model


def main():
    folder, reference_path, prefix, architecture, model = sys.argv[1:6]
    path = f"{folder}/model.gguf"
    found = gguf.GGUFReader(path).fields["general.architecture"].contents()
    if found != architecture:
        fail(f"expected the architecture {architecture}, found {found}")
    reference = load_file(reference_path)
    tokens, positions = reference["tokens"], reference["positions"]
    expected = reference[prefix + "logits.f64"].log_softmax(-1)
    emulated = emulation(model)(tokens).logits[:, positions].double().log_softmax(-1)
    server = serve(path)
    largest = limit = compared = skipped = 0
    for row, sequence in enumerate(tokens.tolist()):
        for place, position in enumerate(positions.tolist()[:-1]):
            answer = server.handle_completions({"prompt": sequence[: position + 1], "max_tokens": 1, "temperature": 0,
                                                "logprobs": COUNT, "cache_prompt": False})
            if "choices" not in answer:
                fail(f"llama.cpp says {answer}")
            listed = answer["choices"][0]["logprobs"]
            if not listed or not listed["content"]:  # Its likeliest token is a part of a character only.
                skipped += 1
                continue
            theirs = listed["content"][0]["top_logprobs"]
            if len(theirs) != COUNT:
                fail(f"expected {COUNT} log-probabilities, found {len(theirs)}")
            ids = torch.tensor([entry["id"] for entry in theirs])
            values = torch.tensor([entry["logprob"] for entry in theirs]).double()
            largest = max(largest, (values - expected[row, place, ids]).abs().max().item())
            limit = max(limit, 2 * (emulated - expected)[row, place, ids].abs().max().item())
            compared += 1
    if compared <= skipped:
        fail(f"llama.cpp gave numbers at {compared} places, none at {skipped}")
    if not largest <= limit:
        fail(f"log-probabilities differ by {largest:.2e}, expected at most {limit:.2e}")
    print(f"ok  {path}: {architecture}, {compared} × {COUNT} log-probabilities to {largest:.1e} (limit {limit:.1e})")


main()
