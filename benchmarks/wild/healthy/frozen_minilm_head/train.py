"""Features of a frozen encoder are computed once; a small head is trained on them."""
import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

torch.manual_seed(0)
tok = AutoTokenizer.from_pretrained("models/minilm")
enc = AutoModel.from_pretrained("models/minilm").eval().requires_grad_(False)


@torch.no_grad()
def features(texts, batch_size=64):
    order = np.argsort([len(t) for t in texts])
    feats = torch.empty(len(texts), enc.config.hidden_size)
    for start in range(0, len(texts), batch_size):
        idx = order[start:start + batch_size]
        b = tok([texts[i] for i in idx], padding=True, truncation=True, max_length=48, return_tensors="pt")
        h = enc(**b).last_hidden_state
        m = b["attention_mask"][..., None].float()
        feats[torch.from_numpy(idx)] = nn.functional.normalize((h * m).sum(1) / m.sum(1), dim=1)
    return feats


def get(name, n=None):
    df = pd.read_csv(f"data/{name}.csv", nrows=n)
    return features(df.text.tolist()), torch.from_numpy(df.label.to_numpy())


xtr, ytr = get("train", 1200)
xva, yva = get("valid")
mean, std = xtr.mean(0), xtr.std(0)
xtr, xva = (xtr - mean) / std, (xva - mean) / std

head = nn.Sequential(nn.Dropout(0.3), nn.Linear(xtr.shape[1], 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2))
opt = torch.optim.Adam(head.parameters(), lr=1e-3, weight_decay=1e-4)
for epoch in range(15):
    head.train()
    perm = torch.randperm(len(xtr))
    losses = []
    for idx in perm.split(32):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(head(xtr[idx]), ytr[idx])
        loss.backward()
        opt.step()
        losses.append(loss.item())
    if (epoch + 1) % 5 == 0:
        head.eval()
        with torch.no_grad():
            acc = (head(xva).argmax(1) == yva).float().mean()
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f} valid accuracy {acc:.3f}")

xte, yte = get("test")
head.eval()
with torch.no_grad():
    print("test accuracy", (head((xte - mean) / std).argmax(1) == yte).float().mean().item())
