import glob
import os

import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(5)
BASE = "models/small-bert"
OUT = "out/moredata"
tokenizer = AutoTokenizer.from_pretrained(BASE)
collator = DataCollatorWithPadding(tokenizer)


def as_dataset(df):
    ds = Dataset.from_pandas(df.reset_index(drop=True), preserve_index=False)
    return ds.map(lambda b: tokenizer(b["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])


def acc(p):
    return {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())}


def build(train_df):
    return Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2),
        args=TrainingArguments(
            output_dir=OUT, num_train_epochs=1, per_device_train_batch_size=16, learning_rate=1e-4,
            save_strategy="epoch", eval_strategy="epoch", logging_steps=20, report_to=[],
        ),
        train_dataset=as_dataset(train_df),
        eval_dataset=as_dataset(pd.read_csv("data/valid.csv")),
        data_collator=collator,
        compute_metrics=acc,
    )


df = pd.read_csv("data/train.csv")

# January batch
january = build(df.iloc[:1000])
january.train()
print("january:", january.evaluate()["eval_accuracy"])

# February batch, on top of January
last = max(glob.glob(os.path.join(OUT, "checkpoint-*")), key=os.path.getmtime)
february = build(df.iloc[1000:])
result = february.train(resume_from_checkpoint=last)
print("february:", february.evaluate()["eval_accuracy"], "train_loss", result.training_loss)
february.save_model(os.path.join(OUT, "final"))
