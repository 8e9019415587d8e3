import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding,
                          EarlyStoppingCallback, Trainer, TrainingArguments, set_seed)

set_seed(13)
CKPT = "models/tiny-bert"
tok = AutoTokenizer.from_pretrained(CKPT)


def load(name):
    ds = Dataset.from_pandas(pd.read_csv(f"data/{name}.csv"))
    return ds.map(lambda b: tok(b["text"], truncation=True, max_length=40), batched=True).remove_columns("text")


train, valid, test = load("train"), load("valid"), load("test")
model = AutoModelForSequenceClassification.from_pretrained(CKPT, num_labels=2)


def metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


args = TrainingArguments(
    output_dir="out/early",
    num_train_epochs=8,
    learning_rate=1e-3,
    lr_scheduler_type="constant_with_warmup",
    warmup_steps=30,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=128,
    eval_strategy="epoch",
    save_strategy="epoch",
    logging_strategy="epoch",
    save_total_limit=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    greater_is_better=True,
    report_to="none",
    disable_tqdm=True,
)
trainer = Trainer(
    model=model, args=args, train_dataset=train, eval_dataset=valid, compute_metrics=metrics,
    data_collator=DataCollatorWithPadding(tok), callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
)
trainer.train()
print("stopped after epoch", trainer.state.epoch, "best", trainer.state.best_metric)
print("test", trainer.predict(test).metrics["test_accuracy"])
