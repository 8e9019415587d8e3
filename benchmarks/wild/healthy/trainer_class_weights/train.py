from collections import Counter

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import balanced_accuracy_score, classification_report
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

set_seed(42)

df = pd.read_csv("data/train.csv")
# our own collection has about four negatives for every positive
df = pd.concat([df[df.label == 0], df[df.label == 1].sample(250, random_state=1)]).sample(frac=1, random_state=1)
val = pd.read_csv("data/valid.csv")
test = pd.read_csv("data/test.csv")

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


class ReviewDataset(torch.utils.data.Dataset):
    def __init__(self, frame):
        self.encodings = tokenizer(frame["text"].tolist(), truncation=True, padding="max_length", max_length=40)
        self.labels = frame["label"].tolist()

    def __getitem__(self, idx):
        item = {k: torch.tensor(v[idx]) for k, v in self.encodings.items()}
        item["labels"] = torch.tensor(self.labels[idx])
        return item

    def __len__(self):
        return len(self.labels)


print("class counts", Counter(df.label))
weights = compute_class_weight("balanced", classes=np.array([0, 1]), y=df.label.to_numpy())
weights = torch.tensor(weights, dtype=torch.float)
print("class weights", weights.tolist())


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss_fct = nn.CrossEntropyLoss(weight=weights.to(outputs.logits.device))
        loss = loss_fct(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def compute_metrics(pred):
    preds = pred.predictions.argmax(-1)
    return {"balanced_accuracy": balanced_accuracy_score(pred.label_ids, preds)}


trainer = WeightedTrainer(
    model=AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2),
    args=TrainingArguments(
        output_dir="out/weighted", num_train_epochs=1, learning_rate=2e-4, per_device_train_batch_size=16,
        per_device_eval_batch_size=64, warmup_steps=10, logging_steps=20, save_strategy="no", report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=ReviewDataset(df), eval_dataset=ReviewDataset(val), compute_metrics=compute_metrics,
)
trainer.train()
print(trainer.evaluate())
out = trainer.predict(ReviewDataset(test))
print(classification_report(out.label_ids, out.predictions.argmax(-1), target_names=["neg", "pos"]))
