import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

LABELS = ["imdb_neg", "imdb_pos", "rt_neg", "rt_pos"]
id2label = dict(enumerate(LABELS))
label2id = {v: k for k, v in id2label.items()}
set_seed(2024)

full = Dataset.from_pandas(pd.read_csv("data/four.csv")).cast_column("label", ClassLabel(names=LABELS))
split = full.train_test_split(test_size=0.2, seed=2024, stratify_by_column="label")
inner = split["train"].train_test_split(test_size=0.1, seed=2024, stratify_by_column="label")
print(len(inner["train"]), len(inner["test"]), len(split["test"]))

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


def prep(ds):
    return ds.map(lambda b: tokenizer(b["text"], truncation=True, max_length=40), batched=True, remove_columns=["text"])


model = AutoModelForSequenceClassification.from_pretrained(
    "models/small-bert", num_labels=4, id2label=id2label, label2id=label2id)


def compute_metrics(pred):
    y_hat = pred.predictions.argmax(-1)
    p, r, f1, _ = precision_recall_fscore_support(pred.label_ids, y_hat, average="macro", zero_division=0)
    return {"accuracy": accuracy_score(pred.label_ids, y_hat), "macro_f1": f1, "macro_precision": p, "macro_recall": r}


args = TrainingArguments(
    output_dir="out/four", learning_rate=4e-4, per_device_train_batch_size=16, per_device_eval_batch_size=64,
    num_train_epochs=2, eval_strategy="epoch", save_strategy="no", logging_steps=20, warmup_steps=10,
    report_to="none", disable_tqdm=True,
)
trainer = Trainer(model=model, args=args, train_dataset=prep(inner["train"]), eval_dataset=prep(inner["test"]),
                  data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8), compute_metrics=compute_metrics)
trainer.train()
result = trainer.predict(prep(split["test"]))
print(result.metrics)
print(confusion_matrix(result.label_ids, result.predictions.argmax(-1)))
