import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments,
                          set_seed)

set_seed(42)
checkpoint = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)


def prepare(name, n):
    ds = Dataset.from_pandas(pd.read_csv(f"data/{name}.csv").head(n), preserve_index=False)
    return ds.map(lambda e: tokenizer(e["text"], truncation=True, max_length=40), batched=True, remove_columns=["text"])


train_dataset, eval_dataset = prepare("train", 1000), prepare("valid", 200)
training_args = TrainingArguments(
    output_dir="run",
    num_train_epochs=1,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    warmup_steps=1000,
    learning_rate=1e-4,
    weight_decay=0.01,
    logging_steps=10,
    eval_strategy="epoch",
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, eval_dataset=eval_dataset,
                  data_collator=DataCollatorWithPadding(tokenizer),
                  compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, axis=1) == p.label_ids).mean())})
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_model()
trainer.save_state()
