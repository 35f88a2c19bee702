"""What Hugging Face's tokenizers make of hard texts: the expectations of Tests/TokenizationTests.

usage: tokenizer_golden.py GPT2_TOKENIZER.json SMALL_TOKENIZER.json > fixtures/tokenizer/golden.json
"""

import array
import hashlib
import itertools
import json
import random
import sys

import tokenizers
from tokenizers import Regex, Tokenizer, pre_tokenizers

import generated_text

SEED, BYTES = 7, 200_000

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\t\n", "\r\n", " \n", "\n ", "  \n  ", "\u00a0", "\u3000", "\u2028x", "\u0085 x",
    "Norms fold", " Norms fold", "  Norms fold", "   Norms\n   fold", "Norms, fold!", " Norms, fold!", "NORMS", "nOrMs",
    "a b  c   d    e", "a\tb\t\tc", "a \tb", "a\t b", "a\u00a0b", "a \u00a0b", "a\u00a0 b", "a\u3000\u3000b", "trailing ", "trailing  ", "trailing\n",
    "it's", "it'S", "IT'S", "we're we've we'll I'm I'd can't", "we'RE", "'s", " 's", "'''s", "''s's", "'", "' ", " '", "'\n", "'t is", "y'all'd've",
    "o\u2019clock it\u2019s", "'re're", "'r'e", "'l'l", "x'sy", "1's", "!'s", "'s1", "'\u017f", "'S", "'\u00e9t\u00e9",
    "7", "77", "777", "7777", "77777", "777777", "7777777", "77777777", "3.14159", "1,000,000", "1e-12", "0xFF", "v2.0", "12 34  56", " 7", "  7", "a1b2c3",
    "\u00bd cup", "\u00b2\u00b3", "\u2167 \u2168", "\u0663\u0664", "\u0967\u0968", "\u3007", "\U0001d7d8", "a\u00b9b",
    "\u00fcber na\u00efve co\u00f6perate", "u\u0308ber", "\u1e9e\u00df", "\u01c5", "\u02b0\u02b1", "\u2115\u2124", "\u00aa\u00ba",
    "\u043d\u043e\u0440\u043c\u0430\u043b\u0438\u0437\u0430\u0446\u0438\u044f \u0441\u043b\u043e\u0451\u0432", "\u03ba\u03b1\u03bd\u03bf\u03bd\u03b9\u03ba\u03cc\u03c2", "\u05d0\u05d1\u05d2 \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "\u0627\u0644\u0637\u0628\u0642\u0629 \u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u1781\u17d2\u1798\u17c2\u179a",
    "\u5c42\u5f52\u4e00\u5316\u3002\u6298\u53e0\uff01", "\u6b63\u898f\u5316\u5c64\u3092\u7573\u307f\u8fbc\u3080", "\uc815\uaddc\ud654 \uacc4\uce35", "\u1112\u1161\u11ab", "\U00020000\U0002a6df", "\U00010330\U00010331", "\U0001e900\U0001e922", "\U00013000",
    "\U0001f600", " \U0001f600", "\U0001f600\U0001f601", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3", "\u2764\ufe0f\u200d\U0001f525",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\u2705 done \u274c", "\u2014", "\u2026", "\u201cquoted\u201d", "\u00ab guillemets \u00bb", "---===___", "!!!!!!", "?!?!", "...", "....", "a...b",
    "\x00", "\x00\x00", "a\x00b", "\x01\x02\x03", "\x1b[0m", "\x7f", "\x80\x9f", "\x1c\x1d\x1e\x1f", "\ufeffbom", "\ufffd", "\u200b\u200b", "a\u200bb", "\u00ad", "\ufffe\uffff", "\U0010ffff", "\ue000",
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\ta[i] = b[i];\n}\n", "SELECT * FROM t WHERE a='b';", "if(x){y}else{z}", "https://example.org/a_b?c=d&e=%20#f", "\\frac{\\sigma}{\\gamma}", "<b>bold</b>", "{\"a\": [1, 2, null]}",
    "<|endoftext|>", "a<|endoftext|>b", "a <|endoftext|> b", "<|endoftext|><|endoftext|>", "<|endoftext|", "|endoftext|>", "<<|endoftext|>>", "<|ENDOFTEXT|>", "  <|endoftext|>  ", "\n<|endoftext|>\n", "it<|endoftext|>'s", "'<|endoftext|>s",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "=" * 200, " " * 130 + "x", "\n" * 99, "ab" * 90, "\u0101" * 70,
    "1234567890" * 12, "\u6298" * 80, "\U0001f600" * 40, "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch Donaudampfschiffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft",
]

# Added tokens with every flag, one by one and together.
FLAGS = ["single_word", "lstrip", "rstrip", "normalized", "special"]
CONTENTS = ["<m>", "<m>x", "ab", "a", " a", "\u00e9", "_", "\n"]
PIECES = ["<m>", "<m>x", "ab", "a", "b", " ", "  ", "\n", "\u00e9", "x", "_", "1", ".", "\u0301", "\u3000", "'s", "cab", "abc", "\U0001f600"]


def classes():
    """Where the class of characters changes: 0 other, 1 letter, 2 number, 3 white space."""
    splitters = [(1, r"\p{L}"), (2, r"\p{N}"), (3, r"\s")]
    splitters = [(kind, pre_tokenizers.Split(Regex(pattern), "removed")) for kind, pattern in splitters]
    changes, last = [], None
    for value in itertools.chain(range(0xD800), range(0xE000, 0x110000)):
        kind = next((kind for kind, splitter in splitters if not splitter.pre_tokenize_str(chr(value))), 0)
        if kind != last:
            changes.append([value, kind])
            last = kind
    return changes


def added(small):
    """Tokenizers with added tokens, and what they make of random texts."""
    draw = random.Random(3)
    cases = []
    for _ in range(60):
        first = 1024
        tokens = []
        for content in draw.sample(CONTENTS, draw.randint(1, 3)):
            flags = {flag: draw.random() < 0.4 for flag in FLAGS}
            known = content in small["model"]["vocab"]
            tokens.append({"id": small["model"]["vocab"][content] if known else first, "content": content, **flags})
            first += not known
        tokenizer = Tokenizer.from_str(json.dumps({**small, "added_tokens": tokens}))
        texts = ["".join(draw.choices(PIECES, k=draw.randint(1, 12))) for _ in range(8)]
        cases.append({"tokens": tokens, "texts": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]})
    return cases


def main():
    gpt2 = Tokenizer.from_file(sys.argv[1])
    with open(sys.argv[2]) as file:
        small = json.load(file)
    text = generated_text.text(SEED, BYTES)
    ids = array.array("H", gpt2.encode(text, add_special_tokens=False).ids)
    json.dump({
        "tokenizers": tokenizers.__version__,
        "texts": [{"text": text, "ids": gpt2.encode(text, add_special_tokens=False).ids} for text in TEXTS],
        "classes": classes(),
        "generated": {"seed": SEED, "byteCount": BYTES, "text": hashlib.sha256(text.encode()).hexdigest(),
                      "count": len(ids), "ids": hashlib.sha256(ids.tobytes()).hexdigest()},
        "added": added(small),
    }, sys.stdout, separators=(",", ":"))


main()
