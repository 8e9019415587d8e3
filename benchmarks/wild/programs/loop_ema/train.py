import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        self.backup = {}

    @torch.no_grad()
    def update(self, model):
        for n, p in model.named_parameters():
            if n in self.shadow:
                self.shadow[n].mul_(self.decay).add_(p, alpha=1 - self.decay)

    @torch.no_grad()
    def apply(self, model):
        for n, p in model.named_parameters():
            if n in self.shadow:
                self.backup[n] = p.detach().clone()
                p.copy_(self.shadow[n])

    @torch.no_grad()
    def restore(self, model):
        for n, p in model.named_parameters():
            if n in self.backup:
                p.copy_(self.backup[n])
        self.backup = {}


def main():
    torch.manual_seed(16)
    name = "models/small-bert"
    tok = AutoTokenizer.from_pretrained(name)

    def collate(rows):
        b = tok([r["text"] for r in rows], padding=True, truncation=True, max_length=40, return_tensors="pt")
        return {**b, "labels": torch.tensor([r["label"] for r in rows])}

    train = DataLoader(pd.read_csv("data/train.csv", nrows=720).to_dict("records"), 16, shuffle=True, collate_fn=collate)
    valid = DataLoader(pd.read_csv("data/valid.csv", nrows=200).to_dict("records"), 50, collate_fn=collate)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
    ema = EMA(model, decay=0.995)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)

    def validate():
        model.eval()
        loss = hits = 0
        with torch.no_grad():
            for b in valid:
                out = model(**b)
                loss += out.loss.item()
                hits += (out.logits.argmax(-1) == b["labels"]).sum().item()
        model.train()
        return loss / len(valid), hits / len(valid.dataset)

    model.train()
    step = 0
    for epoch in range(2):
        for b in train:
            step += 1
            loss = model(**b).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(model)
            if step % 15 == 0:
                ema.apply(model)
                val_loss, val_acc = validate()
                print(f"step {step} train {loss.item():.4f} ema valid loss {val_loss:.4f} acc {val_acc:.3f}")
    ema.apply(model)
    print("final: loss %.4f acc %.3f" % validate())
    model.save_pretrained("out/ema")


if __name__ == "__main__":
    main()
