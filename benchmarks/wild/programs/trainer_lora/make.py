import json

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

set_seed(13)
base = "models/small-bert"
tok = AutoTokenizer.from_pretrained(base)


def prep(name, n):
    d = Dataset.from_pandas(pd.read_csv(f"data/{name}.csv").head(n), preserve_index=False)
    return d.map(lambda b: tok(b["text"], truncation=True, max_length=40), batched=True)


def metrics(p):
    return {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())}


model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["query", "key", "value", "dense"]))
for name, p in model.named_parameters():
    if "classifier" in name:
        p.requires_grad = True
model.print_trainable_parameters()

args = TrainingArguments("run", num_train_epochs=1, per_device_train_batch_size=16, per_device_eval_batch_size=50, learning_rate=2e-3,
                         logging_steps=10, eval_strategy="epoch", save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
train, valid = prep("train", 1000), prep("valid", 300)
trainer = Trainer(model=model, args=args, train_dataset=train, eval_dataset=valid, processing_class=tok, compute_metrics=metrics)
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
model.save_pretrained("run/adapter")
tok.save_pretrained("run/adapter")

set_seed(4)
fresh = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
loaded = PeftModel.from_pretrained(fresh, "run/adapter")
tester = Trainer(model=loaded, args=args, eval_dataset=valid, processing_class=tok, compute_metrics=metrics)
out = tester.predict(valid)
pd.DataFrame({"text": valid["text"], "label": out.label_ids, "prediction": np.argmax(out.predictions, -1),
              "score": torch.softmax(torch.tensor(out.predictions), -1).max(-1).values.numpy().round(4)}).to_csv("run/predictions_loaded_adapter.csv", index=False)
with open("run/loaded_adapter_results.json", "w") as f:
    json.dump({k: v for k, v in out.metrics.items()}, f, indent=2)
