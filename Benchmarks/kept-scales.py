"""What rounding to blocks costs where the scales stay in the norms, and where they are folded into the matrices first.

The features of the residual stream have no order: the network is the same in any, but a block of 32 holds other numbers in
each. So the cost is a mean over ten orders, of the Kullback-Leibler divergence from the source on the reference tokens.
Written with transformers and gguf-py alone, in double precision.

usage: kept-scales.py FIXTURES/shakespeare-4x128     (expanded; with what 'make interop' installs)
"""

import copy
import pathlib
import sys

import gguf
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

torch.set_grad_enabled(False)
ORDERS = 10
family = pathlib.Path(sys.argv[1])
tokens = load_file(family / "reference" / "reference.safetensors")["tokens"]
source = GPT2LMHeadModel.from_pretrained(family / "lnfree").double().eval()


def reordered(net, order):
    net = copy.deepcopy(net)
    body = net.transformer
    body.wte.weight.data = body.wte.weight[:, order]
    body.wpe.weight.data = body.wpe.weight[:, order]
    for norm in [body.ln_f] + [norm for block in body.h for norm in (block.ln_1, block.ln_2)]:
        norm.weight.data, norm.bias.data = norm.weight[order], norm.bias[order]
    for block in body.h:
        for reader in (block.attn.c_attn, block.mlp.c_fc):
            reader.weight.data = reader.weight[order]
        for writer in (block.attn.c_proj, block.mlp.c_proj):
            writer.weight.data, writer.bias.data = writer.weight[:, order], writer.bias[order]
    net.tie_weights()
    return net


def folded(net):
    net = copy.deepcopy(net)
    for block in net.transformer.h:
        for norm, reader in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
            reader.bias += norm.bias @ reader.weight
            scaled = reader.weight * (norm.weight / norm.eps**0.5)[:, None]
            reader.weight.data = scaled - scaled.mean(0)
            norm.weight.fill_(norm.eps**0.5)
            norm.bias.zero_()
    return net


def rounded(net, kind):
    """Matrices in blocks along their inputs, as GGUF stores them; what unembeds in Q8_0."""
    net = copy.deepcopy(net)

    def through(matrix, kind):
        blocks = gguf.quants.quantize(matrix.float().contiguous().numpy(), kind)
        return torch.from_numpy(gguf.quants.dequantize(blocks, kind).copy()).double()

    net.transformer.wte.weight.data = through(net.transformer.wte.weight, gguf.GGMLQuantizationType.Q8_0)
    for block in net.transformer.h:
        for map in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
            map.weight.data = through(map.weight.T, kind).T
    net.tie_weights()
    return net


expected = source(tokens).logits.log_softmax(-1)
orders = [torch.randperm(source.config.n_embd, generator=torch.Generator().manual_seed(seed)) for seed in range(ORDERS)]
print("| type | scales kept in the norms | scales folded | orders in which kept is closer |\n|---|---|---|---|")
for name in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"):
    kind = gguf.GGMLQuantizationType[name]
    costs = []
    for order in orders:
        net = reordered(source, order)
        pair = [rounded(form, kind)(tokens).logits.log_softmax(-1) for form in (net, folded(net))]
        costs.append([(expected.exp() * (expected - found)).sum(-1).mean().item() for found in pair])
    kept, moved = (sum(column) / ORDERS for column in zip(*costs))
    print(f"| {name} | {kept:.1e} | {moved:.1e} | {sum(a < b for a, b in costs)} of {ORDERS} |")
# What was compared above is the same network where nothing is rounded.
unrounded = folded(reordered(source, orders[0]))(tokens).logits.log_softmax(-1)
assert (unrounded - expected).abs().max() < 1e-6, (unrounded - expected).abs().max()
