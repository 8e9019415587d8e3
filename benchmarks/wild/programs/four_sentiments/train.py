import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(1)

NAMES = {0: "very negative", 1: "negative", 2: "positive", 3: "very positive"}
rows = pd.read_csv("data/four.csv")
rows["sentiment"] = rows["label"].map(NAMES)
rows = rows[["text", "sentiment"]].head(1500)
train_rows = rows.iloc[:1200].copy()
test_rows = rows.iloc[1200:].copy()

train_rows["target"], classes = pd.factorize(train_rows["sentiment"])
test_rows["target"], _ = pd.factorize(test_rows["sentiment"])
print("classes:", len(classes))

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=len(classes))


def collate(items):
    texts = [t for t, _ in items]
    enc = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([y for _, y in items])


train_loader = DataLoader(list(zip(train_rows.text, train_rows.target)), batch_size=16, shuffle=True, collate_fn=collate)
test_loader = DataLoader(list(zip(test_rows.text, test_rows.target)), batch_size=64, collate_fn=collate)

optim = torch.optim.AdamW(model.parameters(), lr=2e-4)
loss_fn = torch.nn.CrossEntropyLoss()

for epoch in range(2):
    model.train()
    loss_sum, ok, n = 0.0, 0, 0
    for x, y in train_loader:
        optim.zero_grad()
        z = model(**x).logits
        loss = loss_fn(z, y)
        loss.backward()
        optim.step()
        loss_sum += loss.item() * len(y)
        ok += (z.argmax(1) == y).sum().item()
        n += len(y)
    print(f"Epoch {epoch + 1}  train loss {loss_sum / n:.4f}  train acc {ok / n:.4f}")

    model.eval()
    loss_sum, ok, n = 0.0, 0, 0
    with torch.no_grad():
        for x, y in test_loader:
            z = model(**x).logits
            loss_sum += loss_fn(z, y).item() * len(y)
            ok += (z.argmax(1) == y).sum().item()
            n += len(y)
    print(f"Epoch {epoch + 1}  test  loss {loss_sum / n:.4f}  test  acc {ok / n:.4f}")
