"""What Hugging Face's tokenizers make of texts that they normalise: the expectations of Tests/TokenizationTests.

The tokenizer is the small one with the normalizer NFC and with added tokens, of which some are found in the text as it
is and others in its normal form.

usage: tokenizer_nfc_golden.py SMALL_TOKENIZER.json > fixtures/tokenizer/nfc.json
"""

import array
import hashlib
import json
import random
import sys

import tokenizers
from tokenizers import Tokenizer, normalizers

import generated_text

SEED, BYTES = 17, 200_000
FLAGS = ["single_word", "lstrip", "rstrip", "normalized", "special"]

# Letters and marks, in orders that form C changes or keeps; what it excludes, singletons, Hangul, and characters that
# only later versions of Unicode compose or reorder.
COMPOSING = [
    "e\u0301", "\u00e9", "e\u0301\u0301", "a\u0323\u0302", "a\u0302\u0323", "\u1ea1\u0302", "\u1ead", "u\u0308ber", "q\u0301", "\u0301", "\u0301e",
    "\u212b", "\u2126", "\u212a", "\u1fbe\u0308\u0301", "\u0344", "\u0958", "\u0915\u093c", "\ufb1d", "\u2adc", "\u0cc6\u0cd5", "\u09c7\u09be",
    "\u0dd9\u0dcf\u0dca", "\u1100\u1161\u11a8", "\u1100\u1161", "\uac00\u11a8", "\uac01\u11a8", "\u1161\u11a8", "\u1100 \u1161", "\uac00\u11a7",
    "\u304b\u3099", "\u30cf\u309a", "=\u0338", "<\u0338", "\u037e", "\u1fef", "\u2000", "\u2001", "\uf900", "\U0002f800", "\U0001d15e",
    "\U00011099\U000110ba", "\U00011131\U00011127", "\u0e81\u0eba\u0334", "a\u0345\u1df6", "a\u0345\U0001e130", "\U0001611e\U0001611e", "\U000105d2\u0307",
    "1\u0301", " \u0301", "\n\u0301", "\u0338", "'\u0301s", "\u2019s", "x\u0345\u0301", "o\u031b\u0323", "o\u0323\u031b", "\u0345\u0f73\u0301",
    "a" + "\u0301\u0323\u0345\u0334\u0f81" * 12,
]
PIECES = COMPOSING[:24] + ["e", "a", "\u0301", "\u0323", "\u0334", "\u0308", "\u1161", "\u11a8", " ", "  ", "<m>", "ab", "!", "'", "7", "\u3000"]
CONTENTS = ["<m>", "<m>\u0301", "e", "e\u0301", "\u00e9", "\u0301", " ", "ab", "!", "\u212b", "\u1100\u1161"]


def token(id, content, **flags):
    return {"id": id, "content": content, **{flag: flags.get(flag, False) for flag in FLAGS}}


def texts():
    draw = random.Random(5)
    for count in range(1, 61):
        yield "a" + " " * count + ("b" if count % 3 else "\n" if count % 2 else "")
    for composing in COMPOSING:
        yield f"To {composing}. {composing}{composing}<|endoftext|>{composing} {composing}\n"
    for _ in range(90):
        yield "".join(draw.choices(PIECES + [" " * draw.randint(2, 60), "<|endoftext|>", "o\u0308", "e\u0301!"], k=draw.randint(2, 14)))


def cases(small):
    """Tokenizers whose added tokens have random flags, with random texts."""
    draw = random.Random(6)
    for _ in range(16):
        tokens, unknown = [], 1024
        for content in draw.sample(CONTENTS, draw.randint(1, 3)):
            # Two tokens of one normal form are told apart by chance.
            if any(normalizers.NFC().normalize_str(other["content"]) == normalizers.NFC().normalize_str(content) for other in tokens):
                continue
            known = small["model"]["vocab"].get(content)
            flags = {flag: draw.random() < 0.4 for flag in FLAGS}
            tokens.append(token(unknown if known is None else known, content, **flags))
            unknown += known is None
        yield tokens, ["".join(draw.choices(PIECES + CONTENTS, k=draw.randint(1, 10))) for _ in range(5)]


def every_character():
    """All but most of Han and Hangul, planes 3 and above."""
    ranges = [(0, 0x3400), (0xA000, 0xAC40), (0xD780, 0xD800), (0xE000, 0x12000), (0x16000, 0x17000), (0x1BC00, 0x1F000), (0x2F800, 0x2FA20)]
    values = (value for start, end in ranges for value in range(start, end))
    return "".join("q{0}\u0334q\u0345{0}\u0301".format(chr(value)) for value in values)


def main():
    with open(sys.argv[1]) as file:
        small = json.load(file)

    def case(added, texts):
        tokenizer = Tokenizer.from_str(json.dumps({**small, "normalizer": {"type": "NFC"}, "added_tokens": added}))
        return tokenizer, {"tokens": added, "texts": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]}

    runs = [token(1022 + count, " " * (26 - count), normalized=True) for count in range(2, 25)]
    usual = [token(0, "<|endoftext|>", special=True), *runs, token(1047, "e\u0301!", normalized=True), token(1048, "o\u0308")]
    tokenizer, first = case(usual, texts())
    generated = generated_text.text(SEED, BYTES)
    ids = array.array("H", tokenizer.encode(generated, add_special_tokens=False).ids)
    normal = normalizers.NFC().normalize_str(every_character()).encode()
    json.dump({
        "tokenizers": tokenizers.__version__,
        "cases": [first, *(case(tokens, texts)[1] for tokens, texts in cases(small))],
        "generated": {"seed": SEED, "byteCount": BYTES, "text": hashlib.sha256(generated.encode()).hexdigest(),
                      "count": len(ids), "ids": hashlib.sha256(ids.tobytes()).hexdigest()},
        "everyCharacter": hashlib.sha256(normal).hexdigest(),
    }, sys.stdout, separators=(",", ":"))


main()
