import pandas as pd
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(21)
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)

train = pd.read_csv("data/train.csv").iloc[:320]
valid = pd.read_csv("data/valid.csv")
test = pd.read_csv("data/test.csv")


def get_batches(df, batch_size=16, shuffle=False):
    def collate(rows):
        b = tokenizer([r["text"] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
        b["labels"] = torch.tensor([r["label"] for r in rows])
        return b
    return DataLoader(df.to_dict("records"), batch_size=batch_size, shuffle=shuffle, collate_fn=collate)


def evaluate(net, loader):
    net.eval()
    loss, trues, preds = 0.0, [], []
    with torch.no_grad():
        for b in loader:
            out = net(**b)
            loss += out.loss.item() * len(b["labels"])
            trues.extend(b["labels"].tolist())
            preds.extend(out.logits.argmax(-1).tolist())
    acc = sum(t == p for t, p in zip(trues, preds)) / len(trues)
    return loss / len(trues), acc, trues, preds


train_loader, valid_loader, test_loader = get_batches(train, shuffle=True), get_batches(valid, 50), get_batches(test, 50)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
best_loss, best_state, best_epoch = float("inf"), None, -1

print("Start training...")
for epoch in range(5):
    model.train()
    total = 0.0
    for batch in train_loader:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        total += loss.item()
    val_loss, val_acc, _, _ = evaluate(model, valid_loader)
    if val_loss < best_loss:
        best_loss, best_epoch = val_loss, epoch
        best_state = model.state_dict()
    print("[Epoch: %3d/%3d] Training Loss: %.4f, Validation Loss: %.4f, Validation Acc: %.3f" % (epoch + 1, 5, total / len(train_loader), val_loss, val_acc))

print("loading the model of epoch", best_epoch + 1)
model.load_state_dict(best_state)
test_loss, test_acc, trues, preds = evaluate(model, test_loader)
p, r, f, _ = precision_recall_fscore_support(trues, preds, average="macro")
print("Testing results: loss %.4f acc %.3f p %.3f r %.3f f1 %.3f" % (test_loss, test_acc, p, r, f))
