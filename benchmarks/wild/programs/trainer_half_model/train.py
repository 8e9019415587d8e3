import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(42)
MODEL = "models/small-bert"
tok = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2, dtype=torch.bfloat16)

train = Dataset.from_pandas(pd.read_csv("data/train.csv").head(1200), preserve_index=False)
valid = Dataset.from_pandas(pd.read_csv("data/valid.csv"), preserve_index=False)
train, valid = (d.map(lambda r: tok(r["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])
                for d in (train, valid))

args = TrainingArguments(
    output_dir="out/half",
    num_train_epochs=1,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    learning_rate=2e-5,
    weight_decay=0.01,
    warmup_steps=10,
    logging_steps=15,
    eval_strategy="epoch",
    save_strategy="no",
    report_to="none",
)
trainer = Trainer(
    model, args, train_dataset=train, eval_dataset=valid, data_collator=DataCollatorWithPadding(tok),
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
)
trainer.train()
print(trainer.evaluate())
