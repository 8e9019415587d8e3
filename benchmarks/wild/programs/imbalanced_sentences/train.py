import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(7)
np.random.seed(7)

tok = AutoTokenizer.from_pretrained("models/small-bert")


class Sentences(Dataset):
    def __init__(self, df):
        self.enc = tok(df.text.tolist(), padding="max_length", truncation=True, max_length=48, return_tensors="pt")
        self.y = torch.tensor(df.label.values)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {k: v[i] for k, v in self.enc.items()}, self.y[i]


df = pd.read_csv("data/train.csv")
neg = df[df.label == 0]
pos = df[df.label == 1].sample(frac=0.25, random_state=7)
train_df = pd.concat([neg, pos]).sample(frac=1, random_state=7).reset_index(drop=True)
valid_df = pd.read_csv("data/valid.csv")
print("class counts:", train_df.label.value_counts().sort_index().tolist())

train_set, valid_set = Sentences(train_df), Sentences(valid_df)

class_count = np.bincount(train_df.label)
class_weights = 1.0 / class_count
sampler = WeightedRandomSampler(torch.tensor(class_weights), num_samples=len(train_set), replacement=True)
train_loader = DataLoader(train_set, batch_size=16, sampler=sampler)
valid_loader = DataLoader(valid_set, batch_size=64)

net = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
opt = torch.optim.AdamW(net.parameters(), lr=1e-4)
crit = nn.CrossEntropyLoss()

net.train()
for i, (x, y) in enumerate(train_loader):
    opt.zero_grad()
    loss = crit(net(**x).logits, y)
    loss.backward()
    opt.step()
    if i % 10 == 0:
        print(f"[{i:3d}/{len(train_loader)}] loss={loss.item():.4f}")

net.eval()
right = 0
vloss = 0.0
with torch.no_grad():
    for x, y in valid_loader:
        out = net(**x).logits
        vloss += crit(out, y).item() * len(y)
        right += (out.argmax(1) == y).sum().item()
print(f"valid loss={vloss / len(valid_set):.4f} acc={right / len(valid_set):.4f}")
