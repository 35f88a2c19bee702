"""Makes a smaller byte-level BPE of a larger one: its first tokens, and the merges that make them.

usage: small_tokenizer.py TOKENIZER COUNT FOLDER
"""

import json
import pathlib
import sys

source, count, folder = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
tokens = {text: number for text, number in json.loads((source / "vocab.json").read_text()).items() if number < count}
merges = [line for line in (source / "merges.txt").read_text().splitlines()
          if line.startswith("#version") or line.replace(" ", "") in tokens]
folder.mkdir(parents=True)
(folder / "vocab.json").write_text(json.dumps(tokens))
(folder / "merges.txt").write_text("\n".join(merges) + "\n")
