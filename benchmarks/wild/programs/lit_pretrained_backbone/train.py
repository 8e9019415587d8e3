import lightning.pytorch as pl
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModel, AutoTokenizer

pl.seed_everything(8, workers=True)


class Sentences(Dataset):
    def __init__(self, csv, limit=None):
        self.frame = pd.read_csv(csv, nrows=limit)

    def __len__(self):
        return len(self.frame)

    def __getitem__(self, i):
        row = self.frame.iloc[i]
        return row.text, int(row.label)


class SentenceData(pl.LightningDataModule):
    def __init__(self, tokenizer, batch_size=16):
        super().__init__()
        self.tokenizer = tokenizer
        self.batch_size = batch_size

    def collate(self, rows):
        x = self.tokenizer([r[0] for r in rows], padding="longest", truncation=True, max_length=48, return_tensors="pt")
        return x["input_ids"], x["attention_mask"], torch.tensor([r[1] for r in rows])

    def train_dataloader(self):
        return DataLoader(Sentences("data/train.csv", 800), self.batch_size, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self):
        return DataLoader(Sentences("data/valid.csv"), 64, collate_fn=self.collate)


class FineTuner(pl.LightningModule):
    def __init__(self, name="models/small-bert", dropout=0.3):
        super().__init__()
        self.backbone = AutoModel.from_pretrained(name, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        self.classifier = nn.Linear(self.backbone.config.hidden_size, 2)
        self.criterion = nn.CrossEntropyLoss()
        self.val_acc = MulticlassAccuracy(num_classes=2, average="micro")

    def forward(self, ids, mask):
        return self.classifier(self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])

    def training_step(self, batch, batch_idx):
        ids, mask, y = batch
        loss = self.criterion(self(ids, mask), y)
        if batch_idx % 20 == 0:
            print(f"epoch {self.current_epoch} batch {batch_idx}: {loss.item():.4f}")
        return loss

    def validation_step(self, batch, batch_idx):
        ids, mask, y = batch
        logits = self(ids, mask)
        self.val_acc.update(logits, y)
        self.log("val_loss", self.criterion(logits, y), batch_size=len(y))
        self.log("val_acc", self.val_acc)

    def on_validation_epoch_end(self):
        print({k: round(v.item(), 4) for k, v in self.trainer.callback_metrics.items()})

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-4)


dm = SentenceData(AutoTokenizer.from_pretrained("models/small-bert"))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                     enable_progress_bar=False, num_sanity_val_steps=0)
trainer.fit(FineTuner(), dm)
