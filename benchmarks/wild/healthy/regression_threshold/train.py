import numpy as np
import pandas as pd
from datasets import Dataset, Features, Value
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, mean_squared_error
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(9)
model_name = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(model_name)
# one output, mean squared error: the sentiment as a score between 0 and 1
model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=1, problem_type="regression")
features = Features({"text": Value("string"), "label": Value("float32")})


def get(name, rows=None):
    df = pd.read_csv(f"data/{name}.csv", nrows=rows).astype({"label": "float32"})
    ds = Dataset.from_pandas(df, features=features)
    return ds.map(lambda x: tokenizer(x["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    scores = predictions.squeeze(-1)
    return {"mse": mean_squared_error(labels, scores), "pearson": pearsonr(labels, scores)[0].item(),
            "accuracy": accuracy_score(labels > 0.5, scores > 0.5)}


args = TrainingArguments(
    output_dir="out/regression", learning_rate=2e-4, num_train_epochs=1, per_device_train_batch_size=16,
    per_device_eval_batch_size=50, warmup_steps=10, eval_strategy="epoch", save_strategy="no", logging_steps=20,
    report_to="none", disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=get("train", 1600), eval_dataset=get("valid"),
                  data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=compute_metrics)
trainer.train()
print(trainer.evaluate(get("test"), metric_key_prefix="test"))
