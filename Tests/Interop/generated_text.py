"""Text that is hard to split, the same on every run and machine; Tests/TokenizationTests/GeneratedText.swift makes
the same from the same seed.

usage: generated_text.py SEED BYTES > FILE
"""

import sys

MASK = (1 << 64) - 1

WORDS = ("the of and to in is that it was for on are with as his they at be this from have or by one had not but what "
         "all were when we there can an your which their said if do will each about how up out them then she many some "
         "so these would other into has more her two like him see time could no make than first been its who now people "
         "Norm LayerNorm residual stream embedding NASA iPhone McDonald e.g. i.e. U.S.").split(" ")
CODE = ["def f(x):", "return x", "    ", "        ", "\t", "\n", "\r\n", "==", "!=", "->", "=>", "{", "}", "[0]", "();", "i++", "0x1F",
        "1e-5", "// TODO", "/* */", "#include <stdio.h>", "&&", "||", "$_", "%d", "\\n", "\"\"\"", "self.x", "a_b_c", "camelCase",
        "https://example.org/?q=1&r=2", "<div class=\"a\">", "</div>", "@main", "~/.bashrc", "3.14", "std::vector<int>"]
SPACES = [0x20, 0x20, 0x20, 0x20, 0x0A, 0x0A, 0x09, 0x0D, 0x0B, 0x0C, 0x85, 0xA0, 0x1680, 0x2000, 0x2003, 0x2009, 0x200A, 0x2028,
          0x2029, 0x202F, 0x205F, 0x3000, 0x200B, 0x180E, 0xFEFF, 0x1C, 0x1F]
CONTRACTIONS = ["'", "''", "'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'ll", "'lL", "'d", "'r", "'v", "'l", "\u2019s", "n't", " '", " 's",
                "'s's", "o'", "'\n", "'sn", "'1", "' ", "\"'s", "'\u00e9", "'\u017f"]
NUMBERS = [0x30, 0x660, 0x6F0, 0x966, 0x2160, 0x2070, 0x2080, 0xBC, 0x2460, 0x1D7CE, 0x3021, 0x10107]
EMOJI = [0x1F600, 0x1F44D, 0x1F468, 0x1F469, 0x1F9D1, 0x2764, 0x1F3F3, 0x1F1E6, 0x1F1FA, 0x1F680, 0x1F9EC, 0x1FAE0, 0x231A, 0x263A]
JOINERS = [0x200D, 0xFE0F, 0x1F3FB, 0x1F3FF, 0x20E3, 0xE0067, 0xE007F]
ADDED = ["<|endoftext|>", "<|endoftext|>", "<|endoftext", "<|endoftext|", "<|", "|>", "<<|endoftext|>>", "endoftext", "<|ENDOFTEXT|>"]
PUNCTUATION = ".,;:!?-_()[]{}<>/\\|@#$%^&*+=~`\"\u2014\u2026\u201c\u201d\u00ab\u00bb\u3001\u3002\uff01\u00a1\u00bf\u20ac\u00a3\u00b7"


class Generator:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, count):
        return self.next() % count

    def one(self, items):
        return items[self.below(len(items))]


def scalar(value):
    """The character, with the surrogates moved up behind themselves."""
    return chr(value + 0x800 if 0xD800 <= value < 0xE000 else value)


def script_word(g):
    """Characters of one block of 32: of one script, nearly always."""
    start, count = g.one([(0, 0x3000), (0, 0x3000), (0, 0x3000), (0x3000, 0x7000), (0xA000, 0x6000), (0x10000, 0x10000),
                          (0x10000, 0x10000), (0x20000, 0x20000)])
    block = start + g.below(count // 32) * 32
    return "".join(scalar(block + g.below(32)) for _ in range(1 + g.below(12)))


def run(g, characters, longest):
    """Some of them, or one of them again and again."""
    count = 1 + g.below(longest)
    if g.below(3) == 0:
        return scalar(g.one(characters)) * count
    return "".join(scalar(g.one(characters)) for _ in range(min(count, 20)))


def fragment(g):
    kind = g.below(20)
    if kind < 7:
        return g.one(WORDS)
    if kind < 11:
        return script_word(g)
    if kind == 11:
        return g.one(CODE)
    if kind == 12:
        return run(g, SPACES, 12 if g.below(50) else 400)
    if kind == 13:
        return g.one(CONTRACTIONS) + (g.one(WORDS) if g.below(2) else "")
    if kind == 14:
        first = g.one(NUMBERS)
        return "".join(scalar(first + g.below(10)) for _ in range(1 + g.below(6 if g.below(20) else 200)))
    if kind == 15:
        return "".join(scalar(g.one(EMOJI)) + (scalar(g.one(JOINERS)) if g.below(2) else "") for _ in range(1 + g.below(4)))
    if kind == 16:
        return g.one(ADDED)
    if kind == 17:
        return scalar(0x61 + g.below(26)) + "".join(scalar(0x300 + g.below(0x70)) for _ in range(1 + g.below(4)))
    if kind == 18:
        return "".join(g.one(PUNCTUATION) for _ in range(1 + g.below(6 if g.below(20) else 100)))
    if g.below(2):
        return "".join(scalar(g.one([g.below(32), 127 + g.below(33)])) for _ in range(1 + g.below(5)))
    return scalar(g.below(0x110000 - 0x800))


def text(seed, byte_count):
    """At least so many bytes."""
    g = Generator(seed)
    parts, size = [], 0
    while size < byte_count:
        part = (" " if g.below(2) else "") + fragment(g)
        parts.append(part)
        size += len(part.encode())
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.buffer.write(text(int(sys.argv[1]), int(sys.argv[2])).encode())
