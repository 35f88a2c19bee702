"""Makes a smaller byte-level BPE of a larger one: its first tokens, and the merges that make them.

usage: small_tokenizer.py TOKENIZER COUNT FOLDER [whole]     with whole as a tokenizer.json, which some classes of transformers need
"""

import json
import pathlib
import sys

source, count, folder = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
tokens = {text: number for text, number in json.loads((source / "vocab.json").read_text()).items() if number < count}
merges = [line for line in (source / "merges.txt").read_text().splitlines()
          if line.startswith("#version") or line.replace(" ", "") in tokens]
folder.mkdir(parents=True)
if sys.argv[4:] == ["whole"]:
    from tokenizers import ByteLevelBPETokenizer

    pairs = [tuple(line.split(" ")) for line in merges if not line.startswith("#version")]
    ByteLevelBPETokenizer(tokens, pairs).save(str(folder / "tokenizer.json"))
    sys.exit()
(folder / "vocab.json").write_text(json.dumps(tokens))
(folder / "merges.txt").write_text("\n".join(merges) + "\n")
