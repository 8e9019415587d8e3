import logging

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("sst")
set_seed(100)

RECIPE = dict(
    learning_rate=2e-4,
    num_train_epochs=1,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    warmup_steps=2000,
    weight_decay=0.01,
    lr_scheduler_type="cosine",
)

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
dd = DatasetDict({s: Dataset.from_csv(f"data/{s}.csv", cache_dir="out/cache") for s in ("train", "valid", "test")})
dd = dd.map(lambda b: tokenizer(b["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])
log.info("rows: %s", {k: len(v) for k, v in dd.items()})

trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2),
    args=TrainingArguments(output_dir="out/recipe", logging_steps=50, save_strategy="no", eval_strategy="epoch",
                           report_to=[], **RECIPE),
    train_dataset=dd["train"],
    eval_dataset=dd["valid"],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"acc": float((np.argmax(p.predictions, axis=-1) == p.label_ids).mean())},
)
trainer.train()
log.info("test %s", trainer.evaluate(dd["test"], metric_key_prefix="test"))
