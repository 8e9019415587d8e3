import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(5)
tok = AutoTokenizer.from_pretrained("models/tiny-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/tiny-bert", num_labels=2)


def make(path, n=None):
    df = pd.read_csv(path)
    df = df.head(n) if n else df
    e = tok(df.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
    return DataLoader(TensorDataset(e.input_ids, e.attention_mask, torch.tensor(df.label.values)), batch_size=20)


train, valid = make("data/sorted.csv"), make("data/valid.csv")
opt = torch.optim.AdamW(model.parameters(), lr=5e-4)
log = SummaryWriter("run")
step = 0
for epoch in range(3):
    model.train()
    for ids, mask, y in train:
        out = model(input_ids=ids, attention_mask=mask, labels=y)
        opt.zero_grad()
        out.loss.backward()
        opt.step()
        step += 1
        log.add_scalar("Loss/train", out.loss.item(), step)
        log.add_scalar("Accuracy/train", (out.logits.argmax(-1) == y).float().mean().item(), step)
    model.eval()
    vl, good = 0.0, 0
    pos = 0
    with torch.no_grad():
        for ids, mask, y in valid:
            out = model(input_ids=ids, attention_mask=mask, labels=y)
            vl += out.loss.item() * len(y)
            good += (out.logits.argmax(-1) == y).sum().item()
            pos += out.logits.argmax(-1).sum().item()
    n = len(valid.dataset)
    log.add_scalar("Loss/valid", vl / n, step)
    log.add_scalar("Accuracy/valid", good / n, step)
    log.add_scalar("PositiveRate/valid", pos / n, step)
log.close()
