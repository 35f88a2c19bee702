"""Tokens per second of transformers' GPT2LMHeadModel in float32, all logits: forward_torch.py CHECKPOINT THREADS TOKENS…"""
import statistics
import sys
import time

import torch
from transformers import GPT2LMHeadModel

torch.set_grad_enabled(False)
torch.set_num_threads(int(sys.argv[2]))
model = GPT2LMHeadModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
for count in map(int, sys.argv[3:]):
    tokens = torch.randint(model.config.vocab_size, (1, count))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        model(tokens, use_cache=False)
        times.append(time.perf_counter() - start)
    print(f"PyTorch, forward, {count} tokens\t{count / statistics.median(times[1:])}\ttokens/s")
