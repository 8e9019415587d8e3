"""Metric learning on an encoder with sentence-transformers, then logistic regression on its embeddings."""
import numpy as np
import pandas as pd
from datasets import Dataset
from sentence_transformers import (SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments,
                                   losses, models)
from sentence_transformers.training_args import BatchSamplers
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

train = pd.read_csv("data/train.csv")
valid = pd.read_csv("data/valid.csv")
test = pd.read_csv("data/test.csv")

word = models.Transformer("models/small-bert", max_seq_length=48)
pooling = models.Pooling(word.get_word_embedding_dimension(), pooling_mode="mean")
model = SentenceTransformer(modules=[word, pooling], device="cpu")


def probe(stage):
    x_train = model.encode(train.text.tolist(), batch_size=64, show_progress_bar=False)
    clf = LogisticRegression(C=1.0, max_iter=500).fit(x_train, train.label)
    for name, frame in (("valid", valid), ("test", test)):
        x = model.encode(frame.text.tolist(), batch_size=64, show_progress_bar=False)
        print(f"{stage}: {name} accuracy {accuracy_score(frame.label, clf.predict(x)):.3f}")


probe("pretrained")
ds = Dataset.from_dict({"sentence": train.text.tolist(), "label": train.label.tolist()})
args = SentenceTransformerTrainingArguments(
    output_dir="out/st",
    num_train_epochs=1,
    per_device_train_batch_size=32,
    learning_rate=1e-4,
    warmup_steps=6,
    batch_sampler=BatchSamplers.GROUP_BY_LABEL,
    logging_steps=15,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
    seed=12,
)
trainer = SentenceTransformerTrainer(
    model=model, args=args, train_dataset=ds, loss=losses.BatchSemiHardTripletLoss(model=model, margin=0.5,
        distance_metric=losses.BatchHardTripletLossDistanceFunction.cosine_distance))
trainer.train()
probe("tuned")
