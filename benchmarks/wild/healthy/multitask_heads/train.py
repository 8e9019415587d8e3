import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModel, AutoTokenizer

torch.manual_seed(0)
df = pd.read_csv("data/four.csv")
df["source"] = df.label // 2      # 0: IMDb, 1: Rotten Tomatoes
df["sentiment"] = df.label % 2
train_df, test_df = train_test_split(df, test_size=400, stratify=df.label, random_state=0)

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


class MultiTask(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.encoder = AutoModel.from_pretrained("models/small-bert")
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.ModuleDict({t: nn.Linear(self.encoder.config.hidden_size, n) for t, n in tasks.items()})
        # uncertainty weighting
        self.log_var = nn.ParameterDict({t: nn.Parameter(torch.zeros(())) for t in tasks})

    def forward(self, input_ids, attention_mask):
        pooled = self.dropout(self.encoder(input_ids=input_ids, attention_mask=attention_mask).pooler_output)
        return {t: head(pooled) for t, head in self.heads.items()}

    def loss(self, outputs, targets):
        losses = {t: nn.functional.cross_entropy(outputs[t], targets[t]) for t in outputs}
        total = sum(torch.exp(-self.log_var[t]) * l + 0.5 * self.log_var[t] for t, l in losses.items())
        return total, {t: l.item() for t, l in losses.items()}


def dataset(frame):
    enc = tokenizer(frame.text.tolist(), padding=True, truncation=True, max_length=40, return_tensors="pt")
    return TensorDataset(enc.input_ids, enc.attention_mask, torch.tensor(frame.source.to_numpy()),
                         torch.tensor(frame.sentiment.to_numpy()))


model = MultiTask({"source": 2, "sentiment": 2})
optimizer = torch.optim.AdamW([
    {"params": model.encoder.parameters(), "lr": 2e-4},
    {"params": [*model.heads.parameters(), *model.log_var.parameters()], "lr": 1e-3},
])
train_loader = DataLoader(dataset(train_df), batch_size=16, shuffle=True)
test_loader = DataLoader(dataset(test_df), batch_size=64)

model.train()
for step, (ids, mask, source, sentiment) in enumerate(train_loader):
    outputs = model(ids, mask)
    loss, parts = model.loss(outputs, {"source": source, "sentiment": sentiment})
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 20 == 0:
        print(step, round(loss.item(), 4), {k: round(v, 4) for k, v in parts.items()})

model.eval()
right = {"source": 0, "sentiment": 0}
with torch.no_grad():
    for ids, mask, source, sentiment in test_loader:
        out = model(ids, mask)
        for task, target in (("source", source), ("sentiment", sentiment)):
            right[task] += (out[task].argmax(-1) == target).sum().item()
print({k: v / len(test_df) for k, v in right.items()})
