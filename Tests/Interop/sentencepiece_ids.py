"""Gives generated text to `normfold tokenize` and to sentencepiece, or to the tokenizers library: the ids must be the same, and come back as
the text. The tokenizers are those of fixtures/tokenizer/sentencepiece, its tokenizer.json in every form in which spaces are replaced, and
a larger one that is trained here with LLaMA's settings.

usage: sentencepiece_ids.py NORMFOLD FOLDER [BYTES]     FOLDER is fixtures/tokenizer/sentencepiece, unpacked
"""

import array
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

sys.path.append(str(pathlib.Path(__file__).parents[2] / "fixtures/generate"))
import generated_text
import sentencepiece_tokenizers as forms

normfold, source = sys.argv[1], pathlib.Path(sys.argv[2])
BYTES = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000_000
# A text for the libraries: sentencepiece takes at most 1 GB of memory for it, and tokenizers some.
PIECE = 1_000_000


def larger():
    """A model of 8,000 pieces with LLaMA's settings."""
    model = io.BytesIO()
    text = "".join(character for character in generated_text.text(3, 3_000_000) if 0 < ord(character) < 0x600)
    corpus = [line for line in text.splitlines() if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, model_type="bpe", vocab_size=8_000, num_threads=2, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True,
        character_coverage=0.98, max_sentence_length=1 << 20)
    return model.getvalue()


def compare(name, path, ids, texts, folder, comes_back):
    seconds, theirs, count = 0, 0, 0
    for number, text in enumerate(texts):
        file, output = f"{folder}/text", f"{folder}/ids"
        with open(file, "wb") as handle:
            handle.write(text.encode())
        start = time.monotonic()
        subprocess.run([normfold, "tokenize", path, "--text", file, "-o", output, "--format", "uint32", "--force"], check=True)
        middle = time.monotonic()
        expected = ids(text)
        seconds, theirs = seconds + middle - start, theirs + time.monotonic() - middle
        found = array.array("I", open(output, "rb").read()).tolist()
        if found != expected:
            place = next((index for index, pair in enumerate(zip(found, expected)) if pair[0] != pair[1]), min(len(found), len(expected)))
            around = slice(max(0, place - 5), place + 5)
            sys.exit(f"FAILED {name}, text {number}, token {place}: found {found[around]}, expected {expected[around]}")
        count += len(found)
        if comes_back:
            decoded = subprocess.run([normfold, "tokenize", path, "--decode", "--text", output, "--format", "uint32"], check=True,
                                     stdout=subprocess.PIPE).stdout
            if decoded != text.encode():
                sys.exit(f"FAILED {name}, text {number}: decoded, the text is another")
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"ok  {name}: {count} ids of {size:.1f} MB are the same; {size / seconds:.1f} MB/s with start and output, the library {size / theirs:.1f} MB/s")


def main():
    mark = "\u2581"
    # Text with the mark itself does not come back: for all of these it is a space.
    texts = [generated_text.text(100 + number, PIECE).replace(mark, "") for number in range(BYTES // PIECE)]
    short = texts[:max(1, len(texts) // 5)]
    with tempfile.TemporaryDirectory() as folder:
        models = {"llama.model": (source / "llama.model").read_bytes(), "home.model": (source / "home.model").read_bytes(), "larger.model": larger()}
        for name, content in models.items():
            path = f"{folder}/{name}"
            pathlib.Path(path).write_bytes(content)
            processor = sentencepiece.SentencePieceProcessor(model_proto=content)
            compare(name, path, lambda text: processor.encode(text), texts, folder, comes_back=name != "home.model")
        value = forms.legacy_json(sentencepiece_model_pb2.ModelProto.FromString(models["larger.model"]))
        for name, parts in forms.forms(value).items():
            for token in parts.get("added_tokens", []):
                token["id"] += 8_000 if token["id"] >= 1_200 else 0
            path = f"{folder}/tokenizer.json"
            pathlib.Path(path).write_text(json.dumps(value | parts))
            tokenizer = Tokenizer.from_file(path)
            compare(f"tokenizer.json, {name}", path, lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                    texts if name == "legacy" else short, folder, comes_back=name in ("legacy", "gemma"))


os.environ["RAYON_NUM_THREADS"] = "1"
main()
