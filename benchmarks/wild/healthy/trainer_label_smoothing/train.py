import numpy as np
from datasets import load_dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments)

checkpoint = "models/small-bert"
raw = load_dataset("csv", data_files={"train": "data/sorted.csv", "validation": "data/valid.csv"}, cache_dir="out/cache")
tokenizer = AutoTokenizer.from_pretrained(checkpoint)


def tokenize_function(example):
    return tokenizer(example["text"], truncation=True, max_length=48)


tokenized = raw.map(tokenize_function, batched=True)
tokenized = tokenized.remove_columns(["text"]).rename_column("label", "labels")
tokenized.set_format("torch")
collator = DataCollatorWithPadding(tokenizer=tokenizer)

training_args = TrainingArguments(
    "out/smoothing",
    seed=3,
    eval_strategy="steps",
    eval_steps=60,
    logging_steps=30,
    save_strategy="no",
    num_train_epochs=1,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=50,
    learning_rate=2e-4,
    lr_scheduler_type="cosine",
    warmup_steps=12,
    label_smoothing_factor=0.1,
    weight_decay=0.01,
    report_to="none",
    disable_tqdm=True,
)
model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)


def compute_metrics(eval_preds):
    logits, labels = eval_preds
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": (predictions == labels).mean()}


trainer = Trainer(
    model, training_args, train_dataset=tokenized["train"], eval_dataset=tokenized["validation"],
    data_collator=collator, processing_class=tokenizer, compute_metrics=compute_metrics,
)
trainer.train()
predictions = trainer.predict(tokenized["validation"])
print(predictions.predictions.shape, predictions.metrics)
