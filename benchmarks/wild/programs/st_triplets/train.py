import random

import numpy as np
import pandas as pd
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import TripletLoss
from sklearn.neighbors import KNeighborsClassifier

rng = random.Random(5)
model = SentenceTransformer("models/small-bert", device="cpu")
model.max_seq_length = 40

train = pd.read_csv("data/train.csv").head(480)
valid = pd.read_csv("data/valid.csv").head(200)
pool = {y: g.text.tolist() for y, g in train.groupby("label")}

records = []
for text, label in zip(train.text, train.label):
    records.append({
        "sentence": text,
        "differing": rng.choice(pool[1 - label]),
        "matching": rng.choice(pool[label]),
    })
triplets = Dataset.from_list(records)


def knn(tag):
    x, z = model.encode(train.text.tolist()), model.encode(valid.text.tolist())
    print(tag, "10-nn accuracy", round(KNeighborsClassifier(10).fit(x, train.label).score(z, valid.label), 4))


knn("before")
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir="out/triplets", num_train_epochs=1, per_device_train_batch_size=16, learning_rate=5e-5,
        logging_steps=5, save_strategy="no", report_to=[],
    ),
    train_dataset=triplets,
    loss=TripletLoss(model, triplet_margin=1.0),
)
trainer.train()
knn("after")
