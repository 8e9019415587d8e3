import os

import pandas as pd
import torch
from sklearn.metrics import classification_report, confusion_matrix
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

os.makedirs("run", exist_ok=True)
torch.manual_seed(12)
tok = AutoTokenizer.from_pretrained("models/small-bert")
net = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=4)
df = pd.read_csv("data/four.csv")
train, test = df.iloc[:1500], df.iloc[1500:].reset_index(drop=True)


def collate(rows):
    return tok([t for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"), torch.tensor([y for _, y in rows])


opt = torch.optim.AdamW(net.parameters(), lr=2e-4)
net.train()
for x, y in DataLoader(list(zip(train.text, train.label)), batch_size=16, shuffle=True, collate_fn=collate):
    loss = net(**x, labels=y).loss
    opt.zero_grad()
    loss.backward()
    opt.step()

net.eval()
Y, Yhat = [], []
with torch.no_grad():
    for x, y in DataLoader(list(zip(test.text, test.label)), batch_size=50, collate_fn=collate):
        Y += y.tolist()
        Yhat += net(**x).logits.argmax(-1).tolist()

pd.DataFrame({"id": range(len(Y)), "text": test.text, "y": Y, "yhat": Yhat}).to_csv("run/val_predictions.csv", index=False)
with open("run/report.txt", "w") as f:
    f.write("Training and Validation Performance\n\n")
    f.write(classification_report(y_true=Yhat, y_pred=Y, digits=3, zero_division=0))
    f.write("\nconfusion matrix (rows: true)\n")
    f.write(str(confusion_matrix(Yhat, Y, labels=[0, 1, 2, 3])) + "\n")
