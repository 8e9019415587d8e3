import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation around another optimizer."""

    def __init__(self, params, base_optimizer, rho=0.05, adaptive=False, **kwargs):
        if rho < 0:
            raise ValueError("rho must not be negative")
        super().__init__(params, dict(rho=rho, adaptive=adaptive, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        norm = self._grad_norm()
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old"] = p.detach().clone()
                p.add_((p.pow(2) if group["adaptive"] else 1.0) * p.grad * scale)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if "old" in self.state[p]:
                    p.copy_(self.state[p].pop("old"))
        self.base_optimizer.step()
        self.zero_grad()

    def _grad_norm(self):
        norms = [((p.abs() if g["adaptive"] else 1.0) * p.grad).norm() for g in self.param_groups for p in g["params"]
                 if p.grad is not None]
        return torch.stack(norms).norm()


def main():
    torch.manual_seed(0)
    tok = AutoTokenizer.from_pretrained("models/small-bert")
    model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)

    def collate(rows):
        text, label = zip(*rows)
        return tok(list(text), return_tensors="pt", padding=True, truncation=True, max_length=48), torch.tensor(label)

    train = pd.read_csv("data/train.csv").head(1200)
    valid = pd.read_csv("data/valid.csv")
    train_loader = DataLoader(list(zip(train.text, train.label)), 16, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(list(zip(valid.text, valid.label)), 64, collate_fn=collate)
    optimizer = SAM(model.parameters(), torch.optim.AdamW, rho=0.02, lr=2e-4, weight_decay=0.01)
    loss_fn = torch.nn.CrossEntropyLoss()

    model.train()
    for step, (x, y) in enumerate(train_loader):
        loss = loss_fn(model(**x).logits, y)
        loss.backward()
        optimizer.first_step()
        sharp = loss_fn(model(**x).logits, y)
        sharp.backward()
        optimizer.second_step()
        if step % 10 == 0:
            print(f"step {step:3d} loss {loss.item():.4f} loss at the perturbed point {sharp.item():.4f}")
    model.eval()
    with torch.no_grad():
        correct = sum((model(**x).logits.argmax(1) == y).sum().item() for x, y in valid_loader)
    print("accuracy", correct / len(valid))


if __name__ == "__main__":
    main()
