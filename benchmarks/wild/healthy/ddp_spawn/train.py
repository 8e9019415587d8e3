import argparse
import os
import re
import socket
import zlib

import pandas as pd
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

BUCKETS, WIDTH = 4096, 32


class Reviews(Dataset):
    def __init__(self, path):
        df = pd.read_csv(path)
        self.x = torch.zeros(len(df), WIDTH, dtype=torch.long)
        for i, text in enumerate(df.text):
            ids = [1 + zlib.crc32(w.encode()) % BUCKETS for w in re.findall(r"\w+|[^\w\s]", text.lower())][:WIDTH]
            self.x[i, : len(ids)] = torch.tensor(ids)
        self.y = torch.tensor(df.label.to_numpy())

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Model(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.emb = nn.EmbeddingBag(BUCKETS + 1, dim, mode="mean", padding_idx=0)
        self.net = nn.Sequential(nn.Dropout(0.3), nn.Linear(dim, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2))

    def forward(self, x):
        return self.net(self.emb(x))


def reduce_sum(*values):
    t = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(t, op=dist.ReduceOp.SUM)
    return t.tolist()


def worker(rank, world_size, port, args):
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(port)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = DDP(Model())
    torch.manual_seed(args.seed + rank)  # different dropout on each rank
    train_set, valid_set = Reviews("data/train.csv"), Reviews("data/valid.csv")
    sampler = DistributedSampler(train_set, shuffle=True, seed=args.seed)
    train_loader = DataLoader(train_set, batch_size=args.batch_size // world_size, sampler=sampler)
    # 500 rows over two ranks: no padding of the validation set
    valid_loader = DataLoader(torch.utils.data.Subset(valid_set, range(rank, len(valid_set), world_size)), batch_size=100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        model.train()
        loss_sum = n = 0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            n += len(y)
        model.eval()
        hits = total = 0
        with torch.no_grad():
            for x, y in valid_loader:
                hits += (model.module(x).argmax(1) == y).sum().item()
                total += len(y)
        loss_sum, n, hits, total = reduce_sum(loss_sum, n, hits, total)
        if rank == 0:
            print(f"epoch {epoch}: loss {loss_sum / n:.4f} valid accuracy {hits / total:.4f} ({int(total)} rows)", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--world-size", type=int, default=2)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, args=(args.world_size, port, args), nprocs=args.world_size, join=True)
