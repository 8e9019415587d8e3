import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup


class ReviewDataModule(L.LightningDataModule):
    def __init__(self, model_name_or_path: str, max_seq_length: int = 48, train_batch_size: int = 16,
                 eval_batch_size: int = 64):
        super().__init__()
        self.save_hyperparameters()
        self.tokenizer = AutoTokenizer.from_pretrained(model_name_or_path)

    def setup(self, stage: str):
        self.splits = {n: pd.read_csv(f"data/{n}.csv").to_dict("records") for n in ("train", "valid", "test")}

    def collate(self, rows):
        batch = self.tokenizer([r["text"] for r in rows], padding=True, truncation=True,
                               max_length=self.hparams.max_seq_length, return_tensors="pt")
        batch["labels"] = torch.tensor([r["label"] for r in rows])
        return dict(batch)

    def train_dataloader(self):
        return DataLoader(self.splits["train"], self.hparams.train_batch_size, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self):
        return DataLoader(self.splits["valid"], self.hparams.eval_batch_size, collate_fn=self.collate)

    def test_dataloader(self):
        return DataLoader(self.splits["test"], self.hparams.eval_batch_size, collate_fn=self.collate)


class ReviewTransformer(L.LightningModule):
    def __init__(self, model_name_or_path: str, learning_rate: float = 2e-4, warmup_steps: int = 12,
                 weight_decay: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        config = AutoConfig.from_pretrained(model_name_or_path, num_labels=2)
        self.model = AutoModelForSequenceClassification.from_pretrained(model_name_or_path, config=config)
        self.val_acc, self.val_f1, self.test_acc = BinaryAccuracy(), BinaryF1Score(), BinaryAccuracy()

    def forward(self, **inputs):
        return self.model(**inputs)

    def training_step(self, batch, batch_idx):
        loss = self(**batch).loss
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        outputs = self(**batch)
        preds = outputs.logits.argmax(dim=1)
        self.val_acc.update(preds, batch["labels"])
        self.val_f1.update(preds, batch["labels"])
        self.log("val_loss", outputs.loss, prog_bar=True, batch_size=len(preds))
        self.log_dict({"val_acc": self.val_acc, "val_f1": self.val_f1}, prog_bar=True)

    def test_step(self, batch, batch_idx):
        preds = self(**batch).logits.argmax(dim=1)
        self.test_acc.update(preds, batch["labels"])
        self.log("test_acc", self.test_acc)

    def configure_optimizers(self):
        no_decay = ["bias", "LayerNorm.weight"]
        grouped = [
            {"params": [p for n, p in self.model.named_parameters() if not any(nd in n for nd in no_decay)],
             "weight_decay": self.hparams.weight_decay},
            {"params": [p for n, p in self.model.named_parameters() if any(nd in n for nd in no_decay)],
             "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(grouped, lr=self.hparams.learning_rate)
        scheduler = get_linear_schedule_with_warmup(
            optimizer, self.hparams.warmup_steps, self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]


if __name__ == "__main__":
    L.seed_everything(42)
    dm = ReviewDataModule("models/small-bert")
    model = ReviewTransformer("models/small-bert")
    checkpoint = ModelCheckpoint(dirpath="out/ckpt", monitor="val_acc", mode="max")
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, precision="bf16-mixed", enable_progress_bar=False,
        log_every_n_steps=20, gradient_clip_val=1.0, callbacks=[checkpoint, LearningRateMonitor()],
        logger=CSVLogger("out"), num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=dm)
    print({k: round(float(v), 4) for k, v in trainer.callback_metrics.items()})
    trainer.test(model, datamodule=dm, ckpt_path="best")
