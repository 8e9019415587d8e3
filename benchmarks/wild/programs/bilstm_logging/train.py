import logging
import sys

import pandas as pd
import torch
import torch.nn as nn
import torch.nn.utils.rnn as rnn
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("lstm")


class BiLSTM(nn.Module):
    def __init__(self, vocab, emb=128, hidden=128, p=0.5):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb, padding_idx=0)
        self.lstm = nn.LSTM(emb, hidden, bidirectional=True, batch_first=True)
        self.drop = nn.Dropout(p)
        self.out = nn.Linear(2 * hidden, 2)

    def forward(self, x, lengths):
        e = self.drop(self.emb(x))
        packed = rnn.pack_padded_sequence(e, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.out(self.drop(torch.cat([h[0], h[1]], dim=1)))


class Model:
    def __init__(self, vocab):
        self.net = BiLSTM(vocab)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=2e-3)

    def evaluate(self, loader):
        self.net.eval()
        loss, right, n = 0.0, 0, 0
        with torch.no_grad():
            for x, lengths, y in loader:
                out = self.net(x, lengths)
                loss += self.criterion(out, y).item() * len(y)
                right += (out.argmax(1) == y).sum().item()
                n += len(y)
        return loss / n, right / n

    def train(self, train_loader, valid_loader, epochs=4, eval_every=30):
        self.net.train()
        step, running = 0, 0.0
        for epoch in range(epochs):
            for x, lengths, y in train_loader:
                self.optimizer.zero_grad()
                loss = self.criterion(self.net(x, lengths), y)
                loss.backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
                self.optimizer.step()
                running += loss.item()
                step += 1
                if step % eval_every == 0:
                    val_loss, val_acc = self.evaluate(valid_loader)
                    log.info("epoch %d step %d train_loss %.4f val_loss %.4f val_acc %.4f", epoch, step, running / eval_every, val_loss, val_acc)
                    running = 0.0


if __name__ == "__main__":
    torch.manual_seed(3)
    tok = AutoTokenizer.from_pretrained("models/small-bert")

    def collate(rows):
        ids = [torch.tensor(tok(t, truncation=True, max_length=48)["input_ids"]) for t, _ in rows]
        return rnn.pad_sequence(ids, batch_first=True, padding_value=0), torch.tensor([len(i) for i in ids]), torch.tensor([y for _, y in rows])

    def load(name, shuffle):
        df = pd.read_csv(f"data/{name}.csv")
        return DataLoader(list(zip(df.text, df.label)), batch_size=32, shuffle=shuffle, collate_fn=collate)

    model = Model(len(tok))
    model.train(load("train", True), load("valid", False))
