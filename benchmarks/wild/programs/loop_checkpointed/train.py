import pandas as pd
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer


class LongTextClassifier(nn.Module):
    """Frozen word vectors, trainable encoder layers, activations recomputed in the backward pass."""

    def __init__(self, name, classes):
        super().__init__()
        base = AutoModel.from_pretrained(name)
        self.embeddings = base.embeddings
        self.layers = base.encoder.layer
        for p in self.embeddings.parameters():
            p.requires_grad = False
        self.head = nn.Linear(base.config.hidden_size, classes)

    def forward(self, ids, mask):
        h = self.embeddings(input_ids=ids)
        bias = (1.0 - mask[:, None, None, :].float()) * -1e4

        for layer in self.layers:
            def run(hidden, layer=layer):
                out = layer(hidden, attention_mask=bias)
                return out[0] if isinstance(out, tuple) else out
            h = checkpoint(run, h, use_reentrant=True) if self.training else run(h)
        m = mask.unsqueeze(-1).float()
        return self.head((h * m).sum(1) / m.sum(1))


tok = AutoTokenizer.from_pretrained("models/small-bert")
torch.manual_seed(11)


def collate(rows):
    x = tok([t for t, _ in rows], padding=True, truncation=True, max_length=128, return_tensors="pt")
    return x["input_ids"], x["attention_mask"], torch.tensor([y for _, y in rows])


df = pd.read_csv("data/reviews.csv")
rows = list(zip(df.text, df.label))
train = DataLoader(rows[:450], batch_size=8, shuffle=True, collate_fn=collate)
valid = DataLoader(rows[450:], batch_size=25, collate_fn=collate)

model = LongTextClassifier("models/small-bert", 2)
params = [p for p in model.parameters() if p.requires_grad]
print(f"training {sum(p.numel() for p in params):,} parameters")
optimizer = torch.optim.AdamW(params, lr=3e-4, weight_decay=0.0)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(2):
    model.train()
    seen = total = 0
    for ids, mask, y in train:
        loss = loss_fn(model(ids, mask), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        seen += len(y)
    model.eval()
    with torch.no_grad():
        good = sum((model(i, m).argmax(-1) == y).sum().item() for i, m, y in valid)
    print(f"epoch {epoch} train loss {total / seen:.4f} valid accuracy {good / len(valid.dataset):.4f}")
