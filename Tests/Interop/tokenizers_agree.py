"""Splits text with the tokenizers of two folders: they must agree.

usage: tokenizers_agree.py FOLDER EXPECTED
"""

import sys

from transformers import AutoTokenizer

TEXTS = ["First Citizen:\nBefore we proceed any further, hear me speak.", "it's  1605; o'er\t\t \n\n naïve — “quoted” 東京 🙂",
         "a<|endoftext|>b", "   leading", "trailing   "]


def main():
    found, expected = (AutoTokenizer.from_pretrained(path) for path in sys.argv[1:3])
    for text in TEXTS:
        if found(text).input_ids != expected(text).input_ids:
            sys.exit(f"FAILED {sys.argv[1]}: {text!r} becomes {found(text).input_ids}, expected {expected(text).input_ids}")
    print(f"ok  {sys.argv[1]}: {len(TEXTS)} texts split alike")


main()
