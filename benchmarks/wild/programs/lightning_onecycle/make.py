import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryAccuracy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

L.seed_everything(7)
tok = AutoTokenizer.from_pretrained("models/tiny-bert")
EPOCHS = 5


class Sentiment(L.LightningModule):
    def __init__(self, steps_per_epoch, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = AutoModelForSequenceClassification.from_pretrained("models/tiny-bert", num_labels=2)
        self.acc = BinaryAccuracy()

    def training_step(self, batch, _):
        ids, mask, y = batch
        loss = self.net(input_ids=ids, attention_mask=mask, labels=y).loss
        self.log("train_loss", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch, _):
        ids, mask, y = batch
        out = self.net(input_ids=ids, attention_mask=mask, labels=y)
        self.acc(out.logits.argmax(-1), y)
        self.log("val_loss", out.loss)
        self.log("val_acc", self.acc)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        lr_scheduler = {
            "scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, steps_per_epoch=self.hparams.steps_per_epoch,
                                                             epochs=EPOCHS, anneal_strategy="linear"),
            "name": "learning_rate",
        }
        return [optimizer], [lr_scheduler]


def loader(name, n, shuffle=False):
    d = pd.read_csv(f"data/{name}.csv").head(n)
    e = tok(d.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
    return DataLoader(TensorDataset(e.input_ids, e.attention_mask, torch.tensor(d.label.values)), batch_size=16, shuffle=shuffle)


train, valid = loader("train", 800, True), loader("valid", 300)
trainer = L.Trainer(max_epochs=EPOCHS, accelerator="cpu", logger=CSVLogger("run", name="sentiment"), callbacks=[LearningRateMonitor()],
                    log_every_n_steps=10, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                    num_sanity_val_steps=0)
trainer.fit(Sentiment(len(train)), train, valid)
