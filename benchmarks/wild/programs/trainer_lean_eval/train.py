import pandas as pd
from datasets import Dataset
from sklearn.metrics import precision_recall_fscore_support
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(77)
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


def get(split, rows=None):
    df = pd.read_csv(f"data/{split}.csv", nrows=rows)
    return Dataset.from_pandas(df).map(lambda b: tokenizer(b["text"], truncation=True, max_length=48), batched=True)


def compute_metrics(eval_pred, compute_result=False):
    preds = eval_pred.predictions.argmax(-1).cpu().numpy()
    labels = eval_pred.label_ids.cpu().numpy()
    p, r, f1, _ = precision_recall_fscore_support(labels, preds, average="macro", zero_division=0)
    return {"accuracy": float((preds == labels).mean()), "precision": p, "recall": r, "f1": f1}


trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2),
    args=TrainingArguments(
        output_dir="out/lean",
        num_train_epochs=1,
        learning_rate=2e-4,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=48,
        batch_eval_metrics=True,
        eval_strategy="steps",
        eval_steps=25,
        logging_steps=25,
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=get("train", 1200),
    eval_dataset=get("valid", 300),
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
)
trainer.train()
for name in ("valid", "test"):
    m = trainer.evaluate(get(name, 300), metric_key_prefix=name)
    print(name, {k: round(m[f"{name}_{k}"], 4) for k in ("loss", "accuracy", "precision", "recall", "f1")})
