"""Gives a GGUF file of ours to gguf-py and to llama.cpp, and holds its greedy continuation against the source's.

usage: llamacpp.py CONVERTED SOURCE TOKENIZER

gguf-py must list every key with the type that llama.cpp asks for, and every tensor; quantised matrices must be, bit for
bit, what gguf-py itself makes of the source's. llama.cpp must split text as the tokenizer does, and continue a prompt
for 64 tokens with the token that the source network in double precision finds likeliest, wherever that one leads by
more than the error of llama.cpp's own arithmetic. How large that is is measured on the same tokens, without llama.cpp:
on the source, with the matrices rounded to the types of the file, the operands of each product rounded as llama.cpp
rounds them (to Q8_0 beside quantised matrices), and GELU looked up by 16-bit floats.

Exits with 1 and a message at the first thing that is not as it should be.
"""

import copy
import pathlib
import sys

import gguf
import numpy
import torch
from llamacpp_server import serve
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

torch.set_grad_enabled(False)
PROMPT = "ROMEO:\nWhat light"
TEXTS = ["First Citizen:\nBefore we proceed any further, hear me speak.", "it's  1605; o'er\t\t \n\n naïve — “quoted” 東京 🙂",
         "a<|endoftext|>b", "   leading", "trailing   "]
LENGTH = 64
KINDS = {"general.architecture": "STRING", "general.type": "STRING", "general.name": "STRING",
         "general.size_label": "STRING", "general.file_type": "UINT32", "general.quantization_version": "UINT32",
         "gpt2.context_length": "UINT32", "gpt2.embedding_length": "UINT32", "gpt2.feed_forward_length": "UINT32",
         "gpt2.block_count": "UINT32", "gpt2.attention.head_count": "UINT32", "gpt2.vocab_size": "UINT32",
         "gpt2.attention.layer_norm_epsilon": "FLOAT32", "tokenizer.ggml.model": "STRING",
         "tokenizer.ggml.pre": "STRING", "tokenizer.ggml.tokens": "ARRAY STRING",
         "tokenizer.ggml.token_type": "ARRAY INT32", "tokenizer.ggml.merges": "ARRAY STRING",
         "tokenizer.ggml.bos_token_id": "UINT32", "tokenizer.ggml.eos_token_id": "UINT32",
         "tokenizer.ggml.add_bos_token": "BOOL"}
NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
BLOCK_NAMES = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
               "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def fail(message):
    sys.exit(f"FAILED {sys.argv[1]}: {message}")


def gguf_name(name):
    parts = name.removeprefix("transformer.").split(".")
    if parts[0] == "h":
        return f"blk.{parts[1]}.{BLOCK_NAMES['.'.join(parts[2:-1])]}.{parts[-1]}"
    return f"{NAMES[parts[0]]}.{parts[-1]}"


def check_listing(path, source):
    """Keys, names, shapes, types; returns the type of each tensor."""
    reader = gguf.GGUFReader(path)
    for key, kinds in KINDS.items():
        field = reader.fields.get(key)
        found = " ".join(kind.name for kind in field.types) if field else "nothing"
        if found != kinds:
            fail(f"{key}: expected {kinds}, found {found}")
    stored = {tensor.name: tensor for tensor in reader.tensors}
    expected = {gguf_name(name): tensor for name, tensor in source.items() if name != "lm_head.weight"}
    if stored.keys() != expected.keys():
        fail(f"tensors: {sorted(stored.keys() ^ expected.keys())}")
    equal = 0
    for name, tensor in stored.items():
        values = expected[name].float().numpy()
        if values.ndim == 2 and name.split(".")[0] == "blk":
            values = values.T.copy()
        if tuple(tensor.shape[::-1]) != values.shape:
            fail(f"{name}: expected shape {values.shape}, found {tuple(tensor.shape[::-1])}")
        blocks = tensor.tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16,
                                            gguf.GGMLQuantizationType.BF16)
        if (values.ndim == 1 or name == "position_embd.weight") and tensor.tensor_type.name != "F32":
            fail(f"{name}: expected F32, found {tensor.tensor_type.name}")
        if blocks:
            theirs = gguf.quants.quantize(values, tensor.tensor_type)
            if not numpy.array_equal(theirs, tensor.data):
                fail(f"{name}: gguf-py quantises the source's matrix to other bytes")
            equal += 1
    return {name: tensor.tensor_type for name, tensor in stored.items()}, len(reader.fields) - 3, equal


def round_rows(values, kind):
    if kind == gguf.GGMLQuantizationType.F32:
        return values.float()
    rows = numpy.ascontiguousarray(values.float().numpy())
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(rows, kind), kind).copy())


class Product(nn.Module):
    """A linear map as llama.cpp computes it: both operands in the type that it multiplies in."""

    def __init__(self, weight, bias, kind):  # weight: [out, in]
        super().__init__()
        self.weight, self.bias = round_rows(weight, kind), None if bias is None else bias.float()
        plain = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16)
        self.kind = kind if kind in plain else gguf.GGMLQuantizationType.Q8_0

    def forward(self, x):
        rounded = round_rows(x.reshape(-1, x.shape[-1]), self.kind).reshape(x.shape)
        return nn.functional.linear(rounded, self.weight, self.bias)


class TableGELU(nn.Module):
    def forward(self, x):
        return nn.functional.gelu(x.half().float(), approximate="tanh").half().float().where(x < 10, x)


def emulation(model, kinds):
    result = copy.deepcopy(model).float()
    for name, module in list(result.named_modules()):
        if isinstance(module, Conv1D):
            parent = result.get_submodule(name.rpartition(".")[0])
            kind = kinds[gguf_name(name + ".weight")]
            setattr(parent, name.rpartition(".")[2], Product(module.weight.T, module.bias, kind))
    for block in result.transformer.h:
        block.mlp.act = TableGELU()
    table, kind = result.transformer.wte.weight, kinds["token_embd.weight"]
    result.lm_head = Product(table, None, kind)
    result.transformer.wte.weight = nn.Parameter(round_rows(table, kind))
    return result


def main():
    path, folder = f"{sys.argv[1]}/model.gguf", pathlib.Path(sys.argv[2])
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    kinds, key_count, equal = check_listing(path, tensors)
    tokenizer = Tokenizer.from_file(f"{sys.argv[3]}/tokenizer.json")
    source = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float64).eval()
    server = serve(path)

    def complete(text, count):
        answer = server.handle_completions({"prompt": text, "max_tokens": count, "temperature": 0, "logprobs": 4,
                                            "ignore_eos": True, "cache_prompt": False})
        if "choices" not in answer:
            fail(f"llama.cpp says {answer}")
        return answer["usage"]["prompt_tokens"], answer["choices"][0]["logprobs"]["content"]

    for text in TEXTS:
        found, expected = complete(text, 1)[0], len(tokenizer.encode(text).ids)
        if found != expected:
            fail(f"llama.cpp splits {text!r} into {found} tokens, the tokenizer into {expected}")

    prompt = tokenizer.encode(PROMPT).ids
    _, steps = complete(PROMPT, LENGTH)
    chosen = [step["id"] for step in steps]
    if len(chosen) != LENGTH:
        fail(f"expected {LENGTH} tokens, found {len(chosen)}")
    tokens = torch.tensor([prompt + chosen[:-1]])
    logits = source(tokens).logits[0, len(prompt) - 1 :]
    emulated = emulation(source, kinds)(tokens).logits[0, len(prompt) - 1 :].double()
    # Of the tokens that compete, how far the emulation moves one against another; llama.cpp sums in another order, and
    # may err twice as much.
    rivals = logits.topk(8).indices
    lead = logits.gather(1, rivals) - logits.gather(1, rivals[:, :1])
    moved = emulated.gather(1, rivals) - emulated.gather(1, rivals[:, :1])
    error = 2 * (moved - lead).abs().max().item()
    same = judged = 0
    for step, (row, token) in enumerate(zip(logits, chosen)):
        best, second = row.topk(2).values.tolist()
        judged += best - second > error
        same += token == row.argmax().item()
        if best - second > error and token != row.argmax().item():
            fail(f"token {step}: expected {row.argmax().item()}, which leads by {best - second:.3f}, found {token} "
                 f"(error {error:.1e})")
    # The numbers themselves: every log-probability that llama.cpp gives.
    theirs = torch.tensor([[top["logprob"] for top in step["top_logprobs"]] for step in steps]).double()
    ids = torch.tensor([[top["id"] for top in step["top_logprobs"]] for step in steps])
    found = (theirs - logits.log_softmax(-1).gather(1, ids)).abs().max().item()
    beside = (theirs - emulated.log_softmax(-1).gather(1, ids)).abs().max().item()
    if not found <= error:
        fail(f"log-probabilities differ by {found:.2e}, expected at most {error:.2e}")
    print(f"ok  {path}: {len(kinds)} tensors, {key_count} keys, {equal} matrices as gguf-py quantises them; "
          f"{same} of {LENGTH} tokens the source's ({judged} lead by more than {error:.1e}); "
          f"log-probabilities {found:.1e} from the source's, {beside:.1e} from the emulation's")


main()
