import re
from collections import Counter

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

df = pd.read_csv("data/train.csv")
test_df = pd.read_csv("data/test.csv")
words = lambda s: re.findall(r"[a-z]+(?:'[a-z]+)?|[!?]", s.lower())


class DAN(nn.Module):
    def __init__(self, n_words, dim=100, hidden=64, word_drop=0.2):
        super().__init__()
        self.word_drop = word_drop
        self.emb = nn.Embedding(n_words, dim, padding_idx=0)
        self.mlp = nn.Sequential(nn.Dropout(0.3), nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden, 1))

    def forward(self, x):
        keep = x != 0
        if self.training:
            keep = keep & (torch.rand(x.shape) > self.word_drop)
        keep = keep.unsqueeze(-1).float()
        avg = (self.emb(x) * keep).sum(1) / keep.sum(1).clamp(min=1)
        return self.mlp(avg).squeeze(1)


def build_vocab(texts):
    c = Counter(w for t in texts for w in set(words(t)))
    return {w: i + 2 for i, w in enumerate(sorted(w for w, n in c.items() if n >= 2))}


def vectorize(texts, vocab):
    ids = [[vocab.get(w, 1) for w in words(t)] or [1] for t in texts]
    out = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
    for i, row in enumerate(ids):
        out[i, : len(row)] = torch.tensor(row)
    return out


def fit(x, y, n_words, seed, epochs=12):
    torch.manual_seed(seed)
    model = DAN(n_words)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(epochs):
        model.train()
        for idx in torch.randperm(len(x)).split(32):
            opt.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x[idx]), y[idx]).backward()
            opt.step()
    return model.eval()


@torch.no_grad()
def proba(model, x):
    return torch.sigmoid(model(x)).numpy()


skf = StratifiedKFold(n_splits=5, shuffle=True, random_state=42)
oof, test_pred, scores = np.zeros(len(df)), np.zeros(len(test_df)), []
for fold, (tr, va) in enumerate(skf.split(df.text, df.label)):
    vocab = build_vocab(df.text.iloc[tr])
    model = fit(vectorize(df.text.iloc[tr], vocab), torch.tensor(df.label.to_numpy()[tr], dtype=torch.float), len(vocab) + 2, fold)
    oof[va] = proba(model, vectorize(df.text.iloc[va], vocab))
    test_pred += proba(model, vectorize(test_df.text, vocab)) / skf.n_splits
    scores.append(accuracy_score(df.label.iloc[va], oof[va] > 0.5))
    print(f"fold {fold}: words {len(vocab)} accuracy {scores[-1]:.4f}")
print(f"CV accuracy {np.mean(scores):.4f} +- {np.std(scores):.4f}, OOF F1 {f1_score(df.label, oof > 0.5):.4f}")
print(f"test accuracy of the averaged folds {accuracy_score(test_df.label, test_pred > 0.5):.4f}")
