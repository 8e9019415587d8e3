# A GRU with attention, SGD + Nesterov momentum, OneCycleLR.
import math
import re
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.manual_seed(21)
word = re.compile(r"[\w']+|[^\w\s]")
frames = {p.stem: pd.read_csv(p) for p in Path("data").glob("*.csv") if p.stem in {"train", "valid", "test"}}
stoi = {"<pad>": 0, "<unk>": 1}
for s in frames["train"]["text"]:
    for w in word.findall(s.lower()):
        stoi.setdefault(w, len(stoi))


def numericalize(df):
    return [(torch.tensor([stoi.get(w, 1) for w in word.findall(s.lower())]), y) for s, y in zip(df.text, df.label)]


def collate(b):
    return pad_sequence([x for x, _ in b], batch_first=True), torch.tensor([y for _, y in b])


class AttnGRU(nn.Module):
    def __init__(self, v, d=64, h=48):
        super().__init__()
        self.e = nn.Embedding(v, d, padding_idx=0)
        self.g = nn.GRU(d, h, batch_first=True, bidirectional=True)
        self.a = nn.Linear(2 * h, 1)
        self.do = nn.Dropout(0.3)
        self.o = nn.Linear(2 * h, 2)
        nn.init.normal_(self.e.weight, std=0.3)
        with torch.no_grad():
            self.e.weight[0].zero_()

    def forward(self, x):
        h, _ = self.g(self.do(self.e(x)))
        score = self.a(torch.tanh(h)).squeeze(-1).masked_fill(x == 0, -1e9)
        return self.o(self.do((score.softmax(1).unsqueeze(-1) * h).sum(1)))


train = DataLoader(numericalize(frames["train"]), 16, shuffle=True, collate_fn=collate)
valid = DataLoader(numericalize(frames["valid"]), 100, collate_fn=collate)
test = DataLoader(numericalize(frames["test"]), 100, collate_fn=collate)
net = AttnGRU(len(stoi))
epochs = 10
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-5)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.15, epochs=epochs, steps_per_epoch=len(train), pct_start=0.3)


def accuracy(loader):
    net.eval()
    with torch.no_grad():
        hit = [(net(x).argmax(1) == y).float() for x, y in loader]
    return torch.cat(hit).mean().item()


for ep in range(epochs):
    net.train()
    smooth = None
    for x, y in train:
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        sched.step()
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
    print(f"{ep}: loss {smooth:.3f} valid {accuracy(valid):.3f} lr {sched.get_last_lr()[0]:.4f}")
print(f"test {accuracy(test):.3f}")
