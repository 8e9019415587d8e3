import random
import re

import pandas as pd
import torch
import torch.nn as nn
import torch.optim as optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

SEED = 1234
random.seed(SEED)
torch.manual_seed(SEED)
torch.backends.cudnn.deterministic = True

MAX_VOCAB_SIZE = 4000
BATCH_SIZE = 32
PAD, UNK = 0, 1
split = re.compile(r"\w+|[^\w\s]").findall


class Vocab:
    def __init__(self, texts):
        freqs = {}
        for t in texts:
            for w in split(t.lower()):
                freqs[w] = freqs.get(w, 0) + 1
        words = sorted(freqs, key=lambda w: (-freqs[w], w))[:MAX_VOCAB_SIZE]
        self.stoi = {w: i + 2 for i, w in enumerate(words)}

    def __len__(self):
        return len(self.stoi) + 2

    def encode(self, text):
        return torch.tensor([self.stoi.get(w, UNK) for w in split(text.lower())])


train_data, valid_data, test_data = (pd.read_csv(f"data/{n}.csv") for n in ("train", "valid", "test"))
TEXT = Vocab(train_data.text)


class BucketIterator:
    """Batches of sentences of like length, in random order."""

    def __init__(self, frame, train):
        self.examples = [(TEXT.encode(t), float(y)) for t, y in zip(frame.text, frame.label)]
        self.train = train

    def __len__(self):
        return (len(self.examples) + BATCH_SIZE - 1) // BATCH_SIZE

    def __iter__(self):
        examples = list(self.examples)
        if self.train:
            random.shuffle(examples)
        pool = BATCH_SIZE * 20
        batches = []
        for i in range(0, len(examples), pool):
            chunk = sorted(examples[i:i + pool], key=lambda e: len(e[0]))
            batches += [chunk[j:j + BATCH_SIZE] for j in range(0, len(chunk), BATCH_SIZE)]
        if self.train:
            random.shuffle(batches)
        for batch in batches:
            text = pad_sequence([e[0] for e in batch], padding_value=PAD)
            lengths = torch.tensor([len(e[0]) for e in batch])
            yield text, lengths, torch.tensor([e[1] for e in batch])


class RNN(nn.Module):
    def __init__(self, vocab_size, embedding_dim, hidden_dim, output_dim, n_layers, bidirectional, dropout, pad_idx):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=pad_idx)
        self.rnn = nn.LSTM(embedding_dim, hidden_dim, num_layers=n_layers, bidirectional=bidirectional, dropout=dropout)
        self.fc = nn.Linear(hidden_dim * 2, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text, text_lengths):
        embedded = self.dropout(self.embedding(text))
        packed = pack_padded_sequence(embedded, text_lengths, enforce_sorted=False)
        _, (hidden, cell) = self.rnn(packed)
        hidden = self.dropout(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))
        return self.fc(hidden)


model = RNN(len(TEXT), 100, 64, 1, 2, True, 0.3, PAD)
print(f"The model has {sum(p.numel() for p in model.parameters() if p.requires_grad):,} trainable parameters")
optimizer = optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.BCEWithLogitsLoss()


def binary_accuracy(preds, y):
    return (torch.round(torch.sigmoid(preds)) == y).float().sum().item()


def train(model, iterator):
    epoch_loss = epoch_acc = n = 0
    model.train()
    for text, lengths, label in iterator:
        optimizer.zero_grad()
        predictions = model(text, lengths).squeeze(1)
        loss = criterion(predictions, label)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        epoch_loss += loss.item() * len(label)
        epoch_acc += binary_accuracy(predictions, label)
        n += len(label)
    return epoch_loss / n, epoch_acc / n


def evaluate(model, iterator):
    epoch_loss = epoch_acc = n = 0
    model.eval()
    with torch.no_grad():
        for text, lengths, label in iterator:
            predictions = model(text, lengths).squeeze(1)
            epoch_loss += criterion(predictions, label).item() * len(label)
            epoch_acc += binary_accuracy(predictions, label)
            n += len(label)
    return epoch_loss / n, epoch_acc / n


train_iterator, valid_iterator = BucketIterator(train_data, True), BucketIterator(valid_data, False)
best, best_state = float("inf"), None
for epoch in range(6):
    train_loss, train_acc = train(model, train_iterator)
    valid_loss, valid_acc = evaluate(model, valid_iterator)
    if valid_loss < best:
        best = valid_loss
        best_state = {k: v.clone() for k, v in model.state_dict().items()}
    print(f"Epoch: {epoch + 1:02} | Train Loss: {train_loss:.3f} | Train Acc: {train_acc * 100:.2f}% | "
          f"Val. Loss: {valid_loss:.3f} | Val. Acc: {valid_acc * 100:.2f}%")
model.load_state_dict(best_state)
test_loss, test_acc = evaluate(model, BucketIterator(test_data, False))
print(f"Test Loss: {test_loss:.3f} | Test Acc: {test_acc * 100:.2f}%")
