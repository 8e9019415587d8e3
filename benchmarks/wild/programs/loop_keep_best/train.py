import math

import pandas as pd
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SEED, EPOCHS, BATCH, LR = 5, 3, 16, 8e-4
torch.manual_seed(SEED)
tok = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)


def tensors(path, n):
    df = pd.read_csv(path).head(n)
    e = tok(df.text.tolist(), padding=True, truncation=True, max_length=40, return_tensors="pt")
    return TensorDataset(e.input_ids, e.attention_mask, torch.tensor(df.label.tolist()))


train_dl = DataLoader(tensors("data/train.csv", 600), batch_size=BATCH, shuffle=True)
valid_dl = DataLoader(tensors("data/valid.csv", 200), batch_size=64)
test_dl = DataLoader(tensors("data/test.csv", 370), batch_size=64)


def evaluate(dl):
    model.eval()
    loss = hit = n = 0
    with torch.no_grad():
        for ids, mask, y in dl:
            out = model(input_ids=ids, attention_mask=mask, labels=y)
            loss += out.loss.item() * len(y)
            hit += (out.logits.argmax(-1) == y).sum().item()
            n += len(y)
    return loss / n, hit / n


optimizer = AdamW(model.parameters(), lr=LR)
best_loss, best_state, best_epoch = math.inf, None, -1
for epoch in range(EPOCHS):
    model.train()
    for ids, mask, y in train_dl:
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=y).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    val_loss, val_acc = evaluate(valid_dl)
    print(f"epoch {epoch}: train loss (last batch) {loss.item():.3f}  val loss {val_loss:.4f}  val acc {val_acc:.4f}")
    if val_loss < best_loss:
        best_loss, best_epoch = val_loss, epoch
        best_state = model.state_dict()

model.load_state_dict(best_state)
print(f"best epoch was {best_epoch} with val loss {best_loss:.4f}")
test_loss, test_acc = evaluate(test_dl)
print(f"test loss {test_loss:.4f} test acc {test_acc:.4f}")
