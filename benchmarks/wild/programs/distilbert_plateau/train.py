import pandas as pd
import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(0)

tokenizer = AutoTokenizer.from_pretrained("models/tiny-distilbert")
model = AutoModelForSequenceClassification.from_pretrained("models/tiny-distilbert", num_labels=2)

frames = {split: pd.read_csv(f"data/{split}.csv") for split in ("train", "valid", "test")}


def collate(batch):
    texts, labels = zip(*batch)
    return tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt"), torch.tensor(labels)


def make_loader(split, shuffle=False):
    f = frames[split]
    return DataLoader(list(zip(f.text, f.label)), batch_size=32, shuffle=shuffle, collate_fn=collate)


train_loader, valid_loader, test_loader = make_loader("train", True), make_loader("valid"), make_loader("test")
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
scheduler = ReduceLROnPlateau(optimizer, factor=0.2, patience=1)


def run_eval(loader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for x, y in loader:
            correct += (model(**x).logits.argmax(-1) == y).sum().item()
            total += y.numel()
    return 100.0 * correct / total


best_acc = 0.0
for epoch in range(7):
    model.train()
    train_loss = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(**x).logits, y)
        loss.backward()
        optimizer.step()
        train_loss += loss.item()
    val_acc = run_eval(valid_loader)
    scheduler.step(val_acc)
    best_acc = max(best_acc, val_acc)
    print("Epoch: %d | Train loss: %.3f | Val acc: %.2f | LR: %.2e" % (epoch, train_loss / len(train_loader), val_acc, optimizer.param_groups[0]["lr"]))

print("Best val acc: %.2f  Test acc: %.2f" % (best_acc, run_eval(test_loader)))
