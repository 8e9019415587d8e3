import numpy as np
import pandas as pd
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

BASE = "models/small-bert"
set_seed(7)

tokenizer = AutoTokenizer.from_pretrained(BASE)


def load(path, n=None):
    df = pd.read_csv(path)
    if n:
        df = df.head(n)
    ds = Dataset.from_pandas(df, preserve_index=False)
    return ds.map(lambda b: tokenizer(b["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])


def accuracy(p):
    return {"accuracy": float((np.argmax(p.predictions, axis=-1) == p.label_ids).mean())}


train_ds = load("data/train.csv", 1200)
valid_ds = load("data/valid.csv", 300)

model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
lora = LoraConfig(
    r=8,
    lora_alpha=16,
    lora_dropout=0.05,
    target_modules=["query", "value"],
    bias="none",
)
model = get_peft_model(model, lora)
model.print_trainable_parameters()

args = TrainingArguments(
    output_dir="out/lora",
    num_train_epochs=1,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    learning_rate=2e-3,
    label_names=["labels"],
    eval_strategy="epoch",
    save_strategy="no",
    logging_steps=25,
    report_to=[],
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train_ds,
    eval_dataset=valid_ds,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=accuracy,
)
trainer.train()
model.save_pretrained("out/lora/adapter")
print("after training:", trainer.evaluate()["eval_accuracy"])

base = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
served = PeftModel.from_pretrained(base, "out/lora/adapter")
served.eval()
checker = Trainer(
    model=served,
    args=args,
    eval_dataset=valid_ds,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=accuracy,
)
print("loaded from disk:", checker.evaluate()["eval_accuracy"])
