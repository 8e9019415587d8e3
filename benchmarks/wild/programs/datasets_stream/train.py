import csv

import numpy as np
import pandas as pd
from datasets import Dataset, Features, IterableDataset, Value
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(33)
MODEL = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(MODEL)


def rows(path):
    with open(path, newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            yield {"text": row["text"], "label": int(row["label"])}


def tokenize(batch):
    return tokenizer(batch["text"], truncation=True, max_length=48)


features = Features({"text": Value("string"), "label": Value("int64")})
stream = IterableDataset.from_generator(rows, gen_kwargs={"path": "data/sorted.csv"}, features=features)
stream = stream.shuffle(seed=33, buffer_size=100).map(tokenize, batched=True, remove_columns=["text"])
valid = Dataset.from_pandas(pd.read_csv("data/valid.csv"), preserve_index=False).map(
    tokenize, batched=True, remove_columns=["text"])

trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2),
    args=TrainingArguments(
        output_dir="out/stream",
        max_steps=125,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=2e-4,
        logging_steps=10,
        eval_strategy="no",
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=stream,
    eval_dataset=valid,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
)
trainer.train()
print(trainer.evaluate())
