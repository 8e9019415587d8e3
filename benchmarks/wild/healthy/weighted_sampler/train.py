import collections

import pandas as pd
import torch
from sklearn.metrics import confusion_matrix, f1_score
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(3)
frame = pd.read_csv("data/train.csv")
rare = frame[frame.label == 1].head(200)
frame = pd.concat([frame[frame.label == 0], rare], ignore_index=True)
valid, test = pd.read_csv("data/valid.csv"), pd.read_csv("data/test.csv")
tokenizer = AutoTokenizer.from_pretrained("models/small-bert")


class TextSet(Dataset):
    def __init__(self, df):
        self.texts, self.labels = df.text.tolist(), df.label.tolist()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.texts[i], self.labels[i]


def collate(items):
    texts, labels = zip(*items)
    return tokenizer(list(texts), padding=True, truncation=True, max_length=48, return_tensors="pt"), torch.tensor(labels)


train_set = TextSet(frame)
class_counts = collections.Counter(train_set.labels)
sample_weights = torch.tensor([1.0 / class_counts[y] for y in train_set.labels], dtype=torch.double)
sampler = WeightedRandomSampler(sample_weights, num_samples=len(sample_weights), replacement=True)
train_loader = DataLoader(train_set, batch_size=16, sampler=sampler, collate_fn=collate)
print("classes", dict(class_counts))

model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=len(train_loader), power=1.0)


def evaluate(df):
    model.eval()
    pred = []
    with torch.no_grad():
        for enc, _ in DataLoader(TextSet(df), batch_size=64, collate_fn=collate):
            pred += model(**enc).logits.argmax(-1).tolist()
    return pred


drawn = collections.Counter()
model.train()
for step, (enc, labels) in enumerate(train_loader, 1):
    drawn.update(labels.tolist())
    loss = torch.nn.functional.cross_entropy(model(**enc).logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 25 == 0:
        print("step", step, "loss", round(loss.item(), 4), "seen", dict(drawn))
for name, df in (("valid", valid), ("test", test)):
    pred = evaluate(df)
    print(name, "macro F1", round(f1_score(df.label, pred, average="macro"), 4))
    print(confusion_matrix(df.label, pred))
