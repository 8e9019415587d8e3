import pandas as pd
import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

torch.manual_seed(64)
N_EXTRA = 4


def clones(module, n):
    return nn.ModuleList([module for _ in range(n)])


class Tagger(nn.Module):
    def __init__(self, path, n_labels):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(path)
        d = self.encoder.config.hidden_size
        self.extra = clones(nn.TransformerEncoderLayer(d, 6, 2 * d, dropout=0.1, activation="gelu", batch_first=True), N_EXTRA)
        self.norm = nn.LayerNorm(d)
        self.classify = nn.Linear(d, n_labels)

    def forward(self, x):
        h = self.encoder(**x).last_hidden_state
        pad = x["attention_mask"] == 0
        for layer in self.extra:
            h = layer(h, src_key_padding_mask=pad)
        return self.classify(self.norm(h[:, 0]))


tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


def collate(items):
    x = tokenizer([t for t, _ in items], padding=True, truncation=True, max_length=40, return_tensors="pt")
    return x, torch.tensor([y for _, y in items])


def dl(name, n, shuffle):
    df = pd.read_csv(f"data/{name}.csv").head(n)
    return DataLoader(list(zip(df.text, df.label)), batch_size=16, shuffle=shuffle, collate_fn=collate)


net = Tagger("models/small-bert", 2)
train, valid = dl("train", 640, True), dl("valid", 200, False)
opt = torch.optim.AdamW([
    {"params": net.encoder.parameters(), "lr": 1e-4},
    {"params": [*net.extra.parameters(), *net.norm.parameters(), *net.classify.parameters()], "lr": 2e-4},
])
sched = torch.optim.lr_scheduler.OneCycleLR(opt, [1e-4, 2e-4], total_steps=len(train))
net.train()
for i, (x, y) in enumerate(train, 1):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    sched.step()
    if i % 10 == 0:
        print(f"step {i} loss {loss.item():.4f}")
net.eval()
with torch.no_grad():
    right = sum((net(x).argmax(-1) == y).sum().item() for x, y in valid)
print(f"valid accuracy {right / len(valid.dataset):.4f}")
