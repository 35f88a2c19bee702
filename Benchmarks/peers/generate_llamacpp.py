#!/usr/bin/env python3
"""Tokens in a second that normfold and llama.cpp generate from the same GGUF file, by turns. Prints tab-separated figures.

generate_llamacpp.py NORMFOLD MODEL.gguf [--tokens N] [--rounds N] [--threads N]

Needs xllamacpp, which has llama.cpp in it. Both read a prompt of 16 tokens and take the top-1 token each time; what is timed are the
tokens behind the first.
"""
import argparse
import json
import os
import statistics
import subprocess

import xllamacpp

arguments = argparse.ArgumentParser()
arguments.add_argument("normfold")
arguments.add_argument("model")
arguments.add_argument("--tokens", type=int, default=128)
arguments.add_argument("--rounds", type=int, default=5)
arguments.add_argument("--threads", type=int, default=os.cpu_count())
options = arguments.parse_args()
prompt = list(range(100, 116))

params = xllamacpp.CommonParams()
params.model.path = options.model
params.n_ctx = 2 * options.tokens
params.n_parallel = 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
params.n_gpu_layers, params.verbosity = 0, -1
server = xllamacpp.Server(params)


def llamacpp():
    answer = server.handle_completions({
        "prompt": prompt, "n_predict": options.tokens, "ignore_eos": True, "temperature": 0, "cache_prompt": False})
    answer = json.loads(answer) if isinstance(answer, str) else answer
    return answer["timings"]["predicted_per_second"]


def normfold():
    output = subprocess.run(
        [options.normfold, "generate", options.model, "--prompt-tokens", ",".join(map(str, prompt)),
         "-n", str(options.tokens), "--ignore-eot", "--threads", str(options.threads), "--json"],
        check=True, capture_output=True)
    return 1 / json.loads(output.stdout)["secondsPerToken"]


rates = [(normfold(), llamacpp()) for _ in range(options.rounds + 1)][1:]
print(f"normfold generate\t{statistics.median(own for own, _ in rates)}\ttokens/s")
print(f"llama.cpp\t{statistics.median(other for _, other in rates)}\ttokens/s")
print(f"normfold generate over llama.cpp\t{statistics.median(own / other for own, other in rates)}\tratio")
