import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MODEL = "models/small-bert"
DTYPE = torch.bfloat16
LR = 2e-5
EPOCHS = 2

torch.manual_seed(8)
tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2).to(DTYPE)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters, {DTYPE}")

train = pd.read_csv("data/train.csv").sample(1000, random_state=0)
valid = pd.read_csv("data/valid.csv")


def collate(rows):
    enc = tokenizer([t for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([y for _, y in rows])


train_loader = DataLoader(list(zip(train.text, train.label)), batch_size=16, shuffle=True, collate_fn=collate)
valid_loader = DataLoader(list(zip(valid.text, valid.label)), batch_size=50, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
loss_fn = torch.nn.CrossEntropyLoss()

for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for x, y in train_loader:
        logits = model(**x).logits
        loss = loss_fn(logits, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running += loss.item()
    model.eval()
    ok = 0
    with torch.inference_mode():
        for x, y in valid_loader:
            ok += (model(**x).logits.argmax(-1) == y).sum().item()
    print(f"epoch {epoch + 1}/{EPOCHS} loss {running / len(train_loader):.4f} val_acc {ok / len(valid):.4f}")
