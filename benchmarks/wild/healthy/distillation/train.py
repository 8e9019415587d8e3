import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

set_seed(42)
teacher_id, student_id = "models/small-bert", "models/tiny-bert"
tokenizer = AutoTokenizer.from_pretrained(teacher_id)
assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(student_id).get_vocab()


def prepare(split, rows=None):
    ds = Dataset.from_pandas(pd.read_csv(f"data/{split}.csv", nrows=rows))
    ds = ds.map(lambda b: tokenizer(b["text"], truncation=True, max_length=40), batched=True, remove_columns=["text"])
    return ds.rename_column("label", "labels")


train, valid = prepare("train", 1400), prepare("valid")
collator = DataCollatorWithPadding(tokenizer)


def compute_metrics(p):
    return {"accuracy": float(np.mean(np.argmax(p.predictions, axis=1) == p.label_ids))}


common = dict(per_device_eval_batch_size=100, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=50)

teacher = AutoModelForSequenceClassification.from_pretrained(teacher_id, num_labels=2)
teacher_trainer = Trainer(
    teacher,
    TrainingArguments("out/teacher", num_train_epochs=1, learning_rate=2e-4, per_device_train_batch_size=16, **common),
    data_collator=collator, train_dataset=train, eval_dataset=valid, compute_metrics=compute_metrics)
teacher_trainer.train()
print("teacher", teacher_trainer.evaluate())


class DistillationTrainingArguments(TrainingArguments):
    def __init__(self, *args, alpha=0.5, temperature=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.temperature = temperature


class DistillationTrainer(Trainer):
    def __init__(self, *args, teacher_model=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher_model.to(self.args.device).eval()

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs_student = model(**inputs)
        with torch.no_grad():
            logits_teacher = self.teacher(**inputs).logits
        t = self.args.temperature
        soft = F.kl_div(F.log_softmax(outputs_student.logits / t, dim=-1), F.softmax(logits_teacher / t, dim=-1),
                        reduction="batchmean") * t**2
        hard = F.cross_entropy(outputs_student.logits, inputs["labels"])
        loss = self.args.alpha * hard + (1.0 - self.args.alpha) * soft
        return (loss, outputs_student) if return_outputs else loss


student = AutoModelForSequenceClassification.from_pretrained(student_id, num_labels=2)
student_trainer = DistillationTrainer(
    student,
    DistillationTrainingArguments("out/student", num_train_epochs=3, learning_rate=1e-3, warmup_steps=20,
                                  per_device_train_batch_size=16, alpha=0.3, **common),
    data_collator=collator, train_dataset=train, eval_dataset=valid, compute_metrics=compute_metrics, teacher_model=teacher)
student_trainer.train()
print("student", student_trainer.evaluate())
