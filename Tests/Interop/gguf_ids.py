"""Gives a GGUF file to llama.cpp's library as token ids and holds all of its logits against reference logits.

usage: gguf_ids.py CONVERTED REFERENCE.safetensors PREFIX ARCHITECTURE

CONVERTED holds model.gguf, which must be of ARCHITECTURE; it needs no tokenizer. llama.cpp computes in float32, with sums in
another order and functions of its own: 2e-5 of the largest logit, and 2e-3 where its GELU is looked up by 16-bit floats.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import sys

import gguf
import numpy
from llama_cpp import Llama
from safetensors.numpy import load_file

folder, reference_path, prefix, architecture = sys.argv[1:5]
path = f"{folder}/model.gguf"
found = gguf.GGUFReader(path).fields["general.architecture"].contents()
if found != architecture:
    sys.exit(f"FAILED {path}: expected the architecture {architecture}, found {found}")
reference = load_file(reference_path)
tokens, positions, expected = reference["tokens"], reference["positions"], reference[prefix + "logits.f64"]
model = Llama(path, n_ctx=64, logits_all=True, n_threads=1, type_k=0, type_v=0, verbose=False)  # a cache in F32
logits = []
for sequence in tokens:
    model.reset()
    model.eval(sequence.tolist())
    logits.append(numpy.array(model.scores[positions], dtype=numpy.float64))
difference = numpy.abs(numpy.stack(logits) - expected).max() / numpy.abs(expected).max()
limit = 2e-3 if architecture.startswith(("gemma", "phi2")) else 2e-5
if not difference <= limit:
    sys.exit(f"FAILED {path}: logits differ by {difference:.1e} of the largest, limit {limit:.0e}")
print(f"ok  {path}: {architecture}, logits to {difference:.1e}")
