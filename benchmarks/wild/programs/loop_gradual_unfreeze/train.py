import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_constant_schedule_with_warmup

rng = np.random.RandomState(12)
torch.manual_seed(12)
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)


def set_trainable(module, flag):
    for p in module.parameters():
        p.requires_grad_(flag)


def batches(df, size, shuffle):
    order = rng.permutation(len(df)) if shuffle else np.arange(len(df))
    for i in range(0, len(df), size):
        part = df.iloc[order[i:i + size]]
        x = tokenizer(part.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
        yield x, torch.tensor(part.label.values)


def score(df):
    model.eval()
    good = 0
    with torch.inference_mode():
        for x, y in batches(df, 64, False):
            good += int((model(**x).logits.argmax(-1) == y).sum())
    return good / len(df)


train, valid = pd.read_csv("data/train.csv").head(800), pd.read_csv("data/valid.csv").head(300)

# phase 1: head only
set_trainable(model.bert, False)
optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=5e-4, weight_decay=0.01)
scheduler = get_constant_schedule_with_warmup(optimizer, 10)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(2):
    if epoch == 1:
        # phase 2: everything, gently
        set_trainable(model.bert, True)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = 2e-4
        scheduler = get_constant_schedule_with_warmup(optimizer, 10)
    n = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"epoch {epoch}: {n / 1e6:.2f}M trainable parameters")
    model.train()
    losses = []
    for x, y in batches(train, 16, True):
        loss = loss_fn(model(**x).logits, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: loss {np.mean(losses):.4f} valid {score(valid):.4f}")
