import os

import pandas as pd
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class ReviewData(Dataset):
    def __init__(self, csv_file, tokenizer, max_len=48):
        frame = pd.read_csv(csv_file)
        self.labels = frame.label.tolist()
        self.items = tokenizer(frame.text.tolist(), truncation=True, max_length=max_len, padding="max_length", return_tensors="pt")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        item = {name: value[idx] for name, value in self.items.items()}
        item["labels"] = torch.tensor(self.labels[idx])
        return item


def setup():
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29531")
    os.environ.setdefault("RANK", "0")
    os.environ.setdefault("WORLD_SIZE", "1")
    dist.init_process_group("gloo")


def train(epochs=3, batch_size=16, lr=5e-4):
    setup()
    torch.manual_seed(11)
    rank = dist.get_rank()
    tokenizer = AutoTokenizer.from_pretrained("models/tiny-distilbert")
    model = DDP(AutoModelForSequenceClassification.from_pretrained("models/tiny-distilbert", num_labels=2))
    train_set = ReviewData("data/train.csv", tokenizer)
    valid_set = ReviewData("data/valid.csv", tokenizer)
    sampler = DistributedSampler(train_set, shuffle=True)
    loader = DataLoader(train_set, batch_size=batch_size, sampler=sampler)
    valid_loader = DataLoader(valid_set, batch_size=100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in loader:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        if rank == 0:
            model.eval()
            right = 0
            with torch.no_grad():
                for batch in valid_loader:
                    right += (model.module(**batch).logits.argmax(-1) == batch["labels"]).sum().item()
            print(f"epoch {epoch}: train loss {total / len(loader):.4f}, valid accuracy {right / len(valid_set):.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    train()
