import pandas as pd
import torch
from peft import IA3Config, get_peft_model
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup, set_seed

set_seed(42)
batch_size, num_epochs, lr = 32, 2, 8e-3
model_name_or_path = "models/small-bert"

tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, padding_side="right")
train = pd.read_csv("data/train.csv").head(1200).to_dict("records")
valid = pd.read_csv("data/valid.csv").to_dict("records")


def collate_fn(rows):
    enc = tokenizer([r["text"] for r in rows], padding="longest", truncation=True, max_length=48, return_tensors="pt")
    enc["labels"] = torch.tensor([r["label"] for r in rows])
    return enc


train_dataloader = DataLoader(train, shuffle=True, collate_fn=collate_fn, batch_size=batch_size)
eval_dataloader = DataLoader(valid, shuffle=False, collate_fn=collate_fn, batch_size=batch_size)

peft_config = IA3Config(
    task_type="SEQ_CLS", target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"])
model = AutoModelForSequenceClassification.from_pretrained(model_name_or_path, return_dict=True)
model = get_peft_model(model, peft_config)
model.print_trainable_parameters()

optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
lr_scheduler = get_linear_schedule_with_warmup(
    optimizer,
    num_warmup_steps=0.06 * (len(train_dataloader) * num_epochs),
    num_training_steps=len(train_dataloader) * num_epochs,
)

for epoch in range(num_epochs):
    model.train()
    total = 0.0
    for step, batch in enumerate(tqdm(train_dataloader, mininterval=5)):
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        total += loss.item()

    model.eval()
    hits = 0
    for batch in eval_dataloader:
        with torch.no_grad():
            outputs = model(**batch)
        hits += (outputs.logits.argmax(dim=-1) == batch["labels"]).sum().item()
    print(f"epoch {epoch}: loss {total / len(train_dataloader):.4f} accuracy {hits / len(valid):.4f}")
