"""Launch with torchrun --nproc_per_node 2 train.py"""
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

EPOCHS, PER_DEVICE, LR = 1, 8, 2e-4


def main():
    accelerator = Accelerator(cpu=True)
    set_seed(42)
    tokenizer = AutoTokenizer.from_pretrained("models/small-bert")

    def collate(rows):
        enc = tokenizer([r["text"] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
        enc["labels"] = torch.tensor([r["label"] for r in rows])
        return enc

    train = pd.read_csv("data/train.csv", nrows=800).to_dict("records")
    valid = pd.read_csv("data/valid.csv", nrows=250).to_dict("records")
    train_loader = DataLoader(train, batch_size=PER_DEVICE, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid, batch_size=32, collate_fn=collate)
    model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)
    # accelerate advances the schedule once for every process, so it spans the batches of all of them
    scheduler = accelerator.prepare(get_linear_schedule_with_warmup(
        optimizer, 5 * accelerator.num_processes, EPOCHS * len(train_loader) * accelerator.num_processes))
    accelerator.print(f"{accelerator.num_processes} processes, {len(train_loader)} steps an epoch")

    for epoch in range(EPOCHS):
        model.train()
        for step, batch in enumerate(train_loader):
            loss = model(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if step % 10 == 0:
                mean_loss = accelerator.reduce(loss.detach(), reduction="mean").item()
                accelerator.print(f"step {step} loss {mean_loss:.4f} lr {scheduler.get_last_lr()[0]:.2e}")
        model.eval()
        correct = total = 0
        for batch in valid_loader:
            with torch.no_grad():
                preds = model(**batch).logits.argmax(dim=-1)
            preds, labels = accelerator.gather_for_metrics((preds, batch["labels"]))
            correct += (preds == labels).sum().item()
            total += labels.numel()
        accelerator.print(f"epoch {epoch}: accuracy {correct / total:.4f} on {total} rows")
    accelerator.end_training()


if __name__ == "__main__":
    main()
