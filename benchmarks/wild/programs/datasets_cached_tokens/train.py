import os

import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(6)
CACHE = "out/tokens"
os.makedirs(CACHE, exist_ok=True)
MODEL = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(MODEL)


def load_split(split, max_length):
    frame = pd.read_csv(f"data/{split}.csv")

    def encode(batch):
        return tokenizer(batch["text"], truncation=True, max_length=max_length)

    return Dataset.from_pandas(frame, preserve_index=False).map(
        encode, batched=True, remove_columns=["text"], cache_file_name=f"{CACHE}/{split}.arrow"
    )


def run(max_length, rows, lr):
    train, valid = load_split("train", max_length), load_split("valid", max_length)
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2),
        args=TrainingArguments(
            output_dir=f"{CACHE}/run{max_length}", num_train_epochs=1, per_device_train_batch_size=16,
            per_device_eval_batch_size=64, learning_rate=lr, logging_steps=25, save_strategy="no", report_to=[],
        ),
        train_dataset=train.select(range(rows)),
        eval_dataset=valid,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
    )
    trainer.train()
    metrics = trainer.evaluate()
    print(f"max_length={max_length} rows={rows} accuracy={metrics['eval_accuracy']:.4f}")


run(max_length=6, rows=320, lr=2e-4)   # quick look whether everything works
run(max_length=48, rows=2000, lr=2e-4)
