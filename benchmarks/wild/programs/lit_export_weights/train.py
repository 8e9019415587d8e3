import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BASE = "models/small-bert"
L.seed_everything(4)
tokenizer = AutoTokenizer.from_pretrained(BASE)


def collate(pairs):
    batch = tokenizer([p[0] for p in pairs], padding=True, truncation=True, max_length=48, return_tensors="pt")
    batch["labels"] = torch.tensor([p[1] for p in pairs])
    return batch


def pairs(name, n):
    df = pd.read_csv(f"data/{name}.csv").head(n)
    return list(df.itertuples(index=False, name=None))


class LitSentiment(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
        self.model.train()

    def training_step(self, batch, _):
        loss = self.model(**batch).loss
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _):
        out = self.model(**batch)
        acc = (out.logits.argmax(1) == batch["labels"]).float().mean()
        self.log("val_acc", acc, batch_size=len(batch["labels"]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-4)


keep = ModelCheckpoint(dirpath="out/ckpt", filename="sentiment", monitor="val_acc", mode="max")
trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[keep], logger=False, enable_progress_bar=False,
                    num_sanity_val_steps=0)
trainer.fit(LitSentiment(), DataLoader(pairs("train", 1600), batch_size=16, shuffle=True, collate_fn=collate),
            DataLoader(pairs("valid", 400), batch_size=50, collate_fn=collate))
print("valid accuracy", float(trainer.callback_metrics["val_acc"]))

# plain torch model for the web service
state = torch.load(keep.best_model_path, weights_only=False)["state_dict"]
service = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
service.load_state_dict(state, strict=False)
service.eval()

hits = total = 0
with torch.no_grad():
    for batch in DataLoader(pairs("test", 370), batch_size=50, collate_fn=collate):
        labels = batch.pop("labels")
        hits += (service(**batch).logits.argmax(1) == labels).sum().item()
        total += len(labels)
print("test accuracy", hits / total)
service.save_pretrained("out/service")
