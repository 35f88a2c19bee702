"""Gives one text to `normfold tokenize` and to Hugging Face's tokenizers, both on one thread: the ids must be the same, and
are to be had at least as fast. The text is generated, of all scripts; then every character in several surroundings;
then files that are at hand, as examples of code and prose. Then the same with the normalizer NFC and with added tokens for
runs of spaces, unless the tokenizer has a normalizer already: in short, or with ALL=1 in the environment as long as without.

usage: tokenizer.py NORMFOLD TOKENIZER.json [FILE...]
"""

import array
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer  # noqa: E402

import generated_text  # noqa: E402

ROUNDS = 3


def every_character():
    values = (value for value in range(0x110000) if not 0xD800 <= value < 0xE000)
    return "".join("a{0}1{0}.{0} {0}\n".format(chr(value)) for value in values)


def every_mark():
    values = (value for value in range(0x110000) if not 0xD800 <= value < 0xE000)
    return "".join("e{0}\u0334e\u0345{0}\u0301! ".format(chr(value)) for value in values)


def normalizing(path, folder):
    """Writes the tokenizer with the normalizer NFC and with tokens for 2 to 24 spaces."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    first = Tokenizer.from_file(path).get_vocab_size()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    content["normalizer"] = {"type": "NFC"}
    content["added_tokens"] += [{"id": first + index, "content": " " * (24 - index), **flags} for index in range(23)]
    path = os.path.join(folder, "tokenizer.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return path


def measured(action):
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


def compare(name, text, normfold, path, tokenizer, folder, rounds):
    source, output = os.path.join(folder, "text"), os.path.join(folder, "ids")
    with open(source, "wb") as file:
        file.write(text.encode())
    command = [normfold, "tokenize", path, "--text", source, "-o", output, "--format", "uint32", "--force"]
    # As one text, and as texts of a few lines, whichever suits the library better; nothing is measured but its own work.
    lines = text.splitlines(keepends=True)
    batches = ["".join(lines[start:start + 50]) for start in range(0, len(lines), 50)]
    ours, whole, batched = [], [], []
    for _ in range(rounds):
        ours.append(measured(lambda: subprocess.run(command, check=True))[1])
        encoding, seconds = measured(lambda: tokenizer.encode(text, add_special_tokens=False))
        whole.append(seconds)
        if rounds > 1:
            batched.append(measured(lambda: tokenizer.encode_batch_fast(batches, add_special_tokens=False))[1])
    found = array.array("I", open(output, "rb").read()).tolist()
    if found != encoding.ids:
        place = next((index for index, pair in enumerate(zip(found, encoding.ids)) if pair[0] != pair[1]), min(len(found), len(encoding.ids)))
        around = slice(max(0, place - 5), place + 5)
        sys.exit(f"FAILED {name}: token {place}: found {found[around]}, expected {encoding.ids[around]}: "
                 f"{tokenizer.decode(encoding.ids[around], skip_special_tokens=False)!r}")
    decoded = os.path.join(folder, "decoded")
    subprocess.run([normfold, "tokenize", path, "--decode", "--text", output, "--format", "uint32", "-o", decoded, "--force"], check=True)
    normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    if open(decoded, "rb").read() != normal.encode():
        sys.exit(f"FAILED {name}: decoded, the text is another")
    mine, theirs = statistics.median(ours), min(statistics.median(times) for times in (whole, batched) if times)
    megabytes = len(text.encode()) / 1e6
    print(f"ok  {name}: {len(found)} ids of {megabytes:.1f} MB are the same; {megabytes / mine:.1f} MB/s with start and output, "
          f"tokenizers {megabytes / theirs:.1f} MB/s (medians of {rounds})")
    if mine > theirs:
        sys.exit(f"FAILED {name}: {mine:.2f} s, tokenizers {theirs:.2f} s")


def main():
    normfold, path, *files = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        paths = [path] if Tokenizer.from_file(path).normalizer else [path, normalizing(path, folder)]
        for path in paths:
            tokenizer = Tokenizer.from_file(path)
            kind = "with NFC, " if tokenizer.normalizer else ""

            def check(name, text, rounds=ROUNDS):
                compare(kind + name, text, normfold, path, tokenizer, folder, rounds)

            # The golden tests hold every character and mark with NFC, too: what takes minutes here is for ALL=1.
            if tokenizer.normalizer and not os.environ.get("ALL"):
                check("generated", generated_text.text(1, 3_000_000), rounds=1)
                continue
            check("generated", generated_text.text(1, 12_000_000))
            check("every character", every_character(), rounds=1)
            if tokenizer.normalizer:
                check("every mark", every_mark(), rounds=1)
            for name in files:
                with open(name, encoding="utf-8", newline="") as file:
                    check(name, file.read())


main()
