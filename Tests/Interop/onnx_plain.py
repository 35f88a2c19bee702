"""Runs a graph of fixed length in onnxruntime and holds its logits against those of the defining program.

usage: onnx_plain.py DIRECTORY REFERENCE.safetensors PREFIX

DIRECTORY was written with --onnx-form plain or plain-embeds. The graph has one input, one output, numbers for all shapes and only
operators of operator set 14 that compilers know. Exits with 1 and says what is wrong where anything is.
"""

import sys
from pathlib import Path

# Python looks for modules beside the script first, and would find one of another purpose instead of the package.
sys.path.pop(0)

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

FORBIDDEN = {"Range", "Where", "Shape", "LayerNormalization", "Gather", "CumSum", "If", "Loop", "NonZero", "Tanh"}
LIMITS = {"tensor(float)": 5e-6, "tensor(float16)": 4e-3}


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def extents(value):
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def check_form(path, forbidden):
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    if [entry.version for entry in model.opset_import] != [14]:
        fail(f"{path.name}: operator sets {model.opset_import}")
    values = [*model.graph.input, *model.graph.output]
    if len(model.graph.input) != 1 or len(model.graph.output) != 1 or not all(all(extents(value)) for value in values):
        fail(f"{path.name}: expected one input and one output of known shape")
    found = {node.op_type for node in model.graph.node} & forbidden
    if found:
        fail(f"{path.name}: operators {sorted(found)}")
    return extents(model.graph.input[0])


def main():
    folder, reference, prefix = Path(sys.argv[1]), load_file(sys.argv[2]), sys.argv[3]
    lookup = folder / "embed_tokens.onnx"
    readsEmbeddings = lookup.exists()
    length = check_form(folder / "model.onnx", FORBIDDEN if readsEmbeddings else FORBIDDEN - {"Gather"})[1]
    if readsEmbeddings:
        check_form(lookup, FORBIDDEN - {"Gather"})
        lookup = session(lookup)
    network = session(folder / "model.onnx")
    limit = LIMITS[network.get_outputs()[0].type]

    def run(ids):
        ids = np.asarray(ids, np.int64)[None]
        if readsEmbeddings:
            return network.run(None, {"inputs_embeds": lookup.run(None, {"input_ids": ids})[0]})[0][0]
        return network.run(None, {"input_ids": ids})[0][0]

    tokens = reference["tokens"].astype(np.int64)
    positions = np.asarray(reference["positions"])
    kept = positions < length
    if not kept.any():
        fail("no recorded position is short enough")
    expected = reference[prefix + "logits.f64"][:, kept]
    scale = np.abs(expected).max()
    worst = 0.0
    for row, wanted in zip(tokens, expected):
        ids = list(row[:length]) + [0] * max(0, length - len(row))
        worst = max(worst, np.abs(run(ids)[positions[kept]] - wanted).max() / scale)
    if not worst <= limit:
        fail(f"logits differ by {worst:.2e}, limit {limit:.0e}")
    # Nothing of the tokens behind a text is seen by it.
    short = min(length, len(tokens[0])) // 2
    first, second = list(tokens[0][:length]), list(tokens[0][:length])
    first += [0] * (length - len(first))
    second += [0] * (length - len(second))
    second[short:] = [(id + 7) % 11 for id in second[short:]]
    if not np.array_equal(run(first)[:short], run(second)[:short]):
        fail("what stands behind a text changes its logits")
    print(f"ok  {folder}: {length} {'embeddings' if readsEmbeddings else 'ids'}, logits {worst:.1e} (limit {limit:.0e})")


main()
