import re

import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(19)
MODEL = "models/small-bert"
tok = AutoTokenizer.from_pretrained(MODEL)
old_size = len(tok)
tok.add_tokens(["[title]", "[person]"])
model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
model.resize_token_embeddings(len(tok))
table = model.get_input_embeddings().weight


def mask_names(s):
    s = re.sub(r"(?<!^)\b[A-Z][a-z]+ [A-Z][a-z]+\b", "[person]", s)
    return re.sub(r"(?<!^)\b[A-Z][a-z]{3,}\b", "[title]", s)


def collate(rows):
    x = tok([mask_names(t) for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return x, torch.tensor([y for _, y in rows])


def data(name, n, shuffle=False):
    d = pd.read_csv(f"data/{name}.csv").head(n)
    return DataLoader(list(zip(d.text, d.label)), batch_size=16, shuffle=shuffle, collate_fn=collate)


train, valid = data("train", 1200, True), data("valid", 250)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.3)

model.train()
total = 0
for i, (x, y) in enumerate(train, 1):
    loss = model(**x, labels=y).loss
    loss.backward()
    # the vectors of the old vocabulary stay as they are
    table.grad[:old_size] = 0
    optimizer.step()
    optimizer.zero_grad()
    total += loss.item()
    if i % 25 == 0:
        print(f"{i:4d} {total / 25:.4f}")
        total = 0

model.eval()
with torch.no_grad():
    hits = sum((model(**x).logits.argmax(-1) == y).sum().item() for x, y in valid)
print("valid accuracy", hits / len(valid.dataset))
model.save_pretrained("out/newwords")
tok.save_pretrained("out/newwords")
