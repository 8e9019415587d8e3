"""
Trains a small transformer encoder from scratch. Overrides from the command line:
$ python train.py --max_iters=200 --compile=True
"""
import math
import re
import sys
import time

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F

# -----------------------------------------------------------------------------
eval_interval = 60
log_interval = 20
batch_size = 32
block_size = 32
n_layer, n_head, n_embd, dropout = 2, 4, 64, 0.2
learning_rate = 2e-3
max_iters = 300
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.98
grad_clip = 1.0
warmup_iters = 30
lr_decay_iters = 300
min_lr = 1e-4
seed = 1337
compile = False  # use PyTorch 2.0 to compile the model to be faster
# -----------------------------------------------------------------------------
config_keys = [k for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float, bool, str))]
for arg in sys.argv[1:]:
    key, val = arg.removeprefix("--").split("=")
    assert key in config_keys, key
    globals()[key] = type(globals()[key])(eval(val))

torch.manual_seed(seed)
rng = np.random.default_rng(seed)
words = lambda s: re.findall(r"\w+|[^\w\s]", s.lower())
data = {s: pd.read_csv(f"data/{s}.csv") for s in ("train", "valid")}
stoi = {"<pad>": 0, "<unk>": 1, "<cls>": 2}
for s in data["train"].text:
    for w in words(s):
        stoi.setdefault(w, len(stoi))


def encode(df):
    x = np.zeros((len(df), block_size), dtype=np.int64)
    for i, s in enumerate(df.text):
        ids = [2] + [stoi.get(w, 1) for w in words(s)]
        ids = ids[:block_size]
        x[i, : len(ids)] = ids
    return torch.from_numpy(x), torch.from_numpy(df.label.to_numpy().astype(np.int64))


tensors = {k: encode(v) for k, v in data.items()}


def batches():
    x, y = tensors["train"]
    while True:
        for idx in np.array_split(rng.permutation(len(x)), math.ceil(len(x) / batch_size)):
            yield x[idx], y[idx]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv, self.proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout))
        self.drop = nn.Dropout(dropout)

    def forward(self, x, mask):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.qkv(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout if self.training else 0.0)
        x = x + self.drop(self.proj(y.transpose(1, 2).reshape(B, T, C)))
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(len(stoi), n_embd, padding_idx=0), nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layer))
        self.ln_f, self.head = nn.LayerNorm(n_embd), nn.Linear(n_embd, 2)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02 if isinstance(module, nn.Linear) else 0.1)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()

    def forward(self, idx, targets=None):
        keep = idx != 0
        x = self.drop(self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device)))
        for block in self.blocks:
            x = block(x, keep[:, None, None, :])
        m = keep.unsqueeze(-1).float()
        logits = self.head((self.ln_f(x) * m).sum(1) / m.sum(1))
        return logits, None if targets is None else F.cross_entropy(logits, targets)


model = Encoder()
decay = [p for p in model.parameters() if p.dim() >= 2]
nodecay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}],
    lr=learning_rate, betas=(beta1, beta2))
if compile:
    model = torch.compile(model)


@torch.no_grad()
def estimate_loss():
    model.eval()
    x, y = tensors["valid"]
    logits, loss = model(x, y)
    model.train()
    return loss.item(), (logits.argmax(1) == y).float().mean().item()


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


t0 = time.time()
for it, (X, Y) in enumerate(batches()):
    lr = get_lr(it)
    for group in optimizer.param_groups:
        group["lr"] = lr
    if it % eval_interval == 0:
        loss, acc = estimate_loss()
        print(f"step {it}: val loss {loss:.4f}, val acc {acc:.4f}")
    if it >= max_iters:
        break
    _, loss = model(X, Y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if it % log_interval == 0:
        print(f"iter {it}: loss {loss.item():.4f}, time {(time.time() - t0) * 1000:.0f}ms, lr {lr:.2e}")
        t0 = time.time()
