"""Reads a file of ours with the reference implementation and writes its tensors again: the data must be the same bytes.

The order of several metadata keys is random in the reference, so the file is compared without them.

usage: safetensors_bytes.py FILE
"""

import json
import sys

from safetensors.torch import load_file, save


def parts(blob):
    length = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + length])
    header.pop("__metadata__", None)
    return list(header.items()), blob[8 + length :]


def main():
    path = sys.argv[1]
    ours = open(path, "rb").read()
    tensors = load_file(path)
    theirs = save(tensors)
    if parts(ours) != parts(theirs):
        sys.exit(f"FAILED {path}: the reference implementation writes other bytes for the same tensors")
    print(f"ok  {path}: {len(tensors)} tensors, the reference implementation writes the same bytes")


main()
