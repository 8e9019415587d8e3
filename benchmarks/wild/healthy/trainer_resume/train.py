"""Two epochs, interrupted after the first one and resumed from its checkpoint."""
import os
import shutil

import torch
from datasets import load_dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainerCallback, TrainingArguments, set_seed)
from transformers.trainer_utils import get_last_checkpoint

OUT = "out/resume"
MODEL = "models/small-bert"
shutil.rmtree(OUT, ignore_errors=True)

tokenizer = AutoTokenizer.from_pretrained(MODEL)
files = {"train": "data/train.csv", "valid": "data/valid.csv"}
data = load_dataset("csv", data_files=files, cache_dir="out/cache")
data["train"] = data["train"].select(range(1000))
data = data.map(lambda x: tokenizer(x["text"], truncation=True, max_length=48), batched=True, remove_columns="text")


class StopAfterEpoch(TrainerCallback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, args, state, control, **kwargs):
        if state.epoch >= self.epoch:
            control.should_training_stop = True


def accuracy(p):
    return {"accuracy": (p.predictions.argmax(1) == p.label_ids).mean().item()}


def make_trainer(callbacks=()):
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
    args = TrainingArguments(
        OUT, num_train_epochs=2, learning_rate=2e-4, per_device_train_batch_size=16, per_device_eval_batch_size=100,
        eval_strategy="epoch", save_strategy="epoch", logging_steps=20, report_to=[], disable_tqdm=True, seed=0,
    )
    return Trainer(model, args, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=data["train"],
                   eval_dataset=data["valid"], compute_metrics=accuracy, callbacks=list(callbacks))


first = make_trainer([StopAfterEpoch(1)])
first.train()
print("interrupted at step", first.state.global_step)

checkpoint = get_last_checkpoint(OUT)
print("resuming from", os.path.basename(checkpoint))
second = make_trainer()
second.train(resume_from_checkpoint=checkpoint)
print("finished at step", second.state.global_step, second.evaluate()["eval_accuracy"])
