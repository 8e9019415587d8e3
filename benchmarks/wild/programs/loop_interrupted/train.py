import os

import pandas as pd
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BASE, CKPT = "models/small-bert", "out/interrupted/last.pt"
EPOCHS, LR, WARMUP = 3, 3e-4, 20
os.makedirs(os.path.dirname(CKPT), exist_ok=True)
tokenizer = AutoTokenizer.from_pretrained(BASE)


def collate(rows):
    x = tokenizer([r[0] for r in rows], padding=True, truncation=True, max_length=40, return_tensors="pt")
    x["labels"] = torch.tensor([r[1] for r in rows])
    return x


def get_data(name, n, **kw):
    df = pd.read_csv(f"data/{name}.csv", nrows=n)
    return DataLoader(list(zip(df["text"], df["label"])), batch_size=16, collate_fn=collate, **kw)


def train(stop_after=None):
    torch.manual_seed(0)
    train_loader, valid_loader = get_data("train", 480, shuffle=True), get_data("valid", 200)
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    total = EPOCHS * len(train_loader)
    scheduler = LambdaLR(optimizer, lambda s: min((s + 1) / WARMUP, max(0.0, (total - s) / (total - WARMUP))))
    start = 0
    if os.path.exists(CKPT):
        state = torch.load(CKPT, weights_only=True)
        model.load_state_dict(state["model"])
        start = state["epoch"] + 1
        print(f"resumed from {CKPT} at epoch {start}")
    for epoch in range(start, EPOCHS):
        model.train()
        running = 0.0
        for batch in train_loader:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        model.eval()
        with torch.no_grad():
            hits = sum((model(**b).logits.argmax(-1) == b["labels"]).sum().item() for b in valid_loader)
        print(f"epoch {epoch} loss {running / len(train_loader):.4f} valid {hits / len(valid_loader.dataset):.4f}")
        torch.save({"model": model.state_dict(), "epoch": epoch}, CKPT)
        if stop_after is not None and epoch + 1 == stop_after:
            return


train(stop_after=2)  # the time slot on the cluster ends here
train()
