"""Holds files that other programs wrote of a checkpoint against it, and copies of them in which errors are planted.

usage: other_writers.py NORMFOLD FOLDER [lens]

FOLDER has a network as trained (vanilla), with norms that are frozen (fakeln) and as published (lnfree). Equal files must be
found equal for every input; in a copy of each some errors are planted, and the part that has one must be named. With `lens` the
files are those of TransformerLens 3, which folds norms as it loads. Exits with 1 and a message at the first thing that is not
as it should be.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

# The scripts beside this one have names of packages.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).parent]

torch.set_grad_enabled(False)
normfold, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def verify(reference, candidate, *options):
    run = subprocess.run(
        [normfold, "verify", str(reference), str(candidate), "--json", *options], capture_output=True, text=True)
    if run.returncode not in (0, 7):
        sys.exit(f"FAILED {candidate}: status {run.returncode}: {run.stderr}")
    return json.loads(run.stdout)


def failures(parts):
    return [part for part in parts["parts"] if part["ratio"] > 1 or part.get("problem")]


def check_same(what, reference, candidate, *options):
    report = verify(reference, candidate, *options)
    if not report["holds"] or not report["parts"]["complete"]:
        sys.exit(f"FAILED {what}: refused: {failures(report['parts'])} {report['parts']['notCompared']}")
    worst = max(part["ratio"] for part in report["parts"]["parts"])
    print(f"{what}: the same for every input, at most {worst:.2g} of what rounding may do")


def largest_element(tensor):
    return tensor.abs().argmax()


def off(tensor):
    flat = tensor.view(-1)
    flat[largest_element(flat)] *= 1.03


def negative(tensor):
    flat = tensor.view(-1)
    flat[largest_element(flat)] *= -1


def exchanged(tensor):
    tensor[[1, 3]] = tensor[[3, 1]]


def check_planted(what, reference, candidate, planted, *options):
    """`planted`: the tensor, what is done to it, and the part that must be named."""
    with tempfile.TemporaryDirectory() as place:
        for number, (name, change, part) in enumerate(planted):
            copy = pathlib.Path(place) / str(number)
            shutil.copytree(candidate, copy)
            path = next(path for path in sorted(copy.glob("*.safetensors")) if name in load_file(path))
            tensors = load_file(path)
            tensors[name] = tensors[name].clone()
            change(tensors[name])
            save_file(tensors, path, metadata={"format": "pt"})
            report = verify(reference, copy, *options)
            named = [part["path"] for part in failures(report["parts"])]
            if report["holds"] or part not in named:
                sys.exit(f"FAILED {what}: {change.__name__} of {name} should fail at {part}, failed at {named}")
    print(f"{what}: {len(planted)} planted errors found, each at its part")


GPT2 = [
    ("transformer.wte.weight", exchanged, "embedding.tokens.weight"),
    ("transformer.wpe.weight", off, "embedding.positions.weight"),
    ("transformer.h.0.attn.c_proj.weight", off, "blocks.0.attention.output.weight"),
    ("transformer.h.1.mlp.c_fc.weight", negative, "blocks.1.mlp.input.weight"),
    ("transformer.h.1.mlp.c_proj.bias", off, "blocks.1.mlp.output.bias"),
    ("transformer.h.0.ln_2.weight", off, "blocks.0.mlp.input.weight"),
]


def saved_by_transformers(place):
    from transformers import AutoModelForCausalLM

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = AutoModelForCausalLM.from_pretrained(folder / "vanilla", dtype=dtype)
        target = place / str(dtype)
        model.save_pretrained(target)
        check_same(f"save_pretrained, {dtype}", folder / "vanilla", target)
        if dtype == torch.float32:
            check_planted("save_pretrained", folder / "vanilla", target, GPT2)
    model = AutoModelForCausalLM.from_pretrained(folder / "vanilla")
    model.save_pretrained(place / "shards", max_shard_size="60KB")
    if len(list((place / "shards").glob("*.safetensors"))) < 2:
        sys.exit("FAILED: one shard")
    check_same("save_pretrained, in shards", folder / "vanilla", place / "shards")
    check_planted("save_pretrained, in shards", folder / "vanilla", place / "shards", GPT2[2:4])


def published_form(place):
    """The arithmetic of the published export: gains of 10^6 / sigma, beside an epsilon of 10^12, in float32."""
    state = load_file(folder / "fakeln-safetensors" / "model.safetensors")
    result = {}
    for name, tensor in state.items():
        name = name if name.startswith("transformer.") or name == "lm_head.weight" else "transformer." + name
        if not name.endswith((".weight", ".bias")) or ".attn.bias" in name \
                or "masked_bias" in name:
            continue
        result[name] = tensor.clone()
    for name in [name for name in result if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))]:
        source = name if name in state else name.removeprefix("transformer.")
        deviation = state[source.removesuffix("weight") + "average_std_buffer"].float()
        deviation = deviation.mean() if deviation.numel() > 1 else deviation
        result[name] = (result[name] * (1e6 / deviation)).contiguous()
    target = place / "published"
    target.mkdir()
    configuration = json.loads((folder / "lnfree" / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(configuration))
    save_file(result, target / "model.safetensors", metadata={"format": "pt"})
    check_same("the published form", folder / "fakeln-safetensors", target)
    check_planted("the published form", folder / "fakeln-safetensors", target, GPT2[:5])


LENS = [
    ("embed.W_E", exchanged, "embedding.tokens.weight"),
    ("blocks.0.attn.W_O", off, "blocks.0.attention.output.weight"),
    ("blocks.1.mlp.W_in", negative, "blocks.1.mlp.input.weight"),
    ("blocks.0.mlp.b_in", off, "blocks.0.mlp.input.bias"),
]


def folded_by_transformer_lens(place):
    from transformer_lens import HookedTransformer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder / "vanilla")
    lens = hooked(model)
    for what, options, up_to in [
        ("fold_ln", dict(fold_ln=True, center_writing_weights=False, center_unembed=False, fold_value_biases=False), []),
        ("fold_ln, centred", dict(fold_ln=True, center_writing_weights=True, center_unembed=False, fold_value_biases=True), []),
        ("fold_ln, all of it", dict(fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True),
         ["--up-to-shift"]),
    ]:
        copy = hooked(model)
        copy.load_and_process_state_dict(copy.state_dict(), refactor_factored_attn_matrices=False, **options)
        target = place / what.replace(" ", "-").replace(",", "")
        target.mkdir()
        configuration = copy.cfg.to_dict()
        kept = {
            key: value for key, value in configuration.items() if isinstance(value, (int, float, str, bool, type(None)))
        }
        (target / "config.json").write_text(json.dumps(kept))
        state = {
            name: tensor.clone().contiguous() for name, tensor in copy.state_dict().items()
            if not name.endswith((".mask", ".IGNORE"))
        }
        save_file(state, target / "model.safetensors")
        check_same(what, folder / "vanilla", target, *up_to)
        check_planted(what, folder / "vanilla", target, LENS, *up_to)


def hooked(model):
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    source = model.config
    configuration = HookedTransformerConfig(
        n_layers=source.n_layer, d_model=source.n_embd, n_ctx=source.n_positions, d_head=source.n_embd // source.n_head,
        n_heads=source.n_head, d_mlp=4 * source.n_embd, d_vocab=source.vocab_size, act_fn=source.activation_function,
        eps=source.layer_norm_epsilon, normalization_type="LN", init_weights=False, device="cpu")
    lens = HookedTransformer(configuration)
    lens.load_state_dict(convert_gpt2_weights(model, configuration), strict=False)
    return lens


with tempfile.TemporaryDirectory() as directory:
    if "lens" in sys.argv:
        folded_by_transformer_lens(pathlib.Path(directory))
    else:
        saved_by_transformers(pathlib.Path(directory))
        published_form(pathlib.Path(directory))
