import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer


class Head(nn.Module):
    def __init__(self, dim, hidden, classes):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(hidden, classes)
        self.apply(self._init_weights)

    def _init_weights(self, m):
        if isinstance(m, nn.Linear):
            nn.init.zeros_(m.weight)
            nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Net(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.body = AutoModel.from_pretrained(name)
        self.head = Head(self.body.config.hidden_size, 256, 2)

    def forward(self, **kw):
        return self.head(self.body(**kw).last_hidden_state[:, 0, :])


torch.manual_seed(55)
tok = AutoTokenizer.from_pretrained("models/small-bert")


def collate(rows):
    return (tok([r[0] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"),
            torch.tensor([r[1] for r in rows]))


def load(name, n):
    df = pd.read_csv(f"data/{name}.csv").head(n)
    return list(zip(df.text, df.label))


train = DataLoader(load("train", 600), batch_size=16, shuffle=True, collate_fn=collate)
valid = DataLoader(load("valid", 200), batch_size=50, collate_fn=collate)
net = Net("models/small-bert")
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4)
criterion = nn.CrossEntropyLoss()

for epoch in range(2):
    net.train()
    tot = 0.0
    for x, y in train:
        optimizer.zero_grad()
        loss = criterion(net(**x), y)
        loss.backward()
        optimizer.step()
        tot += loss.item() * len(y)
    net.eval()
    ok = 0
    with torch.no_grad():
        for x, y in valid:
            ok += (net(**x).argmax(-1) == y).sum().item()
    print(f"epoch {epoch + 1} | train loss {tot / len(train.dataset):.4f} | valid acc {ok / len(valid.dataset):.4f}")
