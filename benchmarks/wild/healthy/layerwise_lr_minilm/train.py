import pandas as pd
import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer, get_cosine_schedule_with_warmup, set_seed


class CFG:
    model = "models/minilm"
    seed = 42
    epochs = 2
    bs = 16
    max_len = 40
    n_train = 288
    head_lr = 1e-3
    top_lr = 1e-4
    decay = 0.85
    weight_decay = 0.01


set_seed(CFG.seed)
tokenizer = AutoTokenizer.from_pretrained(CFG.model)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = AutoModel.from_pretrained(CFG.model, add_pooling_layer=False)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(self.backbone.config.hidden_size, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch):
        hidden = self.backbone(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return self.head(self.drop(pooled))


def get_optimizer_grouped_parameters(model):
    no_decay = ("bias", "LayerNorm.weight")
    layers = [model.backbone.embeddings, *model.backbone.encoder.layer]
    groups = [{"params": list(model.head.parameters()), "lr": CFG.head_lr, "weight_decay": 0.0}]
    lr = CFG.top_lr
    for layer in reversed(layers):
        named = list(layer.named_parameters())
        groups.append({"params": [p for n, p in named if not n.endswith(no_decay)], "lr": lr,
                       "weight_decay": CFG.weight_decay})
        groups.append({"params": [p for n, p in named if n.endswith(no_decay)], "lr": lr, "weight_decay": 0.0})
        lr *= CFG.decay
    return groups


def collate(rows):
    enc = tokenizer([t for t, _ in rows], padding=True, truncation=True, max_length=CFG.max_len, return_tensors="pt")
    return dict(enc), torch.tensor([y for _, y in rows])


def loader(name, n=None, shuffle=False):
    df = pd.read_csv(f"data/{name}.csv", nrows=n)
    return DataLoader(list(zip(df.text, df.label)), CFG.bs, shuffle=shuffle, collate_fn=collate)


train_loader, valid_loader = loader("train", CFG.n_train, True), loader("valid", 150)
model = Model()
optimizer = torch.optim.AdamW(get_optimizer_grouped_parameters(model), lr=CFG.top_lr)
print("learning rates", sorted({round(g["lr"], 8) for g in optimizer.param_groups}, reverse=True))
steps = len(train_loader) * CFG.epochs
scheduler = get_cosine_schedule_with_warmup(optimizer, int(0.1 * steps), steps)
criterion = nn.CrossEntropyLoss()

for epoch in range(CFG.epochs):
    model.train()
    total = 0
    for batch, y in train_loader:
        loss = criterion(model(batch), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item()
    model.eval()
    with torch.inference_mode():
        hits = sum((model(b).argmax(1) == y).sum().item() for b, y in valid_loader)
    print(f"Epoch {epoch + 1} - avg_train_loss: {total / len(train_loader):.4f}  score: {hits / len(valid_loader.dataset):.4f}")
