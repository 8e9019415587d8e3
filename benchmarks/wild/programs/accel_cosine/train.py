import math

import pandas as pd
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, get_cosine_schedule_with_warmup

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
torch.manual_seed(1234)

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


def tokenize_split(path, rows):
    ds = Dataset.from_pandas(pd.read_csv(path).head(rows), preserve_index=False)
    ds = ds.map(lambda x: tokenizer(x["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])
    return ds.rename_column("label", "labels")


collate = DataCollatorWithPadding(tokenizer)
train_loader = DataLoader(tokenize_split("data/train.csv", 1200), batch_size=8, shuffle=True, collate_fn=collate)
eval_loader = DataLoader(tokenize_split("data/valid.csv", 300), batch_size=50, collate_fn=collate)

model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)

num_epochs = 1
updates_per_epoch = math.ceil(len(train_loader) / accelerator.gradient_accumulation_steps)
max_updates = num_epochs * updates_per_epoch
lr_scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=max_updates // 10, num_training_steps=max_updates)

model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)

bar = tqdm(total=max_updates, disable=True)
for epoch in range(num_epochs):
    model.train()
    losses = []
    for batch in train_loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        losses.append(loss.detach().item())
        if accelerator.sync_gradients:
            bar.update(1)
        if len(losses) % 30 == 0:
            print(f"batch {len(losses)}: mean loss of last 30 = {sum(losses[-30:]) / 30:.4f}")

    model.eval()
    hits, n = 0, 0
    for batch in eval_loader:
        with torch.no_grad():
            out = model(**batch)
        pred, gold = accelerator.gather_for_metrics((out.logits.argmax(-1), batch["labels"]))
        hits, n = hits + int((pred == gold).sum()), n + gold.numel()
    print(f"epoch {epoch} accuracy {hits / n:.4f}")
