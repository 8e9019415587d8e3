import json
import os

import pandas as pd
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertForSequenceClassification, BertTokenizerFast, get_linear_schedule_with_warmup


class Config:
    model_path = "models/small-bert"
    max_seq_len = 48
    batch_size = 16
    num_epoch = 1
    lr = 2e-4
    num_labels = 2
    num_training_steps = 0
    num_warmup_steps = 0


def get_loader(tokenizer, path, config, shuffle):
    df = pd.read_csv(path)
    enc = tokenizer(df["text"].tolist(), padding="max_length", truncation=True, max_length=config.max_seq_len, return_tensors="pt")
    data = TensorDataset(enc["input_ids"], enc["token_type_ids"], enc["attention_mask"], torch.tensor(df["label"].tolist()))
    return DataLoader(data, batch_size=config.batch_size, shuffle=shuffle)


class Trainer:
    def __init__(self, model, data_loader, config):
        self.model = model
        self.data_loader = data_loader
        self.config = config
        self.config.num_training_steps = config.num_epoch * (len(data_loader["train"]) // config.batch_size)
        self.config.num_warmup_steps = self.config.num_training_steps // 10
        self.optimizer = AdamW(self.model.parameters(), lr=config.lr, weight_decay=0.01)
        self.scheduler = get_linear_schedule_with_warmup(
            self.optimizer, num_warmup_steps=self.config.num_warmup_steps, num_training_steps=self.config.num_training_steps)
        self.criterion = torch.nn.CrossEntropyLoss()

    def evaluate(self):
        self.model.eval()
        correct = 0
        with torch.no_grad():
            for ids, types, mask, labels in self.data_loader["valid"]:
                logits = self.model(input_ids=ids, token_type_ids=types, attention_mask=mask).logits
                correct += (logits.argmax(-1) == labels).sum().item()
        self.model.train()
        return correct / len(self.data_loader["valid"].dataset)

    def train(self):
        self.model.train()
        for epoch in range(self.config.num_epoch):
            loss_sum = 0.0
            for step, (ids, types, mask, labels) in enumerate(self.data_loader["train"], 1):
                logits = self.model(input_ids=ids, token_type_ids=types, attention_mask=mask).logits
                loss = self.criterion(logits, labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                loss_sum += loss.item()
                if step % 25 == 0:
                    print(f"train_loss: {loss_sum / 25:.4f} in step {step} of epoch {epoch}")
                    loss_sum = 0.0
            print(json.dumps({"epoch": epoch, "valid_acc": self.evaluate()}))


if __name__ == "__main__":
    torch.manual_seed(42)
    config = Config()
    tokenizer = BertTokenizerFast.from_pretrained(config.model_path)
    model = BertForSequenceClassification.from_pretrained(config.model_path, num_labels=config.num_labels)
    loaders = {"train": get_loader(tokenizer, os.path.join("data", "train.csv"), config, True),
               "valid": get_loader(tokenizer, os.path.join("data", "valid.csv"), config, False)}
    Trainer(model, loaders, config).train()
