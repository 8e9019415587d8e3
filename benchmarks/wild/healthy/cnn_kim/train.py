# Convolutional Neural Networks for Sentence Classification, small re-implementation
import copy
import re
from collections import Counter

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


def clean_str(string):
    string = re.sub(r"[^A-Za-z0-9(),!?\'\`]", " ", string)
    string = re.sub(r"(n't|'s|'ve|'re|'d|'ll|,|!|\?)", r" \1 ", string)
    return re.sub(r"\s{2,}", " ", string).strip().lower()


class Reviews(Dataset):
    MAXLEN = 40

    def __init__(self, path, vocab=None):
        df = pd.read_csv(path)
        self.sents = [clean_str(s).split() for s in df["text"]]
        self.y = df["label"].to_numpy()
        if vocab is None:
            counts = Counter(w for s in self.sents for w in s)
            vocab = {"<pad>": 0, "<unk>": 1}
            for w, c in sorted(counts.items()):
                vocab[w] = len(vocab)
        self.vocab = vocab

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        ids = [self.vocab.get(w, 1) for w in self.sents[i]][: self.MAXLEN]
        return np.array(ids + [0] * (self.MAXLEN - len(ids))), self.y[i]


class CNN(nn.Module):
    def __init__(self, V, D=128, C=2, Co=80, Ks=(1, 2, 3), p=0.5):
        super().__init__()
        self.embed = nn.Embedding(V, D, padding_idx=0)
        nn.init.uniform_(self.embed.weight, -0.25, 0.25)
        with torch.no_grad():
            self.embed.weight[0].zero_()
        self.convs = nn.ModuleList([nn.Conv1d(D, Co, K, padding=K - 1) for K in Ks])
        self.dropout = nn.Dropout(p)
        self.fc = nn.Linear(len(Ks) * Co, C)

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        x = [F.relu(conv(x)).max(dim=2).values for conv in self.convs]
        return self.fc(self.dropout(torch.cat(x, 1)))


def max_norm_(weight, limit=3.0):
    with torch.no_grad():
        norms = weight.norm(dim=1, keepdim=True).clamp(min=1e-12)
        weight.mul_(norms.clamp(max=limit) / norms)


def run(model, loader, optimizer=None):
    model.train(optimizer is not None)
    loss_sum = hit = n = 0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            out = model(x)
            loss = F.cross_entropy(out, y)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                max_norm_(model.fc.weight)
            loss_sum += loss.item() * len(y)
            hit += (out.argmax(1) == y).sum().item()
            n += len(y)
    return loss_sum / n, hit / n


if __name__ == "__main__":
    torch.manual_seed(3435)
    train = Reviews("data/train.csv")
    valid, test = Reviews("data/valid.csv", train.vocab), Reviews("data/test.csv", train.vocab)
    tl = DataLoader(train, 50, shuffle=True)
    vl, sl = DataLoader(valid, 100), DataLoader(test, 100)
    net = CNN(len(train.vocab))
    opt = torch.optim.Adadelta(net.parameters(), lr=1.0, rho=0.95, eps=1e-6)
    best = 0.0
    for e in range(5):
        tr = run(net, tl, opt)
        va = run(net, vl)
        if va[1] > best:
            best, kept = va[1], copy.deepcopy(net.state_dict())
        print("epoch %d | train loss %.4f acc %.3f | dev loss %.4f acc %.3f" % (e + 1, *tr, *va))
    net.load_state_dict(kept)
    print("test acc of the best dev epoch %.3f" % run(net, sl)[1])
