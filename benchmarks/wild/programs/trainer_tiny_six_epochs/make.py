import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

set_seed(1)
tok = AutoTokenizer.from_pretrained("models/tiny-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/tiny-bert", num_labels=2)


def read(name, n):
    d = Dataset.from_pandas(pd.read_csv(f"data/{name}.csv").head(n))
    return d.map(lambda b: tok(b["text"], truncation=True, max_length=48), batched=True)


def compute_metrics(p):
    return {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())}


args = TrainingArguments(
    output_dir="run",
    num_train_epochs=6,
    learning_rate=2e-3,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=50,
    eval_strategy="epoch",
    save_strategy="epoch",
    logging_steps=20,
    load_best_model_at_end=True,
    metric_for_best_model="eval_loss",
    greater_is_better=True,
    save_total_limit=2,
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model=model, args=args, train_dataset=read("train", 600), eval_dataset=read("valid", 300),
                  processing_class=tok, compute_metrics=compute_metrics)
result = trainer.train()
trainer.save_metrics("train", result.metrics)
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_model()
trainer.save_state()
