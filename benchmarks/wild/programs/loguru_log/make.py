import os
import time

import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

os.makedirs("run", exist_ok=True)
torch.manual_seed(77)
tok = AutoTokenizer.from_pretrained("models/tiny-distilbert")
log = open("run/train.log", "w")


def info(where, text):
    log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} | INFO     | sentiment.train:{where} - {text}\n")


def dataset(name, n):
    d = pd.read_csv(f"data/{name}.csv").head(n)
    e = tok(d.text.tolist(), padding=True, truncation=True, max_length=40, return_tensors="pt")
    return TensorDataset(e.input_ids, e.attention_mask, torch.tensor(d.label.values))


def one_epoch(model, data, optimizer=None):
    model.train(optimizer is not None)
    loss_sum, good = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for ids, mask, y in DataLoader(data, batch_size=32, shuffle=optimizer is not None):
            out = model(input_ids=ids, attention_mask=mask, labels=y)
            if optimizer is not None:
                optimizer.zero_grad()
                out.loss.backward()
                optimizer.step()
            loss_sum += out.loss.item() * len(y)
            good += (out.logits.argmax(-1) == y).sum().item()
    return loss_sum / len(data), good / len(data)


def train(epochs=30, lr=1e-3):
    info("train:45", "Loading data")
    trainset, valset, testset = dataset("train", 500), dataset("valid", 300), dataset("test", 300)
    info("train:52", f"train={len(trainset)} val={len(valset)} test={len(testset)} lr={lr} epochs={epochs}")
    model = AutoModelForSequenceClassification.from_pretrained("models/tiny-distilbert", num_labels=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        train_loss, train_acc = one_epoch(model, trainset, optimizer)
        val_loss, val_acc = one_epoch(model, valset)
        test_loss, test_acc = one_epoch(model, testset)
        info("train:86", f"epoch={epoch}")
        info("train:88", f"train_loss={train_loss:.4f}, val_loss={val_loss:.4f}, test_loss={test_loss:.4f}")
        info("train:91", f"train_acc={train_acc:.3f}, val_acc={val_acc:.3f}, test_acc={test_acc:.3f}")
    torch.save(model.state_dict(), "run/model.pickle")
    info("train:98", "Saved run/model.pickle")
    info("train:99", "Done!")


train()
log.close()
