import argparse
import time

import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
parser.add_argument("--accum", type=int, default=2)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--max-norm", type=float, default=1.0)
args = parser.parse_args()

torch.manual_seed(0)
device = "cpu"
dtype = getattr(torch, args.dtype)
tok = AutoTokenizer.from_pretrained("models/tiny-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/tiny-bert", num_labels=2).to(device)


def collate(batch):
    enc = tok([b[0] for b in batch], padding=True, truncation=True, max_length=48, return_tensors="pt")
    return enc, torch.tensor([b[1] for b in batch])


def load(name, **kw):
    df = pd.read_csv(f"data/{name}.csv")
    return DataLoader(list(zip(df["text"], df["label"])), collate_fn=collate, **kw)


train_loader = load("train", batch_size=16, shuffle=True, drop_last=True)
valid_loader = load("valid", batch_size=64)
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), eps=1e-6)
updates = args.epochs * -(-len(train_loader) // args.accum)
sched = torch.optim.lr_scheduler.LinearLR(opt, start_factor=1.0, end_factor=0.05, total_iters=updates)
scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16, init_scale=2.0**12)

for epoch in range(args.epochs):
    t0, tot = time.time(), 0.0
    model.train()
    for i, (enc, y) in enumerate(train_loader):
        last = i + 1 == len(train_loader)
        group = len(train_loader) % args.accum if i >= len(train_loader) // args.accum * args.accum else args.accum
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            logits = model(**enc).logits
            loss = F.cross_entropy(logits.float(), y)
        scaler.scale(loss / group).backward()
        if (i + 1) % args.accum == 0 or last:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_norm)
            before = scaler.get_scale()
            scaler.step(opt)
            scaler.update()
            opt.zero_grad(set_to_none=True)
            if scaler.get_scale() >= before:
                sched.step()
        tot += loss.item()
    model.eval()
    ok = 0
    with torch.no_grad(), torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        for enc, y in valid_loader:
            ok += (model(**enc).logits.argmax(-1) == y).sum().item()
    print(f"[{epoch}] loss {tot / len(train_loader):.4f} acc {ok / len(valid_loader.dataset):.4f} "
          f"scale {scaler.get_scale():.0f} lr {sched.get_last_lr()[0]:.2e} {time.time() - t0:.1f}s")
