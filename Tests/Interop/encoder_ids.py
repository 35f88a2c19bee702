"""Gives generated text to `normfold tokenize` and to the tokenizers library with encoders' tokenizers: the ids must be the same, of one text and of
two, with what is put around them.

usage: encoder_ids.py NORMFOLD BERT ROBERTA [BYTES]     directories with a tokenizer.json each
"""

import array
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tokenizers import Tokenizer

import generated_text

os.environ["RAYON_NUM_THREADS"] = "1"
normfold, folders = sys.argv[1], [pathlib.Path(path) for path in sys.argv[2:4]]
BYTES = int(sys.argv[4]) if len(sys.argv) > 4 else 10_000_000
PIECE = 1_000_000


def run(*command):
    return subprocess.run([normfold, *map(str, command)], check=True, stdout=subprocess.PIPE).stdout


def forms(value):
    if value["model"]["type"] != "WordPiece":
        return {"as it is": {}, "with a space first": {"pre_tokenizer": value["pre_tokenizer"] | {"add_prefix_space": True}}}
    normalizer = value["normalizer"]
    return {"as it is": {}, "cased": {"normalizer": normalizer | {"lowercase": False}}, "with accents": {"normalizer": normalizer | {"strip_accents": False}},
            "not cleaned": {"normalizer": normalizer | {"clean_text": False, "handle_chinese_chars": False}}}


def compare(name, path, tokenizer, texts, folder):
    count, mine, theirs = 0, 0, 0
    for number, text in enumerate(texts):
        file, output = f"{folder}/text", f"{folder}/ids"
        pathlib.Path(file).write_bytes(text.encode())
        start = time.monotonic()
        run("tokenize", path, "--text", file, "-o", output, "--format", "uint32", "--force", "--add-special-tokens")
        middle = time.monotonic()
        expected = tokenizer.encode(text).ids
        mine, theirs = mine + middle - start, theirs + time.monotonic() - middle
        found = array.array("I", open(output, "rb").read()).tolist()
        if found != expected:
            place = next((index for index, pair in enumerate(zip(found, expected)) if pair[0] != pair[1]), min(len(found), len(expected)))
            sys.exit(f"FAILED {name}, text {number}, token {place}: found {found[place:place + 8]}, expected {expected[place:place + 8]}")
        count += len(found)
    for start in range(0, 40_000, 2_000):
        first, second = (texts[0][begin:begin + 900].replace("\0", "").lstrip("-") for begin in (start, start + 1_000))
        found = json.loads(run("tokenize", path, first, "--pair", second, "--json"))
        encoding = tokenizer.encode(first, second)
        if (found["ids"], found["types"]) != (encoding.ids, encoding.type_ids):
            sys.exit(f"FAILED {name}: the pair at {start} becomes {found['ids'][:20]}, expected {encoding.ids[:20]}")
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"ok  {name}: {count} ids of {size:.1f} MB and 20 pairs are the same; {size / mine:.1f} MB/s with start and output, tokenizers {size / theirs:.1f} MB/s")


def main():
    texts = [generated_text.text(200 + number, PIECE) for number in range(max(1, BYTES // PIECE))]
    with tempfile.TemporaryDirectory() as folder:
        for source in folders:
            value = json.loads((source / "tokenizer.json").read_text())
            for name, parts in forms(value).items():
                path = f"{folder}/tokenizer.json"
                pathlib.Path(path).write_text(json.dumps(value | parts))
                compare(f"{source.name}, {name}", path, Tokenizer.from_file(path), texts if not parts else texts[:2], folder)


main()
