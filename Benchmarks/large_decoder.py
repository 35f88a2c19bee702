"""Makes a decoder of 1.1 billion parameters in the shape of a LLaMA, converts it, and says how much memory of its own that took.

usage: large_decoder.py NORMFOLD FOLDER [--type TYPE] [--blocks N] [TARGET …]        with numpy

22 layers, width 2,048, 32 heads of which 4 have keys and values, an MLP of 5,632, a vocabulary of 32,000, a context of 2,048: random
weights in bfloat16, in three shards with their index, 2.2 GB. Each target is one conversion with --to-norm unit and --max-shard-size 1GB;
without one, transformers, llama.cpp and onnxruntime. The memory is RssAnon of /proc, read every 10 ms: what the kernel cannot take back
by writing nothing. FOLDER keeps the checkpoint; outputs are removed.
"""

import argparse
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import time

import numpy

WIDTH, HIDDEN, HEADS, GROUPS, VOCABULARY = 2048, 5632, 32, 4, 32000


def tensors(blocks):
    """Names and shapes, in the order of the file."""
    key = WIDTH // HEADS * GROUPS
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    for block in range(blocks):
        at = f"model.layers.{block}."
        yield at + "input_layernorm.weight", (WIDTH,)
        for name, rows in ("q", WIDTH), ("k", key), ("v", key):
            yield f"{at}self_attn.{name}_proj.weight", (rows, WIDTH)
        yield at + "self_attn.o_proj.weight", (WIDTH, WIDTH)
        yield at + "post_attention_layernorm.weight", (WIDTH,)
        for name in "gate", "up":
            yield f"{at}mlp.{name}_proj.weight", (HIDDEN, WIDTH)
        yield at + "mlp.down_proj.weight", (WIDTH, HIDDEN)
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (VOCABULARY, WIDTH)


def numbers(random, name, shape):
    """Random numbers of the size that training begins with, as bfloat16: the upper half of a float32."""
    values = random.standard_normal(shape, dtype=numpy.float32) * (0.2 if "norm" in name else 0.02)
    if "norm" in name:
        values += 1
    bits = values.view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def make(folder, blocks):
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(11)
    all_tensors = list(tensors(blocks))
    total = sum(2 * int(numpy.prod(shape)) for _, shape in all_tensors)
    shards, size = [[]], 0
    for name, shape in all_tensors:
        if size > total * len(shards) / 3:
            shards.append([])
        shards[-1].append((name, shape))
        size += 2 * int(numpy.prod(shape))
    index = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for name, shape in shard:
            end = offset + 2 * int(numpy.prod(shape))
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
            offset, index[name] = end, file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as output:
            output.write(struct.pack("<Q", len(text)) + text)
            for name, shape in shard:
                numbers(random, name, shape).tofile(output)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": WIDTH,
        "intermediate_size": HIDDEN, "max_position_embeddings": 2048, "num_attention_heads": HEADS,
        "num_hidden_layers": blocks, "num_key_value_heads": GROUPS, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}))


def run(command):
    """Runs a command. Returns its status, its seconds, and its largest RssAnon in MB with that of all its memory."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    largest = {"RssAnon": 0, "VmHWM": 0}
    while process.poll() is None:
        try:
            for line in open(f"/proc/{process.pid}/status"):
                key = line.split(":")[0]
                if key in largest:
                    largest[key] = max(largest[key], int(line.split()[1]))
        except (OSError, ProcessLookupError):
            pass
        time.sleep(0.01)
    return process.returncode, time.monotonic() - start, largest["RssAnon"] / 1000, largest["VmHWM"] / 1000, process.stdout.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("normfold")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("targets", nargs="*", default=["transformers", "llama.cpp", "onnxruntime"])
    parser.add_argument("--type", default="f32")
    parser.add_argument("--blocks", type=int, default=22)
    arguments = parser.parse_args()
    source, output = arguments.folder / f"llama-{arguments.blocks}", arguments.folder / "out"
    if not source.exists():
        make(source, arguments.blocks)
    print("| target | type | s | anonymous MB | peak RSS MB | files |\n|---|---|---|---|---|---|")
    for target in arguments.targets:
        shutil.rmtree(output, ignore_errors=True)
        status, seconds, own, resident, text = run([
            arguments.normfold, "convert", source, output, "--for", target, "--to-norm", "unit", "--type", arguments.type,
            "--tokenizer", "none", "--max-shard-size", "1GB", "--quiet"])
        if status != 0:
            sys.exit(f"{target}: status {status}\n{text}")
        files = sum(file.stat().st_size > 1 << 20 for file in output.iterdir())
        print(f"| {target} | {arguments.type} | {seconds:.0f} | {own:.0f} | {resident:.0f} | {files} |", flush=True)
        shutil.rmtree(output)


main()
