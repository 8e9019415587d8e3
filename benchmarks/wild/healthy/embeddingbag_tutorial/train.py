import csv
import re
import time
from collections import Counter

import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(0)
device = torch.device("cpu")


def tokenizer(line):
    return re.findall(r"[a-z0-9']+|[.,!?;:]", line.lower())


def read(path):
    with open(path, newline="", encoding="utf-8") as f:
        return [(int(row["label"]), row["text"]) for row in csv.DictReader(f)]


def ngrams(tokens, n=2):
    yield from tokens
    for k in range(len(tokens) - n + 1):
        yield " ".join(tokens[k:k + n])


train_iter, valid_iter, test_iter = read("data/train.csv"), read("data/valid.csv"), read("data/test.csv")
counter = Counter()
for _, text in train_iter:
    counter.update(ngrams(tokenizer(text)))
itos = ["<unk>"] + [t for t, c in counter.most_common() if c >= 2]
vocab = {t: i for i, t in enumerate(itos)}


def text_pipeline(x):
    return [vocab[t] for t in ngrams(tokenizer(x)) if t in vocab] or [0]


def collate_batch(batch):
    label_list, text_list, offsets = [], [], [0]
    for _label, _text in batch:
        label_list.append(_label)
        processed = torch.tensor(text_pipeline(_text), dtype=torch.int64)
        text_list.append(processed)
        offsets.append(processed.size(0))
    return (torch.tensor(label_list, dtype=torch.int64).to(device), torch.cat(text_list).to(device),
            torch.tensor(offsets[:-1]).cumsum(dim=0).to(device))


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, sparse=False)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text, offsets):
        return self.fc(self.embedding(text, offsets))


EPOCHS, LR, BATCH_SIZE = 10, 4, 16
model = TextClassificationModel(len(vocab), 64, 2).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1.0, gamma=0.3)
total_accu = None


def train(dataloader, epoch):
    model.train()
    total_acc, total_count, log_interval = 0, 0, 60
    for idx, (label, text, offsets) in enumerate(dataloader):
        optimizer.zero_grad()
        predicted_label = model(text, offsets)
        loss = criterion(predicted_label, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        total_acc += (predicted_label.argmax(1) == label).sum().item()
        total_count += label.size(0)
        if idx % log_interval == 0 and idx > 0:
            print("| epoch {:3d} | {:5d}/{:5d} batches | accuracy {:8.3f}".format(
                epoch, idx, len(dataloader), total_acc / total_count))
            total_acc, total_count = 0, 0


def evaluate(dataloader):
    model.eval()
    total_acc, total_count = 0, 0
    with torch.no_grad():
        for label, text, offsets in dataloader:
            total_acc += (model(text, offsets).argmax(1) == label).sum().item()
            total_count += label.size(0)
    return total_acc / total_count


train_dataloader = DataLoader(train_iter, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch)
valid_dataloader = DataLoader(valid_iter, batch_size=BATCH_SIZE, collate_fn=collate_batch)
test_dataloader = DataLoader(test_iter, batch_size=BATCH_SIZE, collate_fn=collate_batch)
for epoch in range(1, EPOCHS + 1):
    start = time.time()
    train(train_dataloader, epoch)
    accu_val = evaluate(valid_dataloader)
    if total_accu is not None and total_accu > accu_val:
        scheduler.step()
    else:
        total_accu = accu_val
    print("| end of epoch {:3d} | time: {:5.2f}s | valid accuracy {:8.3f}".format(epoch, time.time() - start, accu_val))
print("test accuracy {:8.3f}".format(evaluate(test_dataloader)))
