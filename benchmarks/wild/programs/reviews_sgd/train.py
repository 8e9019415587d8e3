import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader, Dataset
from transformers import BertForSequenceClassification, BertTokenizerFast

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(2022)


class Reviews(Dataset):
    def __init__(self, encodings, labels):
        self.encodings = encodings
        self.labels = labels

    def __getitem__(self, idx):
        item = {key: torch.tensor(val[idx]) for key, val in self.encodings.items()}
        item["labels"] = torch.tensor(self.labels[idx])
        return item

    def __len__(self):
        return len(self.labels)


tokenizer = BertTokenizerFast.from_pretrained("models/small-bert")


def build(name):
    df = pd.read_csv(f"data/{name}.csv").head(1000)
    enc = tokenizer(df["text"].tolist(), truncation=True, padding=True, max_length=48)
    return Reviews({"input_ids": enc["input_ids"], "token_type_ids": enc["token_type_ids"], "attention_mask": enc["attention_mask"]}, df["label"].tolist())


train_dataset, val_dataset = build("train"), build("valid")
train_loader = DataLoader(train_dataset, batch_size=16, shuffle=True)
val_loader = DataLoader(val_dataset, batch_size=64)

model = BertForSequenceClassification.from_pretrained("models/small-bert", num_labels=2).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for epoch in range(2):
    model.train()
    optimizer.zero_grad()
    train_loss = 0.0
    for batch in train_loader:
        batch = {k: v.to(device) for k, v in batch.items()}
        outputs = model(**batch)
        outputs.loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        train_loss += outputs.loss.item()

    model.eval()
    y_true, y_pred = [], []
    with torch.no_grad():
        for batch in val_loader:
            logits = model(input_ids=batch["input_ids"].to(device), token_type_ids=batch["token_type_ids"].to(device), attention_mask=batch["attention_mask"].to(device)).logits
            y_pred += logits.argmax(-1).cpu().tolist()
            y_true += batch["labels"].tolist()
    print(f"Epoch {epoch + 1}/2 - loss: {train_loss / len(train_loader):.4f} - val_accuracy: {accuracy_score(y_true, y_pred):.4f}")
