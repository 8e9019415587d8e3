import pandas as pd
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(17)
PATH = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(PATH)
net = AutoModelForSequenceClassification.from_pretrained(PATH, num_labels=2)
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.95))
ema.eval()

train = pd.read_csv("data/train.csv").iloc[:1600]
dev = pd.read_csv("data/valid.csv")


def batches(frame, size, generator=None):
    idx = torch.randperm(len(frame), generator=generator) if generator is not None else torch.arange(len(frame))
    for part in idx.split(size):
        rows = frame.iloc[part.tolist()]
        yield (tokenizer(rows.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt"),
               torch.tensor(rows.label.tolist()))


@torch.no_grad()
def score(m):
    was = m.training
    m.eval()
    good = sum((m(**x).logits.argmax(-1) == y).sum().item() for x, y in batches(dev, 100))
    m.train(was)
    return good / len(dev)


g = torch.Generator().manual_seed(17)
opt = torch.optim.AdamW(net.parameters(), lr=1.5e-4)
step = 0
net.train()
for x, y in batches(train, 16, g):
    loss = torch.nn.functional.cross_entropy(net(**x).logits, y)
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    ema.update_parameters(net)
    step += 1
    if step % 50 == 0:
        print(f"step {step} loss {loss.item():.3f} raw {score(net):.3f} ema {score(ema):.3f}")
print("final: raw", score(net), "ema", score(ema))
