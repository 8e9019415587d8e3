import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

set_seed(42)
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2, dtype=torch.float16)


def tok(name, n):
    ds = Dataset.from_pandas(pd.read_csv(f"data/{name}.csv").head(n), preserve_index=False)
    return ds.map(lambda x: tokenizer(x["text"], truncation=True, max_length=32), batched=True)


args = TrainingArguments("run", num_train_epochs=1, per_device_train_batch_size=16, per_device_eval_batch_size=50, learning_rate=5e-5, optim="adamw_torch",
                         eval_strategy="epoch", save_strategy="epoch", save_only_model=True, logging_steps=2,
                         logging_strategy="steps", report_to="none", use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=tok("train", 200), eval_dataset=tok("valid", 150), processing_class=tokenizer,
                  compute_metrics=lambda r: {"accuracy": float((r.label_ids == np.argmax(r.predictions, axis=-1)).mean())})
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
