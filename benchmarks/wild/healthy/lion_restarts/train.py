import pandas as pd
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, DistilBertForSequenceClassification


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(p)
                m = state["m"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(m.lerp(p.grad, 1 - b1).sign_(), alpha=-group["lr"])
                m.lerp_(p.grad, 1 - b2)
        return loss


torch.manual_seed(100)
tok = AutoTokenizer.from_pretrained("models/tiny-distilbert")
model = DistilBertForSequenceClassification.from_pretrained("models/tiny-distilbert", num_labels=2)


def make(split, shuffle=False):
    df = pd.read_csv(f"data/{split}.csv")

    def collate(idx):
        rows = df.iloc[idx]
        enc = tok(rows.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
        return {"input_ids": enc["input_ids"], "attention_mask": enc["attention_mask"],
                "labels": torch.as_tensor(rows.label.to_numpy())}

    return DataLoader(range(len(df)), batch_size=32, shuffle=shuffle, collate_fn=collate)


train, valid = make("train", True), make("valid")
opt = Lion(model.parameters(), lr=3e-4, weight_decay=0.05)
EPOCHS = 6
sched = CosineAnnealingWarmRestarts(opt, T_0=2, T_mult=2, eta_min=1e-5)
for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for i, batch in enumerate(train):
        opt.zero_grad()
        out = model(**batch)
        out.loss.backward()
        opt.step()
        sched.step(epoch + (i + 1) / len(train))
        total += out.loss.item()
    model.eval()
    with torch.no_grad():
        acc = torch.cat([model(**b).logits.argmax(-1) == b["labels"] for b in valid]).float().mean().item()
    print(f"epoch {epoch} train {total / len(train):.4f} valid acc {acc:.4f} lr {opt.param_groups[0]['lr']:.2e}")
