"""Stream a csv file from disk with a shuffle buffer; a few passes."""
import csv
import itertools
import random
import re
import zlib

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

BUCKETS = 2**14


def hashed(text):
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    grams = words + [a + "_" + b for a, b in zip(words, words[1:])]
    return [zlib.crc32(g.encode()) % BUCKETS for g in grams]


class CsvStream(IterableDataset):
    def __init__(self, path, buffer=0, seed=0):
        self.path, self.buffer, self.seed, self.epoch = path, buffer, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def rows(self):
        info = get_worker_info()
        start, step = (info.id, info.num_workers) if info else (0, 1)
        with open(self.path, newline="", encoding="utf-8") as f:
            yield from itertools.islice(csv.DictReader(f), start, None, step)

    def __iter__(self):
        examples = ((hashed(r["text"]), int(r["label"])) for r in self.rows())
        if not self.buffer:
            yield from examples
            return
        rng = random.Random(self.seed + self.epoch)
        pool = list(itertools.islice(examples, self.buffer))
        for example in examples:
            k = rng.randrange(len(pool))
            yield pool[k]
            pool[k] = example
        rng.shuffle(pool)
        yield from pool


def collate(batch):
    ids = torch.tensor([i for x, _ in batch for i in x])
    offsets = torch.tensor([0] + [len(x) for x, _ in batch][:-1]).cumsum(0)
    return ids, offsets, torch.tensor([y for _, y in batch], dtype=torch.float32)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.EmbeddingBag(BUCKETS, 1, mode="sum")
        nn.init.zeros_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids, offsets):
        return self.weight(ids, offsets).squeeze(1) + self.bias


torch.manual_seed(0)
stream = CsvStream("data/train.csv", buffer=500, seed=1)
train, valid = DataLoader(stream, batch_size=20, collate_fn=collate), DataLoader(CsvStream("data/valid.csv"), 100, collate_fn=collate)
model = Linear()
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(3):
    stream.set_epoch(epoch)
    model.train()
    seen = loss_sum = 0
    for ids, offsets, y in train:
        optimizer.zero_grad()
        loss = loss_fn(model(ids, offsets), y)
        loss.backward()
        optimizer.step()
        seen += len(y)
        loss_sum += loss.item() * len(y)
    model.eval()
    right = total = 0
    with torch.no_grad():
        for ids, offsets, y in valid:
            right += ((model(ids, offsets) > 0).float() == y).sum().item()
            total += len(y)
    print(f"pass {epoch}: {seen} rows, loss {loss_sum / seen:.4f}, valid accuracy {right / total:.4f}")
