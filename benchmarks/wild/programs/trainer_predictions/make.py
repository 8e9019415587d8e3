import json

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

set_seed(0)
tok = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)


class Docs(torch.utils.data.Dataset):
    def __init__(self, frame):
        self.enc = tok(frame["text"].tolist(), truncation=True, padding=True, max_length=40)
        self.labels = frame["label"].tolist()

    def __getitem__(self, i):
        return {**{k: torch.tensor(v[i]) for k, v in self.enc.items()}, "labels": torch.tensor(self.labels[i])}

    def __len__(self):
        return len(self.labels)


train, valid = pd.read_csv("data/train.csv").head(640), pd.read_csv("data/valid.csv").head(200)
args = TrainingArguments(output_dir="run", num_train_epochs=1, per_device_train_batch_size=8, per_device_eval_batch_size=50, warmup_steps=10,
                         learning_rate=0.01, logging_steps=5, save_steps=80, save_only_model=True, report_to="none", use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=Docs(train), eval_dataset=Docs(valid))
trainer.train()
out = trainer.predict(Docs(valid))
logits = out.predictions
frame = valid.assign(logit_0=logits[:, 0].round(4), logit_1=logits[:, 1].round(4), prediction=np.argmax(logits, -1))
frame.to_csv("run/predictions.csv", index=False)
with open("run/predict_results.json", "w") as f:
    json.dump(out.metrics, f, indent=2)
trainer.save_state()
