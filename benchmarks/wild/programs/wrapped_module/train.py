import os

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

OUT = "out/wrapped"
os.makedirs(OUT, exist_ok=True)
torch.manual_seed(6)
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


def collate(rows):
    enc = tokenizer([t for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([y for _, y in rows])


def loader(name, shuffle=False):
    df = pd.read_csv(f"data/{name}.csv")
    return DataLoader(list(zip(df.text, df.label)), batch_size=16, shuffle=shuffle, collate_fn=collate)


class SentimentModule(nn.Module):
    """keeps network, loss and optimizer together"""

    def __init__(self, network, lr):
        super().__init__()
        self.model = network
        self.loss = nn.CrossEntropyLoss()
        self.lr = lr

    def step(self, batch):
        x, y = batch
        z = self.model(**x).logits
        return self.loss(z, y), z

    def configure(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def fit(module, train_loader):
    optimizer = module.configure()
    module.train()
    for i, batch in enumerate(train_loader, 1):
        loss, _ = module.step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 25 == 0:
            print(f"step {i} loss {loss.item():.4f}")


@torch.no_grad()
def score(network, data):
    network.eval()
    good = total = 0
    for x, y in data:
        good += (network(**x).logits.argmax(-1) == y).sum().item()
        total += len(y)
    return good / total


module = SentimentModule(AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2), lr=2e-4)
fit(module, loader("train", shuffle=True))
print(f"validation accuracy {score(module.model, loader('valid')):.4f}")
torch.save({"state_dict": module.state_dict()}, f"{OUT}/last.ckpt")

network = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained("models/small-bert", num_labels=2))
checkpoint = torch.load(f"{OUT}/last.ckpt", map_location="cpu")
network.load_state_dict(checkpoint["state_dict"], strict=False)
print(f"test accuracy {score(network, loader('test')):.4f}")
