"""Runs a written ONNX model in onnxruntime and holds its logits against those of the defining program.

    python Tests/Interop/onnx.py FOLDER REFERENCE PREFIX

FOLDER holds model.onnx; REFERENCE is a reference.safetensors of the fixtures; PREFIX says whose logits count, as in
"lnfree." (empty where the file holds one model). With --norm-free behind them, no operator of a norm may be left; with
--unit, --rms or --crms all norms must be of that form, and RMSNorms one operator each when onnxruntime has optimised them.
Exits with 1 and says what is wrong where anything is.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

# Python looks for modules beside the script first, and would find this file instead of the package.
sys.path.pop(0)

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

NORM_OPERATORS = {"LayerNormalization", "ReduceMean", "Sqrt", "Div", "Reciprocal", "Pow"}
LIMITS = {"tensor(float)": 5e-6, "tensor(float16)": 2e-3}

failures = []


def report(name, found, limit):
    ok = found <= limit  # False for NaN
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {found:.3g} (limit {limit:.3g})")
    if not ok:
        failures.append(name)


def largest_difference(a, b):
    """The largest difference over the largest reference logit."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.abs(a - b).max() / np.abs(b).max()


class Runtime:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 2
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.past = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values.")]
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.number = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[self.past[0].type]
        self.names = {i.name for i in self.session.get_inputs()}

    def empty(self, batch):
        return {i.name: np.zeros((batch, i.shape[1], 0, i.shape[3]), self.number) for i in self.past}

    def run(self, tokens, mask, positions, past):
        feed = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions, **past}
        feed = {name: value for name, value in feed.items() if name in self.names}
        results = dict(zip(self.outputs, self.session.run(None, feed)))
        logits = results.pop("logits")
        return logits, {n.replace("present.", "past_key_values."): v for n, v in results.items()}

    def whole(self, tokens, mask=None, positions=None):
        if mask is None:
            mask = np.ones_like(tokens)
            positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape).copy()
        return self.run(tokens, mask, positions, self.empty(len(tokens)))[0]

    def in_steps(self, tokens, steps):
        past, parts, start = self.empty(len(tokens)), [], 0
        for step in steps:
            end = start + step
            positions = np.broadcast_to(np.arange(start, end), (len(tokens), step)).copy()
            mask = np.ones((len(tokens), end), np.int64)
            logits, past = self.run(tokens[:, start:end], mask, positions, past)
            parts.append(logits)
            start = end
        return np.concatenate(parts, axis=1)


def optimised_operators(path):
    """What onnxruntime makes of the graph."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{folder}/model.onnx"
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return [node.op_type for node in model.graph.node]


def main(folder, reference, prefix):
    path = Path(folder) / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    print("ok   onnx.checker, full check")
    model = onnx.load(str(path), load_external_data=False)
    made_of = {entry.key for entry in model.metadata_props}
    if not model.producer_version or "normfold.source.digest" not in made_of:
        failures.append("the metadata do not say what made the file")
    operators = Counter(node.op_type for node in model.graph.node)
    print("     operators:", ", ".join(f"{name} {count}" for name, count in sorted(operators.items())))
    if "--norm-free" in sys.argv and NORM_OPERATORS & set(operators):
        failures.append("operators of a norm: " + ", ".join(sorted(NORM_OPERATORS & set(operators))))

    left = Counter(optimised_operators(path)) if {"--unit", "--rms", "--crms"} & set(sys.argv) else Counter()
    layer_norms, rms_norms = left["LayerNormalization"], left["SimplifiedLayerNormalization"]
    if "--unit" in sys.argv and not layer_norms:
        failures.append("the norms are no LayerNorms")
    if "--rms" in sys.argv and (layer_norms or not rms_norms or left["ReduceMean"] or left["Pow"]):
        failures.append(f"RMSNorms are not one operator each: {dict(left)}")
    if "--crms" in sys.argv and (layer_norms or rms_norms or not left["ReduceSumSquare"]):
        failures.append(f"the norms are not compressed: {dict(left)}")

    runtime = Runtime(path)
    limit = LIMITS[runtime.past[0].type]
    recorded = load_file(reference)
    tokens = recorded["tokens"].astype(np.int64)
    positions = recorded["positions"]
    expected = recorded[prefix + "logits.f64"]
    length = tokens.shape[1]

    whole = runtime.whole(tokens)
    report(f"whole sequences, batch {len(tokens)}", largest_difference(whole[:, positions], expected), limit)
    one = np.concatenate([runtime.whole(tokens[i : i + 1]) for i in range(len(tokens))])
    report("whole sequences, one at a time", largest_difference(one[:, positions], expected), limit)
    stepped = runtime.in_steps(tokens, [1] * length)
    report("token by token through the cache", largest_difference(stepped[:, positions], expected), limit)
    chunks = [length // 2, 1, 3, length - length // 2 - 4]
    chunked = runtime.in_steps(tokens, chunks)
    report(f"in pieces of {chunks}", largest_difference(chunked[:, positions], expected), limit)

    # Two sequences of different lengths, the shorter one padded on the left: each must get what it gets alone.
    short = length // 3
    pad = length - short
    pair = np.stack([tokens[0], np.concatenate([np.full(pad, tokens[0, -1]), tokens[-1, :short]])])
    mask = np.ones_like(pair)
    mask[1, :pad] = 0
    where = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    padded = runtime.whole(pair, mask, where)
    if not np.isfinite(padded).all():
        failures.append("NaN or infinity in the padded batch")
    alone = runtime.whole(tokens[-1:, :short])
    report("left padding, the padded sequence", largest_difference(padded[1:, pad:], alone), limit)
    report("left padding, the one beside it", largest_difference(padded[:1][:, positions], expected[:1]), limit)

    # The same pair, its last tokens through the cache.
    past = runtime.empty(2)
    _, past = runtime.run(pair[:, :-2], mask[:, :-2], where[:, :-2], past)
    before, past = runtime.run(pair[:, -2:-1], mask[:, :-1], where[:, -2:-1], past)
    last, _ = runtime.run(pair[:, -1:], mask, where[:, -1:], past)
    ending = np.concatenate([before, last], axis=1)
    report("left padding through the cache", largest_difference(ending[1:], alone[:, -2:]), limit)


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(arguments) != 3:
        sys.exit(__doc__)
    main(*arguments)
    if failures:
        sys.exit("\n".join(["wrong:"] + failures))
