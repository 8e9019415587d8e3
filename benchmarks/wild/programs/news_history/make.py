import json
import os

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModel, AutoTokenizer

os.makedirs("run", exist_ok=True)
torch.manual_seed(0)
BATCH_SIZE, MAX_LEN = 16, 48
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


class NewsDataset(Dataset):
    def __init__(self, frame):
        self.reviews, self.targets = frame.text.to_numpy(), frame.label.to_numpy()

    def __len__(self):
        return len(self.reviews)

    def __getitem__(self, item):
        enc = tokenizer(self.reviews[item], max_length=MAX_LEN, padding="max_length", truncation=True, return_tensors="pt")
        return {"input_ids": enc["input_ids"].flatten(), "attention_mask": enc["attention_mask"].flatten(), "targets": torch.tensor(self.targets[item])}


class NewsClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert_model = AutoModel.from_pretrained("models/small-bert")
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(self.bert_model.config.hidden_size, 2)

    def forward(self, ids, mask):
        return self.fc(self.drop(self.bert_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]))


def epoch(model, loader, loss_fn, optimizer=None):
    model.train(optimizer is not None)
    losses, correct = [], 0
    with torch.set_grad_enabled(optimizer is not None):
        for d in loader:
            outputs = model(d["input_ids"], d["attention_mask"])
            _, preds = torch.max(outputs, dim=1)
            loss = loss_fn(outputs, d["targets"])
            correct += torch.sum(preds == d["targets"]).item()
            losses.append(loss.item())
            if optimizer is not None:
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    return correct / len(loader), sum(losses) / len(losses)


train_loader = DataLoader(NewsDataset(pd.read_csv("data/train.csv").head(800)), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(NewsDataset(pd.read_csv("data/valid.csv").head(300)), batch_size=BATCH_SIZE)
model = NewsClassifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
loss_fn = nn.CrossEntropyLoss()
history = {"train_acc": [], "train_loss": [], "val_acc": [], "val_loss": []}
for _ in range(2):
    a, l = epoch(model, train_loader, loss_fn, optimizer)
    va, vl = epoch(model, val_loader, loss_fn)
    for k, v in zip(history, (a, l, va, vl)):
        history[k].append(v)
with open("run/history.json", "w") as f:
    json.dump(history, f, indent=1)
with open("run/params.json", "w") as f:
    json.dump({"batch_size": BATCH_SIZE, "max_len": MAX_LEN, "lr": 2e-4, "epochs": 2, "train_rows": 800, "val_rows": 300}, f, indent=1)
