"""Steps of fine-tuning a GPT-2 small shape in plain PyTorch on a CPU: what a researcher would write. Random weights.

train_torch.py BATCH LENGTH STEPS THREADS

Prints a line when a step has ended, and at the end the peak of resident memory in MB.
"""
import resource
import sys

import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

batch, length, steps, threads = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(0)
configuration = GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, attn_implementation="sdpa", use_cache=False)
model = GPT2LMHeadModel(configuration).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
for step in range(steps):
    ids = torch.randint(0, configuration.vocab_size, (batch, length))
    logits = model(ids).logits
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, configuration.vocab_size), ids[:, 1:].reshape(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    print(step, f"{loss.item():.4f}", flush=True)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
