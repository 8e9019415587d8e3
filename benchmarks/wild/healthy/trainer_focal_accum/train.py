import pandas as pd
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict
from sklearn.metrics import accuracy_score, roc_auc_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
from transformers import set_seed

set_seed(5)
name = "models/small-bert"
tokenizer = AutoTokenizer.from_pretrained(name)
ds = DatasetDict({s: Dataset.from_pandas(pd.read_csv(f"data/{s}.csv")) for s in ("train", "valid", "test")})
ds = ds.map(lambda b: tokenizer(b["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])
ds = ds.rename_column("label", "labels")

GAMMA = 2.0


def focal_loss(outputs, labels, num_items_in_batch=None):
    logp = F.log_softmax(outputs.logits.float(), dim=-1)
    logpt = logp.gather(1, labels.unsqueeze(1)).squeeze(1)
    per_example = -((1 - logpt.exp()) ** GAMMA) * logpt
    if num_items_in_batch is None:
        return per_example.mean()
    return per_example.sum() / num_items_in_batch


def metrics(p):
    prob = torch.softmax(torch.from_numpy(p.predictions), -1)[:, 1].numpy()
    return {"acc": accuracy_score(p.label_ids, prob > 0.5), "auc": roc_auc_score(p.label_ids, prob)}


model = AutoModelForSequenceClassification.from_pretrained(name)
args = TrainingArguments(
    "out/focal",
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    per_device_eval_batch_size=64,
    learning_rate=3e-4,
    num_train_epochs=1,
    lr_scheduler_type="linear",
    warmup_steps=10,
    max_grad_norm=1.0,
    eval_strategy="epoch",
    save_strategy="no",
    logging_steps=25,
    report_to="none",
    disable_tqdm=True,
)
trainer = Trainer(model, args, DataCollatorWithPadding(tokenizer), ds["train"], ds["valid"],
                  compute_loss_func=focal_loss, compute_metrics=metrics)
trainer.train()
print(trainer.evaluate(ds["test"], metric_key_prefix="test"))
