import os

import pandas as pd
import torch
from datasets import Dataset
from peft import AutoPeftModelForSequenceClassification, LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
from transformers import set_seed

set_seed(1)
base = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(base)


def tokenized(path):
    ds = Dataset.from_pandas(pd.read_csv(path))
    return ds.map(lambda x: tokenizer(x["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])


train_ds, eval_ds = tokenized("data/train.csv"), tokenized("data/valid.csv")

model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
config = LoraConfig(
    task_type=TaskType.SEQ_CLS,
    r=8,
    lora_alpha=16,
    lora_dropout=0.05,
    target_modules=["query", "value"],
    modules_to_save=["classifier"],
)
model = get_peft_model(model, config)
model.print_trainable_parameters()

args = TrainingArguments(
    output_dir="out/lora",
    learning_rate=2e-3,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    num_train_epochs=1,
    weight_decay=0.01,
    warmup_steps=10,
    eval_strategy="epoch",
    save_strategy="no",
    logging_steps=25,
    label_names=["labels"],
    report_to="none",
    disable_tqdm=True,
)
trainer = Trainer(
    model=model, args=args, train_dataset=train_ds, eval_dataset=eval_ds, processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": (p.predictions.argmax(axis=1) == p.label_ids).astype(float).mean().item()},
)
trainer.train()
model.save_pretrained("out/lora/adapter")
print(sorted(os.listdir("out/lora/adapter")))

loaded = AutoPeftModelForSequenceClassification.from_pretrained("out/lora/adapter", num_labels=2).eval()
texts = pd.read_csv("data/test.csv")
correct = 0
with torch.no_grad():
    for start in range(0, len(texts), 64):
        part = texts.iloc[start:start + 64]
        enc = tokenizer(part.text.tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
        correct += int((loaded(**enc).logits.argmax(-1) == torch.tensor(part.label.to_numpy())).sum())
print("test accuracy of the loaded adapter", correct / len(texts))
