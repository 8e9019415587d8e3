import lightning.pytorch as pl
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModel, AutoTokenizer

pl.seed_everything(123, workers=True)
tokenizer = AutoTokenizer.from_pretrained("models/tiny-distilbert")


class TextModule(pl.LightningModule):
    def __init__(self, learning_rate: float = 1e-3, dropout: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = AutoModel.from_pretrained("models/tiny-distilbert")
        self.head = torch.nn.Sequential(torch.nn.Dropout(dropout), torch.nn.Linear(self.encoder.config.dim, 2))

    def forward(self, ids, mask):
        h = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        m = mask.unsqueeze(-1)
        return self.head((h * m).sum(1) / m.sum(1))

    def _shared(self, batch, stage):
        ids, mask, y = batch
        logits = self(ids, mask)
        loss = F.cross_entropy(logits, y)
        self.log_dict({f"{stage}_loss": loss, f"{stage}_acc": (logits.argmax(1) == y).float().mean()}, on_epoch=True, on_step=False)
        return loss

    def training_step(self, batch, i):
        return self._shared(batch, "train")

    def validation_step(self, batch, i):
        return self._shared(batch, "val")

    def test_step(self, batch, i):
        return self._shared(batch, "test")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


def data(name, n, shuffle=False):
    f = pd.read_csv(f"data/{name}.csv").head(n)
    e = tokenizer(f.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
    return DataLoader(TensorDataset(e["input_ids"], e["attention_mask"], torch.tensor(f.label.values)), batch_size=32, shuffle=shuffle)


logger = CSVLogger("run", name="text", version=0)
best = ModelCheckpoint(dirpath="run/best_model", monitor="val_loss", mode="max", save_top_k=1, filename="{epoch:02d}-{val_loss:.3f}", save_weights_only=True)
last = ModelCheckpoint(dirpath="run/last_model", filename="last", save_weights_only=True)
trainer = pl.Trainer(max_epochs=7, accelerator="cpu", logger=logger, callbacks=[best, last], enable_progress_bar=False,
                     enable_model_summary=False, log_every_n_steps=10)
module = TextModule(learning_rate=2e-3)
trainer.fit(module, data("train", 1000, True), data("valid", 400))
trainer.test(module, data("test", 300), ckpt_path="best", verbose=False)
