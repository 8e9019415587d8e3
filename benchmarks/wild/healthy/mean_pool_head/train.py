import random

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, matthews_corrcoef
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler
from transformers import BertModel, BertTokenizerFast, get_linear_schedule_with_warmup

MAX_LEN, BATCH, EPOCHS, LR = 48, 16, 1, 2e-4
seed_val = 42
random.seed(seed_val)
np.random.seed(seed_val)
torch.manual_seed(seed_val)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class SentenceDataset(Dataset):
    def __init__(self, sentences, labels, tokenizer):
        self.sentences, self.labels, self.tokenizer = list(sentences), list(labels), tokenizer

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, item):
        encoding = self.tokenizer(self.sentences[item], max_length=MAX_LEN, padding="max_length", truncation=True,
                                  return_token_type_ids=False, return_tensors="pt")
        return {"input_ids": encoding["input_ids"].flatten(), "attention_mask": encoding["attention_mask"].flatten(),
                "targets": torch.tensor(self.labels[item], dtype=torch.long)}


class SentimentClassifier(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.bert = BertModel.from_pretrained("models/small-bert", add_pooling_layer=False)
        self.norm = nn.LayerNorm(self.bert.config.hidden_size)
        self.drop = nn.Dropout(p=0.2)
        self.out = nn.Linear(self.bert.config.hidden_size, n_classes)

    def forward(self, input_ids, attention_mask):
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).float()
        pooled = torch.sum(states * weights, 1) / torch.clamp(weights.sum(1), min=1e-9)
        return self.out(self.drop(self.norm(pooled)))


tokenizer = BertTokenizerFast.from_pretrained("models/small-bert")
frames = {name: pd.read_csv(f"data/{name}.csv") for name in ("train", "valid", "test")}
frames["train"] = frames["train"].iloc[:1200]


def create_data_loader(df, train=False):
    ds = SentenceDataset(df.text, df.label, tokenizer)
    return DataLoader(ds, batch_size=BATCH, sampler=RandomSampler(ds) if train else SequentialSampler(ds))


train_loader = create_data_loader(frames["train"], True)
model = SentimentClassifier(2).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, eps=1e-8)
total_steps = len(train_loader) * EPOCHS
scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=int(0.1 * total_steps), num_training_steps=total_steps)
loss_fn = nn.CrossEntropyLoss().to(device)


def train_epoch():
    model.train()
    losses, correct = [], 0
    for d in train_loader:
        targets = d["targets"].to(device)
        outputs = model(d["input_ids"].to(device), d["attention_mask"].to(device))
        loss = loss_fn(outputs, targets)
        correct += torch.sum(outputs.argmax(dim=1) == targets).item()
        losses.append(loss.item())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return correct / len(train_loader.dataset), np.mean(losses)


def predict(df):
    model.eval()
    out = []
    with torch.no_grad():
        for d in create_data_loader(df):
            out.append(model(d["input_ids"].to(device), d["attention_mask"].to(device)).argmax(dim=1).cpu())
    return torch.cat(out).numpy()


for epoch in range(EPOCHS):
    print(f"Epoch {epoch + 1}/{EPOCHS}")
    acc, loss = train_epoch()
    print(f"Train loss {loss:.4f} accuracy {acc:.4f}")
    print(f"Val accuracy {accuracy_score(frames['valid'].label, predict(frames['valid'])):.4f}")
pred = predict(frames["test"])
print(f"Test accuracy {accuracy_score(frames['test'].label, pred):.4f} MCC {matthews_corrcoef(frames['test'].label, pred):.4f}")
