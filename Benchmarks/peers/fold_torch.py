"""What a researcher writes today: load a GPT-2 whose norms have epsilon 1e12, fold them with PyTorch, save.

fold_torch.py CHECKPOINT OUTPUT.safetensors [--verify COUNTxLENGTH]

With --verify the logits of both networks are compared in float32 on that many random sequences.
"""
import json
import sys

import torch
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
source, output = sys.argv[1:3]
config = json.load(open(f"{source}/config.json"))
weights = load_file(f"{source}/model.safetensors")
deviation = config["layer_norm_epsilon"] ** 0.5


def fold(norm, weight, bias):
    """weight [in, out]"""
    gain, shift = weights.pop(f"{norm}.weight"), weights.pop(f"{norm}.bias")
    shifted = shift @ weight
    weight = weight * (gain / deviation)[:, None]
    return weight - weight.mean(0), shifted if bias is None else bias + shifted


for layer in range(config["n_layer"]):
    h = f"transformer.h.{layer}"
    for norm, reader in ((f"{h}.ln_1", f"{h}.attn.c_attn"), (f"{h}.ln_2", f"{h}.mlp.c_fc")):
        weight, bias = fold(norm, weights[f"{reader}.weight"], weights[f"{reader}.bias"])
        weights[f"{reader}.weight"], weights[f"{reader}.bias"] = weight.contiguous(), bias
head, bias = fold("transformer.ln_f", weights["transformer.wte.weight"].T, None)
weights["lm_head.weight"], weights["lm_head.bias"] = head.T.contiguous(), bias
save_file(weights, output, metadata={"format": "pt"})

if "--verify" in sys.argv:
    from transformers import GPT2LMHeadModel

    count, length = map(int, sys.argv[sys.argv.index("--verify") + 1].split("x"))
    tokens = torch.randint(config["vocab_size"], (count, length), generator=torch.Generator().manual_seed(1))
    model = GPT2LMHeadModel.from_pretrained(source, dtype=torch.float32).eval()
    expected = model(tokens).logits
    for block in model.transformer.h:
        block.ln_1 = block.ln_2 = torch.nn.Identity()
    model.transformer.ln_f = torch.nn.Identity()
    model.lm_head = torch.nn.Linear(config["n_embd"], config["vocab_size"])
    model.load_state_dict(load_file(output))
    found = model(tokens).logits
    print("largest difference", (found - expected).abs().max().item(), "of", expected.abs().max().item())
