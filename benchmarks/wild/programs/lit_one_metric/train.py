from functools import partial

import lightning as L
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Accuracy
from transformers import AutoModel, AutoTokenizer


def collate(tokenizer, rows):
    texts = [r["text"] for r in rows]
    enc = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([r["label"] for r in rows])


class TextModel(L.LightningModule):
    def __init__(self, path, lr):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(path).train()
        self.out = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.encoder.config.hidden_size, 2))
        self.loss = nn.CrossEntropyLoss()
        self.accuracy = Accuracy(task="multiclass", num_classes=2)
        self.lr = lr

    def step(self, batch):
        enc, y = batch
        logits = self.out(self.encoder(**enc).last_hidden_state[:, 0])
        loss = self.loss(logits, y)
        self.accuracy.update(logits, y)
        return loss

    def training_step(self, batch, idx):
        loss = self.step(batch)
        self.log("train/loss", loss, on_epoch=True, on_step=False, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch, idx):
        self.log("val/loss", self.step(batch), batch_size=len(batch[1]))

    def on_validation_epoch_end(self):
        acc = self.accuracy.compute()
        self.log("val/acc", acc)
        print(f"[{self.current_epoch}] val/loss={self.trainer.callback_metrics['val/loss']:.4f} val/acc={acc:.4f}")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def main():
    L.seed_everything(2)
    path = "models/small-bert"
    fn = partial(collate, AutoTokenizer.from_pretrained(path))
    train = pd.read_csv("data/train.csv").head(900).to_dict("records")
    valid = pd.read_csv("data/valid.csv").head(300).to_dict("records")
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, num_sanity_val_steps=0, enable_model_summary=False)
    trainer.fit(
        TextModel(path, 2e-4),
        DataLoader(train, batch_size=16, shuffle=True, collate_fn=fn),
        DataLoader(valid, batch_size=50, collate_fn=fn),
    )


if __name__ == "__main__":
    main()
