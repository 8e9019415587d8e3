import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(21)
CKPT = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(CKPT)

frame = pd.read_csv("data/four.csv")
train_df, eval_df = frame.iloc[:1280], frame.iloc[1700:]
weights = compute_class_weight("balanced", classes=np.arange(4), y=train_df["label"].values)
print("class weights", weights.round(3))


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor(class_weights, dtype=torch.float))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = self.criterion(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def encode(df):
    ds = Dataset.from_pandas(df, preserve_index=False)
    return ds.map(lambda b: tokenizer(b["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])


def scores(p):
    preds = p.predictions.argmax(-1)
    return {"accuracy": float((preds == p.label_ids).mean()), "balanced": balanced_accuracy_score(p.label_ids, preds)}


trainer = WeightedTrainer(
    model=AutoModelForSequenceClassification.from_pretrained(CKPT, num_labels=4),
    args=TrainingArguments(
        output_dir="out/weighted",
        num_train_epochs=1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=8,
        per_device_eval_batch_size=64,
        learning_rate=0.02,
        optim="sgd",
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        logging_steps=10,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=encode(train_df),
    eval_dataset=encode(eval_df),
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=scores,
    class_weights=weights,
)
trainer.train()
print(trainer.evaluate())
