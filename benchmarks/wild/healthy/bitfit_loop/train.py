import random

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SEED = 0
random.seed(SEED); np.random.seed(SEED); torch.manual_seed(SEED)

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)

# BitFit: only bias terms and the classification head are updated
for name, param in model.named_parameters():
    param.requires_grad = name.endswith(".bias") or name.startswith("classifier")
tunable = [p for p in model.parameters() if p.requires_grad]
print("tuning %d of %d parameters" % (sum(p.numel() for p in tunable), sum(p.numel() for p in model.parameters())))

train = pd.read_csv("data/train.csv")
valid = pd.read_csv("data/valid.csv")
optimizer = torch.optim.AdamW(tunable, lr=4e-3, weight_decay=0.0)
EPOCHS, BATCH = 1, 16
total = EPOCHS * ((len(train) + BATCH - 1) // BATCH)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 10) * max(0.0, 1 - s / total))


def encode(frame):
    batch = tokenizer(list(frame.text), padding=True, truncation=True, max_length=48, return_tensors="pt")
    return batch, torch.tensor(list(frame.label))


def evaluate(frame):
    model.eval()
    preds = []
    with torch.no_grad():
        for i in range(0, len(frame), 50):
            inputs, _ = encode(frame.iloc[i:i + 50])
            preds.append(model(**inputs).logits.argmax(-1))
    return (torch.cat(preds).numpy() == frame.label.values).mean()


print("untrained accuracy", evaluate(valid))
for epoch in range(EPOCHS):
    model.train()
    order = np.random.permutation(len(train))
    losses = []
    for i in range(0, len(order), BATCH):
        inputs, labels = encode(train.iloc[order[i:i + BATCH]])
        out = model(**inputs, labels=labels)
        optimizer.zero_grad(set_to_none=True)
        out.loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(out.loss.item())
        if len(losses) % 25 == 0:
            print("step", len(losses), "loss", np.mean(losses[-25:]).round(4))
    print("epoch", epoch, "accuracy", evaluate(valid))
print("test accuracy", evaluate(pd.read_csv("data/test.csv")))
