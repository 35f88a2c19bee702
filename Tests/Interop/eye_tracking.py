"""Gives a converted eye-tracking network to onnxruntime, and holds it against what torch computed.

usage: eye_tracking.py CONVERTED REFERENCE.safetensors

Exits with 1 and a message at the first thing that is not as it should be.
"""

import sys

import numpy
import onnxruntime
from safetensors.numpy import load_file

LIMIT = 5e-6


def main():
    folder, reference = sys.argv[1], load_file(sys.argv[2])
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    found = []
    for number in range(2):
        tokens, words, features = (reference[f"{number}.{name}"] for name in ("tokens", "words", "features"))
        pooling = numpy.array([words == word for word in range(len(features))], numpy.float32)
        pooling /= pooling.sum(-1, keepdims=True)
        given = {
            "input_ids": tokens[None], "attention_mask": numpy.ones_like(tokens)[None],
            "token_type_ids": numpy.zeros_like(tokens)[None], "word_pooling": pooling[None], "word_features": features[None],
        }
        result = session.run(["predictions"], given)[0][0]
        expected = reference[f"{number}.output"]
        difference = numpy.abs(result - expected).max() / numpy.abs(expected).max()
        if not (result.shape == expected.shape and difference <= LIMIT):
            sys.exit(f"FAILED {folder}, sentence {number}: {difference:.2e}, limit {LIMIT:.0e}")
        found.append(difference)
    print(f"ok  {folder}: {', '.join(f'{value:.1e}' for value in found)}")


main()
