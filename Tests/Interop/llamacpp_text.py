"""Writes LLaMAs with SentencePiece's tokenizers for llama.cpp, which must take text in and give text out as normfold does.

usage: llamacpp_text.py NORMFOLD FOLDER WORK     FOLDER is fixtures/tokenizer/sentencepiece, unpacked

A small random LLaMA is made by transformers, once with tokenizer.model and once with a tokenizer.json with Metaspace beside it. Of each GGUF file
tokens, scores and types must be what the source's files say; llama.cpp must make the ids of generated text that normfold makes of it with
the directory and with the GGUF file; and it must continue a prompt with the text that `normfold generate` gives.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import gguf
import torch
from llamacpp_server import serve
from sentencepiece import sentencepiece_model_pb2
from transformers import LlamaConfig, LlamaForCausalLM

import generated_text

normfold, source, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
MARK = "\u2581"


def fail(message):
    sys.exit(f"FAILED {message}")


def run(*command, **options):
    return subprocess.run([normfold, *map(str, command)], check=True, stdout=subprocess.PIPE, **options).stdout


def texts():
    # A text that starts with a space has one more in llama.cpp than in a Metaspace, and a NUL ends it in some hands.
    lines = generated_text.text(5, 60_000).replace("\0", "").replace(MARK, "")
    pieces = [lines[start:start + 2_000] for start in range(0, len(lines), 2_000)]
    return ["Hello world", "Hello\n  world\n", "caf\u00e9 \u4e2d\u6587 \U0001f600", "x" * 200, "a" + " " * 70 + "b"] + [piece.lstrip(" ") for piece in pieces]


def llama(folder, name):
    torch.manual_seed(17)
    config = LlamaConfig(vocab_size=1_200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=128, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
    model = LlamaForCausalLM(config)
    for name_of, parameter in model.named_parameters():
        if "norm" in name_of:
            parameter.data = 0.5 + torch.rand_like(parameter)
        else:
            parameter.data *= 8
    model.save_pretrained(folder)
    if name == "tokenizer.model":
        shutil.copy(source / "llama.model", folder / "tokenizer.model")
    else:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / "llama" / file, folder / file)


def check_keys(path, name):
    proto = sentencepiece_model_pb2.ModelProto.FromString((source / "llama.model").read_bytes())
    fields = gguf.GGUFReader(path).fields

    def value(key):
        return fields[f"tokenizer.{key}"].contents()

    expected = {"ggml.model": "llama", "ggml.pre": "default", "ggml.tokens": [piece.piece for piece in proto.pieces],
                "ggml.token_type": [int(piece.type) for piece in proto.pieces], "ggml.bos_token_id": 1, "ggml.eos_token_id": 2,
                "ggml.unknown_token_id": 0, "ggml.add_bos_token": True, "ggml.add_space_prefix": True}
    if name == "tokenizer.model":
        expected["ggml.scores"] = [piece.score for piece in proto.pieces]
    else:
        expected["chat_template"] = json.loads((source / "llama/tokenizer_config.json").read_text())["chat_template"]
    for key, wanted in expected.items():
        if value(key) != wanted:
            fail(f"{path}: tokenizer.{key} is {str(value(key))[:200]}, expected {str(wanted)[:200]}")


def main():
    for name in ("tokenizer.model", "tokenizer.json"):
        folder, out = work / name, work / f"{name}-out"
        folder.mkdir(parents=True)
        llama(folder, name)
        run("convert", folder, out, "--for", "llama.cpp", "--to-norm", "unit", "--quiet")
        path = str(out / "model.gguf")
        check_keys(path, name)
        server = serve(path)

        def post(place, body):
            request = urllib.request.Request(server.listening_address + place, json.dumps(body).encode(), {"Content-Type": "application/json"})
            return json.load(urllib.request.urlopen(request))

        count = 0
        for text in texts():
            found = post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
            for tokenizer in (folder, path):
                ids = [1] + json.loads(run("tokenize", tokenizer, "-", "--json", input=text.encode()))["ids"]
                if ids != found:
                    place = next((index for index, pair in enumerate(zip(ids, found)) if pair[0] != pair[1]), min(len(ids), len(found)))
                    fail(f"{path}: llama.cpp makes {found[place:place + 8]} of {text[:60]!r} from token {place} on, {tokenizer} {ids[place:place + 8]}")
            count += len(found)
        for prompt in ("Friends, Romans", "the of and\nto"):
            expected = json.loads(run("generate", folder, "--prompt", prompt, "--max-tokens", "24", "--json"))["text"]
            found = post("/completion", {"prompt": prompt, "n_predict": 24, "temperature": 0, "cache_prompt": False})["content"]
            # Bytes that are no UTF-8 are shown in different ways.
            if found.split("\ufffd")[0] != expected.split("\ufffd")[0]:
                fail(f"{path}: llama.cpp continues {prompt!r} with {found!r}, normfold with {expected!r}")
        print(f"ok  {path}: {count} ids of text are llama.cpp's, and text goes in and out")


main()
