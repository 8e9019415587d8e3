import re

import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
TOKEN = re.compile(r"[a-z']+|[.,!?]")
train_df, valid_df, test_df = [pd.read_csv(f"data/{n}.csv") for n in ("train", "valid", "test")]
vocab = {}
for t in train_df.text:
    for w in TOKEN.findall(t.lower()):
        vocab.setdefault(w, len(vocab) + 2)


def dataset(df, width=32):
    x = torch.zeros(len(df), width, dtype=torch.long)
    for i, t in enumerate(df.text):
        ids = [vocab.get(w, 1) for w in TOKEN.findall(t.lower())][:width]
        x[i, : len(ids)] = torch.tensor(ids)
    return TensorDataset(x, torch.tensor(df.label.to_numpy()))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(len(vocab) + 2, 64, padding_idx=0)
        self.conv = nn.Conv1d(64, 96, 3, padding=1)
        self.bn = nn.BatchNorm1d(96)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(96, 2)

    def forward(self, x):
        h = torch.relu(self.bn(self.conv(self.emb(x).transpose(1, 2))))
        h = h.masked_fill((x == 0).unsqueeze(1), 0.0)
        lengths = (x != 0).sum(1, keepdim=True).clamp(min=1)
        return self.fc(self.drop(h.sum(2) / lengths))


loader = DataLoader(dataset(train_df), batch_size=64, shuffle=True)
val_loader, test_loader = DataLoader(dataset(valid_df), 250), DataLoader(dataset(test_df), 250)
model = Net()
swa_model = AveragedModel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=1e-3)
swa_start, swa_scheduler = 5, SWALR(optimizer, swa_lr=1e-3, anneal_epochs=1)


def accuracy(m, dl):
    m.eval()
    with torch.no_grad():
        return sum((m(x).argmax(1) == y).sum().item() for x, y in dl) / len(dl.dataset)


for epoch in range(9):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    if epoch >= swa_start:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    print(f"epoch {epoch} loss {total / len(loader.dataset):.3f} valid {accuracy(model, val_loader):.3f}")

update_bn(loader, swa_model)
print(f"SWA: valid {accuracy(swa_model, val_loader):.3f} test {accuracy(swa_model, test_loader):.3f}")
