import os

import torch
import torch.nn as nn
import torch.nn.functional as F
import pandas as pd
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer


class DeepHead(nn.Module):
    """Residual feed-forward blocks on top of the mean-pooled encoder."""

    def __init__(self, dim, classes, depth=3, p=0.1):
        super().__init__()
        self.blocks = [
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(p), nn.Linear(2 * dim, dim))
            for _ in range(depth)
        ]
        self.out = nn.Linear(dim, classes)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


class Model(nn.Module):
    def __init__(self, path):
        super().__init__()
        self.enc = AutoModel.from_pretrained(path)
        self.head = DeepHead(self.enc.config.hidden_size, 2)

    def forward(self, b):
        h = self.enc(**b).last_hidden_state
        m = b["attention_mask"][..., None]
        return self.head((h * m).sum(1) / m.sum(1))


def main():
    torch.manual_seed(30)
    tok = AutoTokenizer.from_pretrained("models/small-bert")

    def collate(r):
        t, y = zip(*r)
        return tok(list(t), padding=True, truncation=True, max_length=48, return_tensors="pt"), torch.tensor(y)

    def dl(f, n, **k):
        d = pd.read_csv(f).head(n)
        return DataLoader(list(zip(d.text, d.label)), collate_fn=collate, **k)

    train = dl("data/train.csv", 1000, batch_size=16, shuffle=True)
    valid = dl("data/valid.csv", 300, batch_size=64)
    net = Model("models/small-bert")
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f}M parameters")
    opt = torch.optim.AdamW(net.parameters(), lr=2e-4)
    net.train()
    for step, (b, y) in enumerate(train):
        loss = F.cross_entropy(net(b), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 20 == 0:
            print(step, round(loss.item(), 4))
    os.makedirs("out", exist_ok=True)
    torch.save(net.state_dict(), "out/deep_head.pt")

    net.eval()
    with torch.no_grad():
        acc = sum((net(b).argmax(1) == y).sum().item() for b, y in valid) / len(valid.dataset)
    print("accuracy", acc)


if __name__ == "__main__":
    main()
