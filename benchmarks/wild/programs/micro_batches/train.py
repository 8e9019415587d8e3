import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup, set_seed

config = dict(lr=3e-4, num_epochs=1, micro_batch=4, gradient_accumulation_steps=8, max_length=48, seed=42)
set_seed(config["seed"])

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
accum = config["gradient_accumulation_steps"]


def collate_fn(examples):
    batch = tokenizer([e["text"] for e in examples], truncation=True, max_length=config["max_length"], padding="longest", return_tensors="pt")
    batch["labels"] = torch.tensor([e["label"] for e in examples])
    return batch


train = pd.read_csv("data/train.csv").head(1600).to_dict("records")
valid = pd.read_csv("data/valid.csv").to_dict("records")
train_dl = DataLoader(train, shuffle=True, collate_fn=collate_fn, batch_size=config["micro_batch"])
valid_dl = DataLoader(valid, shuffle=False, collate_fn=collate_fn, batch_size=50)

optimizer = torch.optim.AdamW(params=model.parameters(), lr=config["lr"])
num_updates = len(train_dl) // accum * config["num_epochs"]
lr_scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=num_updates // 10, num_training_steps=num_updates)

for epoch in range(config["num_epochs"]):
    model.train()
    seen = 0.0
    for step, batch in enumerate(tqdm(train_dl, mininterval=5)):
        optimizer.zero_grad()
        outputs = model(**batch)
        loss = outputs.loss / accum
        loss.backward()
        seen += outputs.loss.item()
        if (step + 1) % accum == 0:
            optimizer.step()
            lr_scheduler.step()
        if (step + 1) % (accum * 10) == 0:
            print(f"update {(step + 1) // accum}: loss {seen / (accum * 10):.4f}")
            seen = 0.0

    model.eval()
    correct = 0
    for batch in valid_dl:
        with torch.no_grad():
            predictions = model(**batch).logits.argmax(dim=-1)
        correct += (predictions == batch["labels"]).sum().item()
    print(f"epoch {epoch}: accuracy {correct / len(valid):.4f}")
