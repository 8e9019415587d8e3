import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

set_seed(0)
df = pd.read_csv("data/reviews.csv")
df["text"] = df["text"].str.replace("<br />", " ", regex=False)
tr, te = train_test_split(df, test_size=150, stratify=df.label, random_state=0)

tok = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)


class DS(torch.utils.data.Dataset):
    def __init__(self, d):
        self.t, self.y = d.text.tolist(), d.label.tolist()

    def __len__(self):
        return len(self.t)

    def __getitem__(self, i):
        return self.t[i], self.y[i]


def collate(batch):
    texts, labels = zip(*batch)
    enc = tok(list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt")
    enc["labels"] = torch.tensor(labels)
    return dict(enc)


args = TrainingArguments(
    "out/gc", per_device_train_batch_size=8, per_device_eval_batch_size=25,
    learning_rate=2e-4, num_train_epochs=1, gradient_checkpointing=True,
    gradient_checkpointing_kwargs={"use_reentrant": False}, remove_unused_columns=False, logging_steps=14,
    save_strategy="no", report_to="none", disable_tqdm=True, warmup_steps=3,
)
t = Trainer(model, args, data_collator=collate, train_dataset=DS(tr), eval_dataset=DS(te),
            compute_metrics=lambda p: {"acc": float((p.predictions.argmax(-1) == p.label_ids).mean())})
print("before", t.evaluate()["eval_acc"])
t.train()
print("after", t.evaluate())
