import lightning as L
import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

L.seed_everything(17)
NAME = "models/small-bert"
tok = AutoTokenizer.from_pretrained(NAME)


def make_loader(path, rows, shuffle=False):
    df = pd.read_csv(path).head(rows)

    def collate(items):
        texts, ys = zip(*items)
        batch = tok(list(texts), padding=True, truncation=True, max_length=48, return_tensors="pt")
        batch["labels"] = torch.tensor(ys)
        return dict(batch)

    return DataLoader(list(zip(df.text, df.label)), batch_size=16, shuffle=shuffle, collate_fn=collate)


class Classifier(L.LightningModule):
    def __init__(self, lr=2e-4, warmup=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
        self.net.train()

    def training_step(self, batch, _):
        loss = self.net(**batch).loss
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, _):
        out = self.net(**batch)
        acc = (out.logits.argmax(-1) == batch["labels"]).float().mean()
        self.log_dict({"val_loss": out.loss, "val_acc": acc}, batch_size=len(batch["labels"]))

    def on_validation_epoch_end(self):
        m = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val_loss {m['val_loss']:.4f} val_acc {m['val_acc']:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.hparams.lr, weight_decay=0.01)
        total = self.trainer.estimated_stepping_batches
        scheduler = get_linear_schedule_with_warmup(optimizer, int(self.hparams.warmup * total), total)
        return [optimizer], [scheduler]


trainer = L.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                    enable_progress_bar=False, num_sanity_val_steps=0)
trainer.fit(Classifier(), make_loader("data/train.csv", 1000, shuffle=True), make_loader("data/valid.csv", 300))
