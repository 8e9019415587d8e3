import json
import os

import pandas as pd
import torch
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_cosine_schedule_with_warmup

EPOCHS, LR, BATCH = 4, 1e-3, 16
tok = AutoTokenizer.from_pretrained("models/tiny-distilbert")


def collate(rows):
    enc = tok([t for t, _ in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([y for _, y in rows])


def loader(name, n, shuffle=False):
    f = pd.read_csv(f"data/{name}.csv").head(n)
    return DataLoader(list(zip(f.text, f.label)), batch_size=BATCH, shuffle=shuffle, collate_fn=collate)


class Trainer:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(f"{folder}/checkpoints", exist_ok=True)
        self.train_loader, self.valid_loader = loader("train", 800, True), loader("valid", 300)
        self.model = AutoModelForSequenceClassification.from_pretrained("models/tiny-distilbert", num_labels=2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR)
        total = EPOCHS * len(self.train_loader)
        self.lr_scheduler = get_cosine_schedule_with_warmup(self.optimizer, total // 10, total)
        self.starting_epoch, self.step = 0, 0
        self.writer = SummaryWriter(f"{folder}/tb")

    def save_model(self, epoch):
        torch.save({"epoch": epoch, "step": self.step, "model_state_dict": self.model.state_dict(),
                    "optimizer_state_dict": self.optimizer.state_dict()}, f"{self.folder}/checkpoints/recent.pt")

    def load_checkpoint(self):
        ckpt = torch.load(f"{self.folder}/checkpoints/recent.pt")
        self.model.load_state_dict(ckpt["model_state_dict"])
        self.optimizer.load_state_dict(ckpt["optimizer_state_dict"])
        self.starting_epoch, self.step = ckpt["epoch"] + 1, ckpt["step"]

    def fit(self, until=EPOCHS):
        for epoch in range(self.starting_epoch, until):
            self.model.train()
            for x, y in self.train_loader:
                loss = self.model(**x, labels=y).loss
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.lr_scheduler.step()
                self.step += 1
                self.writer.add_scalar("train/loss", loss.item(), self.step)
                self.writer.add_scalar("train/lr", self.optimizer.param_groups[0]["lr"], self.step)
            self.model.eval()
            vloss, good, n = 0.0, 0, 0
            with torch.no_grad():
                for x, y in self.valid_loader:
                    out = self.model(**x, labels=y)
                    vloss += out.loss.item() * len(y)
                    good += (out.logits.argmax(-1) == y).sum().item()
                    n += len(y)
            self.writer.add_scalar("valid/loss", vloss / n, self.step)
            self.writer.add_scalar("valid/accuracy", good / n, self.step)
            self.save_model(epoch)
        self.writer.close()


torch.manual_seed(8)
first = Trainer("run")
with open("run/config.json", "w") as f:
    json.dump({"epochs": EPOCHS, "lr": LR, "batch_size": BATCH, "scheduler": "cosine with 10% warmup"}, f, indent=2)
first.fit(until=3)
second = Trainer("run")
second.load_checkpoint()
second.fit()
