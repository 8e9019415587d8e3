import argparse

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler


def get_dataloaders(tokenizer, batch_size):
    def collate(rows):
        batch = tokenizer([r["text"] for r in rows], padding=True, truncation=True, max_length=48, return_tensors="pt")
        batch["labels"] = torch.tensor([r["label"] for r in rows])
        return batch

    train = pd.read_csv("data/train.csv").head(1200).to_dict("records")
    valid = pd.read_csv("data/valid.csv").head(300).to_dict("records")
    return (DataLoader(train, shuffle=True, collate_fn=collate, batch_size=batch_size),
            DataLoader(valid, collate_fn=collate, batch_size=64))


def main(args):
    set_seed(args.seed)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.accumulation)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    train_dl, valid_dl = get_dataloaders(tokenizer, args.batch_size)
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    model, optimizer, train_dl, valid_dl = accelerator.prepare(model, optimizer, train_dl, valid_dl)
    steps = args.epochs * len(train_dl) // args.accumulation
    scheduler = accelerator.prepare(get_scheduler("linear", optimizer, num_warmup_steps=5, num_training_steps=steps))

    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for step, batch in enumerate(train_dl):
            with accelerator.accumulate(model):
                optimizer.zero_grad()
                loss = model(**batch).loss
                total += loss.item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
            if (step + 1) % 60 == 0:
                accelerator.print(f"epoch {epoch} micro step {step + 1}: loss {total / (step + 1):.4f}")
        model.eval()
        correct = count = 0
        for batch in valid_dl:
            with torch.no_grad():
                logits = model(**batch).logits
            preds, refs = accelerator.gather_for_metrics((logits.argmax(-1), batch["labels"]))
            correct += (preds == refs).sum().item()
            count += len(refs)
        accelerator.print(f"epoch {epoch}: accuracy {correct / count:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="models/small-bert")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=8)
    parser.add_argument("--seed", type=int, default=42)
    main(parser.parse_args())
