from collections import Counter

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F

UNK, PAD = "<UNK>", "<PAD>"
MAX_VOCAB_SIZE = 6000


class Config:
    pad_size = 32
    embed = 100
    num_filters = 64
    filter_sizes = (2, 3, 4)
    dropout = 0.5
    num_classes = 2
    batch_size = 32
    num_epochs = 3
    learning_rate = 1e-3
    n_vocab = 0


def build_vocab(texts, max_size, min_freq):
    counter = Counter(word for text in texts for word in text.lower().split())
    words = [w for w, c in counter.most_common(max_size) if c >= min_freq]
    vocab = {w: i for i, w in enumerate(words)}
    vocab.update({UNK: len(vocab), PAD: len(vocab) + 1})
    return vocab


def load_dataset(path, vocab, pad_size):
    contents = []
    frame = pd.read_csv(path)
    for text, label in zip(frame.text, frame.label):
        token = text.lower().split()
        seq_len = len(token)
        if len(token) < pad_size:
            token.extend([vocab.get(PAD)] * (pad_size - len(token)))
        else:
            token = token[:pad_size]
            seq_len = pad_size
        words_line = [vocab.get(word, vocab.get(UNK)) for word in token]
        contents.append((words_line, int(label), seq_len))
    return contents


class TextCNN(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.n_vocab, config.embed, padding_idx=config.n_vocab - 1)
        self.convs = nn.ModuleList([nn.Conv2d(1, config.num_filters, (k, config.embed)) for k in config.filter_sizes])
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(config.num_filters * len(config.filter_sizes), config.num_classes)

    def forward(self, x):
        out = self.embedding(x).unsqueeze(1)
        pooled = []
        for conv in self.convs:
            c = F.relu(conv(out)).squeeze(3)
            pooled.append(F.max_pool1d(c, c.size(2)).squeeze(2))
        return self.fc(self.dropout(torch.cat(pooled, 1)))


def batches(contents, size, shuffle):
    order = np.random.permutation(len(contents)) if shuffle else np.arange(len(contents))
    for start in range(0, len(contents), size):
        part = [contents[i] for i in order[start:start + size]]
        yield torch.LongTensor([p[0] for p in part]), torch.LongTensor([p[1] for p in part])


def evaluate(model, contents, config):
    model.eval()
    loss, hit = 0.0, 0
    with torch.no_grad():
        for x, y in batches(contents, 100, False):
            out = model(x)
            loss += F.cross_entropy(out, y, reduction="sum").item()
            hit += (out.argmax(1) == y).sum().item()
    return loss / len(contents), hit / len(contents)


if __name__ == "__main__":
    np.random.seed(1)
    torch.manual_seed(1)
    config = Config()
    train_frame = pd.read_csv("data/train.csv")
    vocab = build_vocab(train_frame.text, MAX_VOCAB_SIZE, 2)
    config.n_vocab = len(vocab)
    print(f"Vocab size: {len(vocab)}")
    train_data = load_dataset("data/train.csv", vocab, config.pad_size)
    dev_data = load_dataset("data/valid.csv", vocab, config.pad_size)
    test_data = load_dataset("data/test.csv", vocab, config.pad_size)

    model = TextCNN(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    total_batch = 0
    for epoch in range(config.num_epochs):
        print(f"Epoch [{epoch + 1}/{config.num_epochs}]")
        for x, y in batches(train_data, config.batch_size, True):
            model.train()
            outputs = model(x)
            model.zero_grad()
            loss = F.cross_entropy(outputs, y)
            loss.backward()
            optimizer.step()
            if total_batch % 30 == 0:
                acc = (outputs.argmax(1) == y).float().mean().item()
                dev_loss, dev_acc = evaluate(model, dev_data, config)
                print(f"Iter: {total_batch:>4},  Train Loss: {loss.item():.3f},  Train Acc: {acc:.2%},  "
                      f"Val Loss: {dev_loss:.3f},  Val Acc: {dev_acc:.2%}")
            total_batch += 1
    test_loss, test_acc = evaluate(model, test_data, config)
    print(f"Test Loss: {test_loss:.3f},  Test Acc: {test_acc:.2%}")
