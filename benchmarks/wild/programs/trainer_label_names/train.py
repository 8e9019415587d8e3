import pandas as pd
import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

LABELS = ["negative", "positive"]
MODEL = "models/small-bert"

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForSequenceClassification.from_pretrained(
    MODEL,
    num_labels=len(LABELS),
    id2label=dict(enumerate(LABELS)),
    label2id={l: i for i, l in enumerate(LABELS)},
)


def prepare(path):
    ds = Dataset.from_pandas(pd.read_csv(path, nrows=1600), preserve_index=False).rename_column("label", "labels")
    return ds.map(lambda e: tokenizer(e["text"], truncation=True, max_length=48), batched=True).remove_columns("text")


def compute_metrics(p):
    preds = np.argmax(p.predictions, axis=1)
    return {"accuracy": float(np.mean(preds == p.label_ids))}


training_args = TrainingArguments(
    output_dir="out/labelnames",
    learning_rate=2e-4,
    num_train_epochs=1,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=50,
    eval_strategy="steps",
    eval_steps=50,
    logging_steps=25,
    save_strategy="no",
    label_names=LABELS,
    report_to="none",
    seed=1,
)

trainer = Trainer(
    model,
    training_args,
    train_dataset=prepare("data/train.csv"),
    eval_dataset=prepare("data/valid.csv"),
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
)
trainer.train()
print(trainer.evaluate())
trainer.save_model("out/labelnames/model")
