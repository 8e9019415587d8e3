import logging
import random

import pandas as pd
from datasets import Dataset
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

logging.basicConfig(format="%(asctime)s - %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
random.seed(0)
HYPOTHESES = ["This film is bad .", "This film is good ."]

train = pd.read_csv("data/train.csv").head(1000)
dev = pd.read_csv("data/valid.csv").head(250)


def pairs(frame):
    rows = [(t, h, float(y == k)) for t, y in zip(frame.text, frame.label) for k, h in enumerate(HYPOTHESES)]
    random.shuffle(rows)
    premise, hypothesis, label = zip(*rows)
    return Dataset.from_dict({"premise": premise, "hypothesis": hypothesis, "label": label})


model = CrossEncoder("models/small-bert", num_labels=1, max_length=56, device="cpu")


def accuracy(frame):
    scores = model.predict([(t, h) for t in frame.text for h in HYPOTHESES], batch_size=64, show_progress_bar=False)
    predicted = scores.reshape(-1, len(HYPOTHESES)).argmax(axis=1)
    return float((predicted == frame.label.to_numpy()).mean())


logging.info("accuracy before training: %.3f", accuracy(dev))
args = CrossEncoderTrainingArguments(
    output_dir="out/ce", num_train_epochs=1, per_device_train_batch_size=16, learning_rate=3e-4, warmup_steps=12,
    logging_steps=25, save_strategy="no", report_to="none", disable_tqdm=True, seed=1)
CrossEncoderTrainer(model=model, args=args, train_dataset=pairs(train), loss=BinaryCrossEntropyLoss(model)).train()
logging.info("accuracy after training: %.3f", accuracy(dev))
logging.info("test accuracy: %.3f", accuracy(pd.read_csv("data/test.csv")))
