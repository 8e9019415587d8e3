import pandas as pd
import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer, get_linear_schedule_with_warmup


class PromptClassifier(nn.Module):
    def __init__(self, bert_name, num_labels=2):
        super().__init__()
        self.bert = AutoModel.from_pretrained(bert_name)
        self.proj = nn.Sequential(nn.Linear(self.bert.config.hidden_size, 256), nn.Tanh(), nn.Dropout(0.1))
        self.fc = nn.Linear(256, num_labels)

    def forward(self, input_ids, attention_mask, labels=None):
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        logits = self.fc(self.proj(hidden))
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return loss, logits


class SentTrainer:
    def __init__(self, train_data, dev_data, model, lr=1e-4, num_epochs=1):
        self.train_data, self.dev_data, self.model = train_data, dev_data, model
        self.lr, self.num_epochs = lr, num_epochs
        self.train_num_steps = len(train_data) * num_epochs

    def multimodal_before_train(self):
        parameters = []
        params = {"lr": self.lr, "weight_decay": 1e-2, "params": []}
        for name, param in self.model.named_parameters():
            if "bert" in name:
                params["params"].append(param)
        parameters.append(params)

        params = {"lr": 5e-3, "weight_decay": 1e-2, "params": []}
        for name, param in self.model.named_parameters():
            if "proj" in name or name.startswith("fc"):
                params["params"].append(param)
        self.optimizer = optim.AdamW(parameters)
        self.scheduler = get_linear_schedule_with_warmup(self.optimizer, num_warmup_steps=0.01 * self.train_num_steps,
                                                         num_training_steps=self.train_num_steps)

    def train(self):
        self.multimodal_before_train()
        for epoch in range(1, self.num_epochs + 1):
            self.model.train()
            avg_loss = 0.0
            for step, batch in enumerate(self.train_data, 1):
                loss, _ = self.model(**batch)
                avg_loss += loss.item()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                if step % 25 == 0:
                    print(f"Epoch {epoch}/{self.num_epochs} step {step} loss:{avg_loss / 25:.5f}")
                    avg_loss = 0.0
            self.evaluate(epoch)

    def evaluate(self, epoch):
        self.model.eval()
        y_true, y_pred = [], []
        with torch.no_grad():
            for batch in self.dev_data:
                _, logits = self.model(**batch)
                y_pred.extend(logits.argmax(-1).tolist())
                y_true.extend(batch["labels"].tolist())
        acc = sum(p == t for p, t in zip(y_pred, y_true)) / len(y_true)
        print(f"Epoch {epoch}/{self.num_epochs} dev acc {acc:.4f}")


if __name__ == "__main__":
    torch.manual_seed(1234)
    tokenizer = AutoTokenizer.from_pretrained("models/small-bert")

    def collate(rows):
        enc = tokenizer([r[0] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
        return {"input_ids": enc["input_ids"], "attention_mask": enc["attention_mask"], "labels": torch.tensor([r[1] for r in rows])}

    def load(name):
        d = pd.read_csv(f"data/{name}.csv")
        return list(zip(d["text"], d["label"]))

    train_loader = DataLoader(load("train"), batch_size=16, shuffle=True, collate_fn=collate)
    dev_loader = DataLoader(load("valid"), batch_size=64, collate_fn=collate)
    SentTrainer(train_loader, dev_loader, PromptClassifier("models/small-bert")).train()
