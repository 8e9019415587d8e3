"""Fine-tunes an encoder on a CSV file with the columns text and label (0, 1), as tutorials do it.

    python finetune_reviews.py REVIEWS.csv ENCODER [ROWS]

ENCODER is a folder or hub id of a `transformers` encoder. Nothing in this program knows of Tenor: see docs/watch.md.
"""

import sys

import pandas
import torch
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

file, encoder, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2000
torch.manual_seed(42)

reviews = pandas.read_csv(file)
train, test = reviews[:rows], reviews[rows:].sample(min(rows // 4, 500), random_state=0)

tokenizer = AutoTokenizer.from_pretrained(encoder)
model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2)


def collate(batch):
    texts, labels = zip(*batch, strict=True)
    inputs = tokenizer(list(texts), truncation=True, max_length=64, padding=True, return_tensors="pt")
    return {**inputs, "labels": torch.tensor(labels)}


def loader(frame, shuffle):
    return DataLoader(
        list(zip(frame.text, frame.label, strict=True)), batch_size=16, shuffle=shuffle, collate_fn=collate
    )


train_loader, test_loader = loader(train, shuffle=True), loader(test, shuffle=False)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
schedule = get_linear_schedule_with_warmup(optimizer, len(train_loader) // 10, len(train_loader))

model.train()
for step, batch in enumerate(train_loader, start=1):
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    if step % 25 == 0:
        print(f"step {step}/{len(train_loader)}  loss {loss.item():.3f}")

model.eval()
predicted, labels = [], []
with torch.no_grad():
    for batch in test_loader:
        predicted += model(**batch).logits.argmax(dim=1).tolist()
        labels += batch["labels"].tolist()
print("accuracy", accuracy_score(labels, predicted))
