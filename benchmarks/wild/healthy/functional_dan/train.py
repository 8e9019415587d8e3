"""Purely functional training with torch.func: per-example gradients, clipped one by one."""
import re

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad_and_value, vmap

torch.manual_seed(0)
WIDTH = 32
tokenize = lambda s: re.findall(r"\w+|[!?.,]", s.lower())
train, valid = pd.read_csv("data/train.csv"), pd.read_csv("data/valid.csv")
counts = pd.Series([w for s in train.text for w in tokenize(s)]).value_counts()
vocab = {w: i + 2 for i, w in enumerate(counts.index[counts >= 2])}


def encode(df):
    x = np.zeros((len(df), WIDTH), dtype=np.int64)
    for r, s in enumerate(df.text):
        ids = [vocab.get(w, 1) for w in tokenize(s)][:WIDTH]
        x[r, : len(ids)] = ids
    return torch.from_numpy(x), torch.from_numpy(df.label.to_numpy())


class Net(torch.nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(len(vocab) + 2, dim) * 0.1)
        self.hidden = torch.nn.Linear(dim, 32)
        self.out = torch.nn.Linear(32, 2)

    def forward(self, x):
        mask = (x > 0).to(self.table.dtype).unsqueeze(-1)
        mean = (self.table[x] * mask).sum(-2) / mask.sum(-2).clamp(min=1)
        return self.out(torch.tanh(self.hidden(mean)))


net = Net()
params = {k: v.detach() for k, v in net.named_parameters()}


def example_loss(p, x, y):
    return F.cross_entropy(functional_call(net, p, (x.unsqueeze(0),)), y.unsqueeze(0))


per_example = vmap(grad_and_value(example_loss), in_dims=(None, 0, 0))


def clipped_mean(grads, limit):
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
    factor = (limit / (norms + 1e-6)).clamp(max=1.0)
    return {k: torch.einsum("n,n...->...", factor, g) / len(factor) for k, g in grads.items()}


def adam_init(p):
    return {k: torch.zeros_like(v) for k, v in p.items()}, {k: torch.zeros_like(v) for k, v in p.items()}, 0


def adam(p, g, state, lr=1e-2, b1=0.9, b2=0.999, eps=1e-8):
    m, v, t = state
    t += 1
    m = {k: b1 * m[k] + (1 - b1) * g[k] for k in p}
    v = {k: b2 * v[k] + (1 - b2) * g[k] ** 2 for k in p}
    new = {k: p[k] - lr * (m[k] / (1 - b1**t)) / ((v[k] / (1 - b2**t)).sqrt() + eps) for k in p}
    return new, (m, v, t)


x_train, y_train = encode(train)
x_valid, y_valid = encode(valid)
state = adam_init(params)
for epoch in range(3):
    losses = []
    for idx in torch.randperm(len(x_train)).split(32):
        grads, loss = per_example(params, x_train[idx], y_train[idx])
        params, state = adam(params, clipped_mean(grads, 1.0), state)
        losses.append(loss.mean().item())
    acc = (functional_call(net, params, (x_valid,)).argmax(1) == y_valid).float().mean().item()
    print(f"epoch {epoch} loss {np.mean(losses):.4f} valid accuracy {acc:.4f}")
