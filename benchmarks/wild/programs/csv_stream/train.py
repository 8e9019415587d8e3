import csv
import math

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("models/tiny-bert")


class CsvStream(IterableDataset):
    """Reads a csv row by row, so that the corpus never has to fit into memory."""

    def __init__(self, path, limit=None):
        self.path, self.limit = path, limit

    def __iter__(self):
        with open(self.path, newline="") as handle:
            for n, row in enumerate(csv.DictReader(handle)):
                if self.limit is not None and n >= self.limit:
                    break
                yield row["text"], int(row["label"])


def collate(rows):
    texts, labels = zip(*rows)
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=48, return_tensors="pt")
    batch["labels"] = torch.tensor(labels)
    return batch


def main():
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained("models/tiny-bert", num_labels=2)
    train_loader = DataLoader(CsvStream("data/train.csv"), batch_size=16, collate_fn=collate, num_workers=2)
    valid_loader = DataLoader(CsvStream("data/valid.csv"), batch_size=50, collate_fn=collate, num_workers=2)

    epochs = 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = math.ceil(2000 / 16) * epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(0.0, 1 - s / steps))
    step = 0
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in train_loader:
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total += loss.item()
            step += 1
            if step % 50 == 0:
                print(f"epoch {epoch} step {step} loss {total / 50:.4f} lr {scheduler.get_last_lr()[0]:.2e}")
                total = 0.0
        model.eval()
        good = count = 0
        with torch.no_grad():
            for batch in valid_loader:
                guess = model(**batch).logits.argmax(-1)
                good += (guess == batch["labels"]).sum().item()
                count += len(guess)
        print(f"epoch {epoch} valid accuracy {good / count:.4f}")


if __name__ == "__main__":
    main()
