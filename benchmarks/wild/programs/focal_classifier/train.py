import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer


def focal_loss(input_values, gamma):
    """Computes the focal loss"""
    p = torch.exp(-input_values)
    loss = (1 - p) ** gamma * input_values
    return loss.mean()


class FocalLoss(nn.Module):
    def __init__(self, weight=None, gamma=2.0):
        super().__init__()
        assert gamma >= 0
        self.gamma = gamma
        self.weight = weight

    def forward(self, input, target):
        return focal_loss(F.cross_entropy(input, target, weight=self.weight), self.gamma)


class Classifier(nn.Module):
    def __init__(self, path, n_out):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(path)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(self.encoder.config.hidden_size, n_out)

    def forward(self, ids, mask):
        h = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        m = mask.unsqueeze(-1).float()
        return self.out(self.drop((h * m).sum(1) / m.sum(1)))


torch.manual_seed(2)
tok = AutoTokenizer.from_pretrained("models/small-bert")
df = pd.read_csv("data/train.csv")
df = pd.concat([df[df.label == 0], df[df.label == 1].sample(200, random_state=2)]).sample(frac=1, random_state=2)
valid = pd.read_csv("data/valid.csv")


def to_batch(rows):
    e = tok([r[0] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return e["input_ids"], e["attention_mask"], torch.tensor([r[1] for r in rows])


train_dl = DataLoader(list(zip(df.text, df.label)), batch_size=16, shuffle=True, collate_fn=to_batch)
valid_dl = DataLoader(list(zip(valid.text, valid.label)), batch_size=64, collate_fn=to_batch)

net = Classifier("models/small-bert", 2)
criterion = FocalLoss(gamma=2.0)
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4)

net.train()
meter = []
for it, (ids, mask, y) in enumerate(train_dl):
    loss = criterion(net(ids, mask), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    meter.append(loss.item())
    if (it + 1) % 20 == 0:
        print(f"iter {it + 1}/{len(train_dl)}  focal loss {np.mean(meter[-20:]):.4f}")

net.eval()
guess, gold = [], []
with torch.no_grad():
    for ids, mask, y in valid_dl:
        guess += net(ids, mask).argmax(1).tolist()
        gold += y.tolist()
print(f"valid accuracy {np.mean(np.array(guess) == np.array(gold)):.4f}  balanced {balanced_accuracy_score(gold, guess):.4f}")
