"""accelerate 'complete' style example: checkpointing each epoch, Adafactor, clipping."""
import argparse
import os

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from torch.utils.data import DataLoader
from transformers import Adafactor, AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

MAX_LEN = 64


def get_dataloaders(accelerator, path, batch_size):
    tokenizer = AutoTokenizer.from_pretrained(path)

    def rows(name):
        frame = pd.read_csv(f"data/{name}.csv")
        enc = tokenizer(frame["text"].tolist(), truncation=True, max_length=MAX_LEN)
        return [{"input_ids": i, "attention_mask": m, "labels": int(y)}
                for i, m, y in zip(enc["input_ids"], enc["attention_mask"], frame["label"])]

    def collate_fn(examples):
        return tokenizer.pad(examples, padding="longest", return_tensors="pt")

    train = DataLoader(rows("train"), shuffle=True, collate_fn=collate_fn, batch_size=batch_size, drop_last=True)
    valid = DataLoader(rows("valid"), shuffle=False, collate_fn=collate_fn, batch_size=64)
    return train, valid


def training_function(args):
    accelerator = Accelerator(
        cpu=True, project_config=ProjectConfiguration(project_dir="out/acc", automatic_checkpoint_naming=True, total_limit=1))
    set_seed(args.seed)
    train_dataloader, eval_dataloader = get_dataloaders(accelerator, args.model, args.batch_size)
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    optimizer = Adafactor(model.parameters(), lr=args.lr, scale_parameter=False, relative_step=False, warmup_init=False,
                          weight_decay=0.01)
    lr_scheduler = get_linear_schedule_with_warmup(optimizer, 20, len(train_dataloader) * args.epochs)
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler)

    for epoch in range(args.epochs):
        model.train()
        total_loss = 0
        for batch in train_dataloader:
            loss = model(**batch).loss
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

        model.eval()
        correct = total = 0
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(**batch)
            predictions, references = accelerator.gather_for_metrics((outputs.logits.argmax(dim=-1), batch["labels"]))
            correct += (predictions == references).sum().item()
            total += references.numel()
        accelerator.print(f"epoch {epoch}: loss {total_loss.item() / len(train_dataloader):.4f} accuracy {correct / total:.4f}")
        accelerator.save_state()
    accelerator.end_training()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="models/tiny-roberta")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch_size", type=int, default=32)
    p.add_argument("--seed", type=int, default=42)
    training_function(p.parse_args())
