"""Measures the forms of `normfold convert --to-norm` side by side in onnxruntime.

    python Benchmarks/norm-forms.py NORMFOLD [WORK]      with numpy, safetensors and onnxruntime

A network of GPT-2 small's shape with random weights is converted to each form, and to one whose norms are fixed and folded
away, which is the most that any form of a norm can gain. Runs of all forms alternate, on one thread, whose processor time is
what counts, so that whatever else the machine does falls on all alike and on none much; medians and the quartiles of what
each form gains over LayerNorm, run by run, are printed.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
from safetensors.numpy import save_file

WIDTH, BLOCKS, HEADS, VOCABULARY, POSITIONS = 768, 12, 12, 50_257, 1_024
FORMS = {"unit": "LayerNorm", "rms": "RMSNorm", "crms": "CRMSNorm", "none": "none (fixed, folded)"}


def make_model(folder):
    random = np.random.default_rng(7)

    def matrix(*shape):
        return random.standard_normal(shape, np.float32) * np.float32(0.02)

    tensors = {"wte.weight": matrix(VOCABULARY, WIDTH), "wpe.weight": matrix(POSITIONS, WIDTH)}
    for block in range(BLOCKS):
        for name, inputs, outputs in [("attn.c_attn", WIDTH, 3 * WIDTH), ("attn.c_proj", WIDTH, WIDTH),
                                      ("mlp.c_fc", WIDTH, 4 * WIDTH), ("mlp.c_proj", 4 * WIDTH, WIDTH)]:
            tensors[f"h.{block}.{name}.weight"] = matrix(inputs, outputs)
            tensors[f"h.{block}.{name}.bias"] = matrix(outputs)
    norms = [f"h.{block}.ln_{index}" for block in range(BLOCKS) for index in (1, 2)] + ["ln_f"]
    for name in norms:
        tensors[name + ".weight"] = 1 + 10 * matrix(WIDTH)
        tensors[name + ".bias"] = matrix(WIDTH)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(
        model_type="gpt2", n_embd=WIDTH, n_head=HEADS, n_layer=BLOCKS, n_positions=POSITIONS, vocab_size=VOCABULARY)))
    sites = [f"blocks.{block}.hook_resid_{place}" for block in range(BLOCKS) for place in ("pre", "mid")]
    deviations = dict.fromkeys(sites + [f"blocks.{BLOCKS - 1}.hook_resid_post"], 1.0)
    (folder / "deviations.json").write_text(json.dumps({"std_dict": deviations}))


def convert(normfold, source, target, form):
    option = ["--deviations", source / "deviations.json"] if form == "none" else ["--to-norm", form]
    subprocess.run([normfold, "convert", source, target, "--for", "onnxruntime", "--probe-length", "4", "--quiet", *option],
                   check=True, stdout=subprocess.DEVNULL)


def session(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def feed(tokens, past):
    empty = np.zeros((1, HEADS, past, WIDTH // HEADS), np.float32)
    inputs = {"input_ids": np.arange(tokens, dtype=np.int64)[None] + 100,
              "position_ids": np.arange(past, past + tokens, dtype=np.int64)[None],
              "attention_mask": np.ones((1, past + tokens), np.int64)}
    return inputs | {f"past_key_values.{b}.{kind}": empty for b in range(BLOCKS) for kind in ("key", "value")}


def measure(sessions, inputs, count):
    times = {form: [] for form in sessions}
    for run in range(count + 2):
        forms = list(sessions)
        for form in forms[run % len(forms):] + forms[:run % len(forms)]:
            start = time.thread_time()
            sessions[form].run(["logits"], inputs)
            if run > 1:
                times[form].append((time.thread_time() - start) * 1e3)
    return times


def main(normfold, work):
    source = work / "source"
    if not source.exists():
        make_model(source)
    for form in FORMS:
        if not (work / form).exists():
            convert(normfold, source, work / form, form)
    sessions = {form: session(work / form) for form in FORMS}
    print(f"onnxruntime {onnxruntime.__version__}, 1 thread, load {os.getloadavg()[0]:.1f}")
    print("| norms | tokens | median, ms | against LayerNorm (quartiles) |\n|---|---|---|---|")
    for name, inputs, count in [("1 after 128", feed(1, 128), 200), ("128", feed(128, 0), 40)]:
        times = measure(sessions, inputs, count)
        for form, values in times.items():
            ratios = [100 * (value / base - 1) for value, base in zip(values, times["unit"])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            gain = "" if form == "unit" else f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"
            print(f"| {FORMS[form]} | {name} | {statistics.median(values):.1f} | {gain} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if len(sys.argv) > 2:
        main(sys.argv[1], pathlib.Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(sys.argv[1], pathlib.Path(folder))
