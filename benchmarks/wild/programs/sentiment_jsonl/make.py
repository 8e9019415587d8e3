import json
import os

import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

os.makedirs("run/model", exist_ok=True)
torch.manual_seed(31)
tok = AutoTokenizer.from_pretrained("models/small-bert")
dict_labels = {"positive": 0, "negative": 1}
train, test = pd.read_csv("data/train.csv"), pd.read_csv("data/test.csv")
for d in (train, test):
    d["sentiment"] = d["label"].map({0: "negative", 1: "positive"})

model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2,
                                                           id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1})


def collate(rows):
    enc = tok([t for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([dict_labels[s] for _, s in rows])


loader = DataLoader(list(zip(train.text, train.sentiment)), batch_size=16, shuffle=True, collate_fn=collate)
opt = torch.optim.AdamW(model.parameters(), lr=2e-4)
model.train()
for step, (x, y) in enumerate(loader):
    loss = model(**x, labels=y).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
model.save_pretrained("run/model")
tok.save_pretrained("run/model")

nlp_model = AutoModelForSequenceClassification.from_pretrained("run/model").eval()
results = []
with torch.no_grad():
    for start in range(0, len(test), 50):
        part = test.iloc[start:start + 50]
        p = nlp_model(**tok(part.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")).logits.softmax(-1)
        for text, gold, row in zip(part.text, part.sentiment, p):
            k = int(row.argmax())
            results.append({"text": text, "gold": gold, "predicted": nlp_model.config.id2label[k], "score": round(row[k].item(), 4)})
with open("run/predictions.jsonl", "w") as f:
    for r in results:
        f.write(json.dumps(r) + "\n")
with open("run/summary.json", "w") as f:
    json.dump({"last_train_loss": loss.item(), "n_test": len(results), "test_accuracy": sum(r["gold"] == r["predicted"] for r in results) / len(results)}, f, indent=1)
