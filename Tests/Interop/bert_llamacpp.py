"""Writes a published BERT, and a small random DistilBERT, for llama.cpp, which must make the same ids and vectors of texts.

usage: bert_llamacpp.py NORMFOLD SOURCE WORK     SOURCE is fixtures/found/paraphrase-minilm-l3, unpacked

transformers computes the vectors of the source (means of the states of tokens) with the GELU by tanh that llama.cpp has, in double precision.
llama.cpp's are divided by their length. Limits of 1 - cosine: its GELU comes from a table of 16-bit floats. With Q8_0 weights it rounds the states that they are multiplied with to Q8_0,
too: weights alone make up to 1.3e-4 of these texts, states alone 9e-5, both 2.3e-4 (worked out with torch from the file); the limit is four
times that.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import gguf
import numpy
import torch
import xllamacpp
from tokenizers import Tokenizer
from transformers import BertModel, DistilBertConfig, DistilBertModel

torch.set_grad_enabled(False)
normfold, source, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
LIMITS = {"f32": 1e-6, "f16": 2e-6, "q8_0": 1e-3}


def fail(message):
    sys.exit(f"FAILED {message}")


def serve(path):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.embedding = True
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_parallel = params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers, params.warmup, params.verbosity = 0, False, -1
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(params)


def main():
    texts = [item["text"] for item in json.loads((source / "tokenized.json").read_text()) if "pair" not in item]
    folder = work / "source"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(source / name, folder / name)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
               {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = BertModel.from_pretrained(folder, dtype=torch.float64, hidden_act="gelu_pytorch_tanh", add_pooling_layer=False).eval()
    compare(folder, model, tokenizer, texts, work, LIMITS)
    # A small random DistilBERT with the same tokenizer, which llama.cpp takes for a BERT without token types.
    torch.manual_seed(29)
    config = DistilBertConfig(vocab_size=tokenizer.get_vocab_size(), dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=256,
                              activation="gelu_pytorch_tanh")
    model = DistilBertModel(config).double().eval()
    for name, parameter in model.named_parameters():
        parameter.copy_((1 + 0.3 * torch.randn_like(parameter) if "norm" in name.lower() and name.endswith("weight") else 0.2 * torch.randn_like(parameter)).float())
    other = work / "distilbert"
    shutil.copytree(folder, other)
    (other / "model.safetensors").unlink()
    model.float().save_pretrained(other)
    compare(other, model.double(), tokenizer, texts, work / "distilbert-out", {"f32": LIMITS["f32"]})


def compare(folder, model, tokenizer, texts, work, limits):
    expected = []
    for text in texts:
        state = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)
        expected.append((state / state.norm()).numpy())
    for type_name, limit in limits.items():
        out = work / type_name
        subprocess.run([normfold, "convert", folder, out, "--for", "llama.cpp", "--type", type_name, "--allow-partial", "--allow-approximate-activation",
                        "--quiet"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = str(out / "model.gguf")
        fields = gguf.GGUFReader(path).fields
        if fields["bert.pooling_type"].contents() != 1:
            fail(f"{path}: the pooling type is {fields['bert.pooling_type'].contents()}")
        server = serve(path)

        def post(place, body):
            request = urllib.request.Request(server.listening_address + place, json.dumps(body).encode(), {"Content-Type": "application/json"})
            return json.load(urllib.request.urlopen(request))

        worst, differing = 0, []
        for text, vector in zip(texts, expected):
            ids = post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
            if ids != tokenizer.encode(text).ids:
                differing.append((text, ids, tokenizer.encode(text).ids))
            found = numpy.array(post("/v1/embeddings", {"input": text})["data"][0]["embedding"])
            difference = 1 - float(found @ vector / numpy.linalg.norm(found))
            if ids == tokenizer.encode(text).ids:
                worst = max(worst, difference)
        # llama.cpp keeps formats that BERT takes out: a soft hyphen, a space of no width.
        if any("\u00ad" not in text and "\u200b" not in text for text, _, _ in differing):
            fail(f"{path}: other ids: {differing}")
        if not worst <= limit:
            fail(f"{path}: 1 - cosine is {worst:.1e}, limit {limit:.0e}")
        print(f"ok  {path}: the vectors of {len(texts) - len(differing)} texts, 1 - cosine up to {worst:.1e}; {len(differing)} with other ids")


main()
