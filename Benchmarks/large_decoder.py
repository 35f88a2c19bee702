"""Makes a decoder of 1.1 or 6.7 billion parameters in the shape of a LLaMA, converts it, and says how much memory of its own that took.

usage: large_decoder.py NORMFOLD FOLDER [--size 1b|7b] [--type TYPE] [--blocks N] [TARGET …]        with numpy

1b has 22 layers, width 2,048, 32 heads of which 4 have keys and values, and an MLP of 5,632; 7b has 32 layers, width 4,096, 32 heads
with keys and values each, and an MLP of 11,008. Both have a vocabulary of 32,000, a context of 2,048, and random weights in bfloat16, in
three shards with their index, 2.2 and 13.5 GB. Each target is one conversion with --to-norm unit and --max-shard-size 1GB; without one,
transformers, llama.cpp and onnxruntime. The memory is RssAnon of /proc, read every 10 ms: what the kernel cannot take back by writing
nothing. The same output, made before, is copied with cp as well, until the copy is on the disk. FOLDER keeps the checkpoint; outputs are removed.
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

HEADS, VOCABULARY = 32, 32000
SIZES = {
    "1b": {"blocks": 22, "width": 2048, "hidden": 5632, "groups": 4},
    "7b": {"blocks": 32, "width": 4096, "hidden": 11008, "groups": 32},
}


def tensors(blocks, width, hidden, groups):
    """Names and shapes, in the order of the file."""
    key = width // HEADS * groups
    yield "model.embed_tokens.weight", (VOCABULARY, width)
    for block in range(blocks):
        at = f"model.layers.{block}."
        yield at + "input_layernorm.weight", (width,)
        for name, rows in ("q", width), ("k", key), ("v", key):
            yield f"{at}self_attn.{name}_proj.weight", (rows, width)
        yield at + "self_attn.o_proj.weight", (width, width)
        yield at + "post_attention_layernorm.weight", (width,)
        for name in "gate", "up":
            yield f"{at}mlp.{name}_proj.weight", (hidden, width)
        yield at + "mlp.down_proj.weight", (width, hidden)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (VOCABULARY, width)


def numbers(random, name, shape):
    """Random numbers of the size that training begins with, as bfloat16: the upper half of a float32."""
    values = random.standard_normal(shape, dtype=numpy.float32) * (0.2 if "norm" in name else 0.02)
    if "norm" in name:
        values += 1
    bits = values.view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def make(folder, shape):
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(11)
    all_tensors = list(tensors(**shape))
    total = sum(2 * int(numpy.prod(dimensions)) for _, dimensions in all_tensors)
    shards, size = [[]], 0
    for name, dimensions in all_tensors:
        if size > total * len(shards) / 3:
            shards.append([])
        shards[-1].append((name, dimensions))
        size += 2 * int(numpy.prod(dimensions))
    index = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for name, dimensions in shard:
            end = offset + 2 * int(numpy.prod(dimensions))
            header[name] = {"dtype": "BF16", "shape": list(dimensions), "data_offsets": [offset, end]}
            offset, index[name] = end, file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as output:
            output.write(struct.pack("<Q", len(text)) + text)
            for name, dimensions in shard:
                numbers(random, name, dimensions).tofile(output)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": shape["width"],
        "intermediate_size": shape["hidden"], "max_position_embeddings": 2048, "num_attention_heads": HEADS,
        "num_hidden_layers": shape["blocks"], "num_key_value_heads": shape["groups"], "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
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
    parser.add_argument("--size", choices=SIZES, default="1b")
    parser.add_argument("--blocks", type=int)
    arguments = parser.parse_args()
    shape = dict(SIZES[arguments.size])
    shape["blocks"] = arguments.blocks or shape["blocks"]
    source = arguments.folder / f"llama-{arguments.size}-{shape['blocks']}"
    output, copy, first = arguments.folder / "out", arguments.folder / "copy", arguments.folder / "first"
    if not source.exists():
        make(source, shape)
    print("| target | type | s | cp of the output, s | over cp | anonymous MB | peak RSS MB | files |\n|---|---|---|---|---|---|---|---|")
    for target in arguments.targets:
        command = [
            arguments.normfold, "convert", source, output, "--for", target, "--to-norm", "unit", "--type", arguments.type,
            "--tokenizer", "none", "--max-shard-size", "1GB", "--quiet"]
        for folder in output, copy, first:
            shutil.rmtree(folder, ignore_errors=True)
        status, _, _, _, text = run(command)
        if status != 0:
            sys.exit(f"{target}: status {status}\n{text}")
        output.rename(first)
        # Both find the machine as it is a while after much memory became free: a virtual machine has given it back by then.
        time.sleep(15)
        start = time.monotonic()
        subprocess.run(["cp", "-r", first, copy], check=True)
        subprocess.run(["sync", *copy.iterdir()], check=True)
        copying = time.monotonic() - start
        shutil.rmtree(copy)
        time.sleep(15)
        _, seconds, own, resident, _ = run(command)
        files = sum(file.stat().st_size > 1 << 20 for file in output.iterdir())
        print(
            f"| {target} | {arguments.type} | {seconds:.1f} | {copying:.1f} | {seconds / copying:.2f} | {own:.0f} | {resident:.0f} "
            f"| {files} |", flush=True)
        for folder in output, first:
            shutil.rmtree(folder)


main()
