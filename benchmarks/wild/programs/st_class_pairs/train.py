import random

import pandas as pd
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sklearn.linear_model import LogisticRegression

random.seed(0)
model = SentenceTransformer("models/small-bert", device="cpu")
model.max_seq_length = 48

train = pd.read_csv("data/train.csv").head(800)
valid = pd.read_csv("data/valid.csv").head(300)
by_label = {y: g.text.tolist() for y, g in train.groupby("label")}


def probe(tag):
    clf = LogisticRegression(max_iter=1000)
    clf.fit(model.encode(train.text.tolist(), batch_size=64), train.label)
    print(tag, "probe accuracy", round(clf.score(model.encode(valid.text.tolist(), batch_size=64), valid.label), 4))


# a sentence and another one with the same sentiment
pairs = [(t, random.choice(by_label[y])) for t, y in zip(train.text, train.label)]
dataset = Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [b for _, b in pairs]})

probe("before")
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir="out/pairs",
        num_train_epochs=1,
        per_device_train_batch_size=32,
        learning_rate=1e-4,
        warmup_steps=5,
        logging_steps=5,
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=dataset,
    loss=MultipleNegativesRankingLoss(model),
)
trainer.train()
probe("after")
