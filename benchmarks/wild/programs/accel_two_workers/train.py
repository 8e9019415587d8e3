import os

import pandas as pd
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MODEL = "models/small-bert"


def build_loaders():
    tok = AutoTokenizer.from_pretrained(MODEL)

    def collate(rows):
        enc = tok([r[0] for r in rows], padding=True, truncation=True, max_length=40, return_tensors="pt")
        enc["labels"] = torch.tensor([r[1] for r in rows])
        return enc

    def read(name, n):
        df = pd.read_csv(f"data/{name}.csv").head(n)
        return list(zip(df.text.tolist(), df.label.tolist()))

    return (DataLoader(read("train", 960), batch_size=16, shuffle=True, collate_fn=collate),
            DataLoader(read("valid", 200), batch_size=50, collate_fn=collate))


def training_function():
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    set_seed(9)
    train_dl, valid_dl = build_loaders()
    model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    model, optimizer, train_dl, valid_dl = accelerator.prepare(model, optimizer, train_dl, valid_dl)

    # plain access to config, forward, save_pretrained
    net = accelerator.unwrap_model(model)
    for epoch in range(1):
        net.train()
        for step, batch in enumerate(train_dl):
            loss = net(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.is_main_process and step % 5 == 0:
                print(f"epoch {epoch} step {step} loss {loss.item():.4f}")
        net.eval()
        right = seen = 0
        for batch in valid_dl:
            with torch.no_grad():
                pred = net(**batch).logits.argmax(-1)
            pred, gold = accelerator.gather_for_metrics((pred, batch["labels"]))
            right += int((pred == gold).sum())
            seen += len(gold)
        if accelerator.is_main_process:
            print(f"epoch {epoch} valid accuracy {right / seen:.4f}")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        net.save_pretrained("out/two_workers")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    debug_launcher(training_function, num_processes=2)
