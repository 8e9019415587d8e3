import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.metrics import accuracy_score, f1_score
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(3)
name = "models/small-bert"
tok = AutoTokenizer.from_pretrained(name)


def to_dataset(csv, rows):
    frame = pd.read_csv(csv).head(rows)
    ds = Dataset.from_dict({"text": frame["text"].tolist(), "labels": frame["label"].tolist()})
    return ds.map(lambda x: tok(x["text"], truncation=True, max_length=48), batched=True, remove_columns="text")


def metrics(eval_pred):
    logits, labels = eval_pred
    preds = np.argmax(logits, axis=1)
    return {
        "error_rate": 1.0 - accuracy_score(labels, preds),
        "f1": f1_score(labels, preds),
    }


args = TrainingArguments(
    output_dir="out/best",
    num_train_epochs=2,
    learning_rate=1e-4,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    eval_strategy="steps",
    eval_steps=25,
    save_strategy="steps",
    save_steps=25,
    save_total_limit=2,
    logging_steps=25,
    load_best_model_at_end=True,
    metric_for_best_model="error_rate",
    report_to=[],
)
trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained(name, num_labels=2),
    args=args,
    train_dataset=to_dataset("data/train.csv", 1000),
    eval_dataset=to_dataset("data/valid.csv", 200),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=metrics,
)
trainer.train()
test = trainer.evaluate(to_dataset("data/test.csv", 370), metric_key_prefix="test")
print("best checkpoint:", trainer.state.best_model_checkpoint, trainer.state.best_metric)
print({k: round(v, 4) for k, v in test.items()})
trainer.save_model("out/best/final")
