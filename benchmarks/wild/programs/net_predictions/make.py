import json
import os

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

os.makedirs("run", exist_ok=True)
torch.manual_seed(17)
tok = AutoTokenizer.from_pretrained("models/small-bert")
net = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)


class NeuralNet:
    def __init__(self, module, lr, batch_size, iterator_shuffle=True):
        self.module, self.batch_size, self.iterator_shuffle = module, batch_size, iterator_shuffle
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=lr)
        self.history = []

    def iterator(self, X, y=None):
        rows = list(zip(X, y if y is not None else [0] * len(X)))
        return DataLoader(rows, batch_size=self.batch_size, shuffle=self.iterator_shuffle, collate_fn=self.collate)

    @staticmethod
    def collate(rows):
        enc = tok([r[0] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
        return enc, torch.tensor([r[1] for r in rows])

    def fit(self, X, y, X_valid, y_valid, epochs=1):
        for epoch in range(epochs):
            self.module.train()
            total = 0.0
            for enc, target in self.iterator(X, y):
                loss = self.module(**enc, labels=target).loss
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item()
            self.module.eval()
            good = n = 0
            with torch.no_grad():
                for enc, target in self.iterator(X_valid, y_valid):
                    good += (self.module(**enc).logits.argmax(-1) == target).sum().item()
                    n += len(target)
            self.history.append({"epoch": epoch + 1, "train_loss": total / (len(X) / self.batch_size), "valid_acc": good / n})

    def predict_proba(self, X):
        self.module.eval()
        with torch.no_grad():
            return np.concatenate([self.module(**enc).logits.softmax(-1).numpy() for enc, _ in self.iterator(X)])


train, valid, test = (pd.read_csv(f"data/{n}.csv") for n in ("train", "valid", "test"))
clf = NeuralNet(net, lr=2e-4, batch_size=20)
clf.fit(train.text[:1600].tolist(), train.label[:1600].tolist(), valid.text.tolist(), valid.label.tolist())
proba = clf.predict_proba(test.text.tolist())
test["prob_0"], test["prob_1"] = proba[:, 0].round(4), proba[:, 1].round(4)
test["pred"] = proba.argmax(1)
test.to_csv("run/test_predictions.csv", index=False)
with open("run/history.json", "w") as f:
    json.dump(clf.history, f, indent=1)
with open("run/test_scores.json", "w") as f:
    json.dump({"accuracy": accuracy_score(test.label, test.pred), "f1": f1_score(test.label, test.pred)}, f, indent=1)
