"""Loads a converted checkpoint in TransformerLens by the six lines of the README and holds it against reference logits.

usage: transformer_lens.py CONVERTED REFERENCE.safetensors PREFIX [--up-to-shift]

What only a network without norms grants is checked too: the logits are the sum of what the embeddings, every head, every
MLP and every bias write, each through the unembedding. Exits with 1 and a message at the first thing that is not as it
should be.
"""

import pathlib
import sys

# The script has the name of the package that it tests.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).parent]

import torch

torch.set_grad_enabled(False)


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def relative(found, expected):
    difference = (found.double() - expected.double()).abs().max() / expected.double().abs().max()
    return float("nan") if torch.isnan(found).any() else difference.item()


def load(folder):
    """The six lines."""
    import json
    from safetensors.torch import load_file
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(HookedTransformerConfig(**json.load(open(f"{folder}/config.json"))))
    model.load_state_dict(model.state_dict() | load_file(f"{folder}/model.safetensors"))
    return model


def attribution(model, tokens):
    """The parts of the logits [batch, position, vocabulary] by what wrote them into the residual stream."""
    _, cache = model.run_with_cache(tokens)
    parts = {"embed": cache["hook_embed"], "pos_embed": cache["hook_pos_embed"]}
    for number, block in enumerate(model.blocks):
        # [batch, position, head, dHead] and [head, dHead, dModel]
        heads = torch.einsum("bphi,hid->bphd", cache["z", number], block.attn.W_O)
        for head in range(model.cfg.n_heads):
            parts[f"L{number}H{head}"] = heads[:, :, head]
        parts[f"b_O {number}"] = block.attn.b_O
        parts[f"MLP {number}"] = torch.einsum("bpm,md->bpd", cache["post", number], block.mlp.W_out)
        parts[f"b_out {number}"] = block.mlp.b_out
    return {name: torch.einsum("...d,dv->...v", part, model.unembed.W_U) for name, part in parts.items()} | {
        "b_U": model.unembed.b_U
    }


def main():
    folder, reference_path, prefix = sys.argv[1:4]
    is_up_to_shift = "--up-to-shift" in sys.argv
    from safetensors.torch import load_file

    reference = load_file(reference_path)
    tokens, positions = reference["tokens"], reference["positions"]
    expected, single = reference[prefix + "logits.f64"], reference[prefix + "logits.f32"]
    if is_up_to_shift:
        expected, single = expected.log_softmax(-1), single.double().log_softmax(-1)

    model = load(folder)
    if model.cfg.normalization_type is not None:
        fail(f"normalization_type is {model.cfg.normalization_type}")
    norms = [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
    if norms:
        fail(f"norms are left: {norms}")
    stored = load_file(f"{folder}/model.safetensors")
    parameters = dict(model.named_parameters())
    if stored.keys() != parameters.keys():
        fail(f"the file and the class disagree on {sorted(stored.keys() ^ parameters.keys())}")
    for name, parameter in parameters.items():
        if not torch.equal(parameter, stored[name].float()):
            fail(f"{name} is not what the file holds")

    logits = model(tokens)
    found = logits.double().log_softmax(-1) if is_up_to_shift else logits
    difference = relative(found[:, positions], expected)
    limit = 2e-6 + 4 * relative(single, expected)
    if not difference <= limit:
        fail(f"logits differ by {difference:.2e}, limit {limit:.2e}")

    parts = attribution(model, tokens)
    components = 3 + model.cfg.n_layers * (model.cfg.n_heads + 3)
    if len(parts) != components:
        fail(f"{len(parts)} components, expected {components}")
    # Float32 sums in another order, against the largest of the terms.
    total = sum(part.double() for part in parts.values())
    scale = max(part.abs().max() for part in parts.values())
    linearity = ((total - logits.double()).abs().max() / scale).item()
    if not linearity <= 1e-5:
        fail(f"the components do not add up to the logits: {linearity:.2e}")
    # And none may be left out.
    least = min(part.abs().max() for name, part in parts.items() if not name.startswith("b_")) / scale
    if not least > 1e-4:
        fail("a component contributes nothing, so its absence would not be noticed")
    print(f"ok  {folder}: {'log-probabilities' if is_up_to_shift else 'logits'} {difference:.1e} (limit {limit:.1e}), "
          f"{len(parts)} components add up to {linearity:.1e}")


main()
