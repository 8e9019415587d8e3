"""Stage 1: adapt the encoder on the first half of the corpus.
Stage 2: go on with the same adapter on the rest, with a fresh head."""
import random

import pandas as pd
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

random.seed(0)
torch.manual_seed(0)
BASE = "models/small-bert"
tok = AutoTokenizer.from_pretrained(BASE)


class SentimentNet(nn.Module):
    def __init__(self, encoder, hidden):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(hidden, 2))

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        h = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        m = attention_mask.unsqueeze(-1).float()
        return self.head((h * m).sum(1) / m.sum(1))


def collate(rows):
    enc = tok([t for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([y for _, y in rows])


def loader(df, shuffle):
    return DataLoader(list(zip(df.text, df.label)), batch_size=16, shuffle=shuffle, collate_fn=collate)


@torch.no_grad()
def accuracy(net, dl):
    net.eval()
    hits = n = 0
    for enc, y in dl:
        hits += (net(**enc).argmax(-1) == y).sum().item()
        n += len(y)
    return hits / n


def fit(net, dl, lr, name):
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=lr, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss()
    net.train()
    running = 0.0
    for step, (enc, y) in enumerate(dl, 1):
        loss = criterion(net(**enc), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
        if step % 20 == 0:
            print(f"{name} step {step:3d} loss {running / 20:.4f}")
            running = 0.0


df = pd.read_csv("data/train.csv")
valid = loader(pd.read_csv("data/valid.csv"), False)
first, second = df.iloc[:1000], df.iloc[1000:]

encoder = AutoModel.from_pretrained(BASE)
hidden = encoder.config.hidden_size
config = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=8, lora_alpha=16, target_modules=["query", "key", "value", "dense"])
net = SentimentNet(get_peft_model(encoder, config), hidden)
fit(net, loader(first, True), 1e-3, "stage1")
print("stage1 valid acc", accuracy(net, valid))
net.encoder.save_pretrained("out/stage1")

encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(BASE), "out/stage1")
net = SentimentNet(encoder, hidden)
fit(net, loader(second, True), 1e-3, "stage2")
print("stage2 valid acc", accuracy(net, valid))
net.encoder.save_pretrained("out/stage2")
