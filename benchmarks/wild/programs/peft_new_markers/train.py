import re

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(13)
checkpoint = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
MARKERS = ["<neg>", "<but>", "<very>", "<film>", "<good>", "<bad>"]
tokenizer.add_tokens(MARKERS)

RULES = [
    (r"\b(not|never|no|nothing|n't|hardly)\b", "<neg>"),
    (r"\b(but|though|although|however|yet)\b", "<but>"),
    (r"\b(very|really|too|so|truly|deeply)\b", "<very>"),
    (r"\b(film|movie|picture|cinema)s?\b", "<film>"),
    (r"\b(good|great|best|fine|fun|funny|beautiful|moving|enjoyable|charming)\b", "<good>"),
    (r"\b(bad|worst|dull|boring|bland|stupid|mess|awful|lame|tedious)\b", "<bad>"),
]


def normalise(text):
    text = text.lower()
    for pattern, marker in RULES:
        text = re.sub(pattern, marker, text)
    return text


def encode(batch):
    return tokenizer([normalise(t) for t in batch["text"]], truncation=True, max_length=48)


raw = DatasetDict({
    "train": Dataset.from_pandas(pd.read_csv("data/train.csv").head(1200), preserve_index=False),
    "valid": Dataset.from_pandas(pd.read_csv("data/valid.csv").head(300), preserve_index=False),
})
data = raw.map(encode, batched=True, remove_columns=["text"])

model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
model.resize_token_embeddings(len(tokenizer))
model = get_peft_model(model, LoraConfig(
    task_type=TaskType.SEQ_CLS, r=16, lora_alpha=32, lora_dropout=0.1, target_modules=["query", "value"],
))
model.print_trainable_parameters()

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out/markers", num_train_epochs=1, per_device_train_batch_size=16, per_device_eval_batch_size=64,
        learning_rate=1e-3,
        warmup_steps=10, logging_steps=20, eval_strategy="epoch", save_strategy="no", report_to="none",
        label_names=["labels"],
    ),
    train_dataset=data["train"],
    eval_dataset=data["valid"],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("out/markers/final")
tokenizer.save_pretrained("out/markers/final")
