"""Train a transformer and a bag of words side by side; average their probabilities."""
import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.manual_seed(8)
rng = np.random.default_rng(8)
train, valid, test = (pd.read_csv(f"data/{n}.csv") for n in ("train", "valid", "test"))
train = train.iloc[:1500]

vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
x_bow = {"train": vectorizer.fit_transform(train.text)}
x_bow.update(valid=vectorizer.transform(valid.text), test=vectorizer.transform(test.text))
dense = lambda rows: torch.from_numpy(rows.toarray()).float()
bow = nn.Linear(x_bow["train"].shape[1], 2)
bow_opt = torch.optim.Adam(bow.parameters(), lr=5e-3, weight_decay=1e-5)

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
bert = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
bert_opt = torch.optim.AdamW(bert.parameters(), lr=2e-4)
tokens = lambda texts: tokenizer(list(texts), padding=True, truncation=True, max_length=48, return_tensors="pt")

y = torch.tensor(train.label.to_numpy())
for epoch in range(10):
    order = torch.from_numpy(rng.permutation(len(train)))
    bow_loss = []
    for idx in order.split(32):
        loss = nn.functional.cross_entropy(bow(dense(x_bow["train"][idx.numpy()])), y[idx])
        bow_opt.zero_grad()
        loss.backward()
        bow_opt.step()
        bow_loss.append(loss.item())
    if epoch == 0:
        bert.train()
        bert_loss = []
        for idx in order.split(16):
            loss = bert(**tokens(train.text.iloc[idx.tolist()]), labels=y[idx]).loss
            bert_opt.zero_grad()
            loss.backward()
            bert_opt.step()
            bert_loss.append(loss.item())
        print(f"transformer: loss {np.mean(bert_loss[:10]):.3f} -> {np.mean(bert_loss[-10:]):.3f}")
    if epoch % 3 == 0:
        print(f"bag of words, epoch {epoch}: loss {np.mean(bow_loss):.3f}")


@torch.no_grad()
def probabilities(name, frame):
    bert.eval()
    bow.eval()
    p_bow = bow(dense(x_bow[name])).softmax(1)
    p_bert = torch.cat([bert(**tokens(frame.text.iloc[i:i + 64])).logits.softmax(1) for i in range(0, len(frame), 64)])
    return p_bow, p_bert


for name, frame in (("valid", valid), ("test", test)):
    p_bow, p_bert = probabilities(name, frame)
    label = torch.tensor(frame.label.to_numpy())
    for what, p in (("bag of words", p_bow), ("transformer", p_bert), ("average", (p_bow + p_bert) / 2)):
        print(f"{name}: {what} accuracy {(p.argmax(1) == label).float().mean():.3f}")
