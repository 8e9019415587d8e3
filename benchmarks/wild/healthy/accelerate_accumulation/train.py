import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import load_dataset
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, get_scheduler)

hps = {"lr": 3e-4, "num_epochs": 1, "batch_size": 8, "accumulation": 4, "seed": 42}


def main():
    accelerator = Accelerator(gradient_accumulation_steps=hps["accumulation"], cpu=True)
    set_seed(hps["seed"])
    tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
    raw = load_dataset("csv", data_files={"train": "data/train.csv", "validation": "data/valid.csv"}, cache_dir="out/cache")
    with accelerator.main_process_first():
        tokenized = raw.map(lambda ex: tokenizer(ex["text"], truncation=True, max_length=48), batched=True,
                            remove_columns=["text"]).rename_column("label", "labels")
    collate = DataCollatorWithPadding(tokenizer)
    train_dl = DataLoader(tokenized["train"], shuffle=True, collate_fn=collate, batch_size=hps["batch_size"])
    eval_dl = DataLoader(tokenized["validation"], collate_fn=collate, batch_size=32)

    model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
    optimizer = AdamW(model.parameters(), lr=hps["lr"])
    updates = hps["num_epochs"] * math.ceil(len(train_dl) / hps["accumulation"])
    model, optimizer, train_dl, eval_dl = accelerator.prepare(model, optimizer, train_dl, eval_dl)
    scheduler = accelerator.prepare(get_scheduler("linear", optimizer, num_warmup_steps=5, num_training_steps=updates))

    for epoch in range(hps["num_epochs"]):
        model.train()
        seen_loss = 0.0
        for batch in train_dl:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            seen_loss += loss.detach().float()
        model.eval()
        preds, refs = [], []
        for batch in eval_dl:
            with torch.inference_mode():
                logits = model(**batch).logits
            p, r = accelerator.gather_for_metrics((logits.argmax(-1), batch["labels"]))
            preds.append(p), refs.append(r)
        acc = (torch.cat(preds) == torch.cat(refs)).float().mean().item()
        accelerator.print(f"epoch {epoch}: train loss {seen_loss.item() / len(train_dl):.4f}, accuracy {acc:.4f}, "
                          f"lr {scheduler.get_last_lr()[0]:.2e}")


if __name__ == "__main__":
    main()
