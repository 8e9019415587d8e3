import pandas as pd
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from transformers import set_seed

set_seed(10)
df = pd.read_csv("data/train.csv")
valid = pd.read_csv("data/valid.csv").head(200)


def few(frame, k):
    picked = pd.concat([g.head(k) for _, g in frame.groupby("label")])
    return Dataset.from_dict({"text": picked.text.tolist(), "label": picked.label.tolist()})


model = SetFitModel.from_pretrained("models/small-bert", labels=["negative", "positive"])
model.model_body.max_seq_length = 48

round_one = few(df.iloc[:600], 24)
round_two = few(df.iloc[600:], 40)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out/setfit", batch_size=16, num_epochs=1, num_iterations=5, body_learning_rate=1e-4,
        save_strategy="no", report_to="none",
    ),
    train_dataset=round_one,
    eval_dataset=Dataset.from_dict({"text": valid.text.tolist(), "label": valid.label.tolist()}),
    metric=lambda y_pred, y_test: {"accuracy": float((pd.Series(list(y_pred)) == pd.Series(list(y_test))).mean())},
)
trainer.train()
print("round one:", trainer.evaluate())

# newly labelled sentences: go on with the sentence encoder
args = TrainingArguments(
    output_dir="out/setfit", batch_size=16, num_epochs=1, num_iterations=5, body_learning_rate=3e-4,
    save_strategy="no", report_to="none",
)
trainer.train_embeddings(round_two["text"], round_two["label"], args=args)
print("round two:", trainer.evaluate())
model.save_pretrained("out/setfit/final")
