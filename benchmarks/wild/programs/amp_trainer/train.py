import os
import random
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer


@dataclass
class TrainerConfig:
    max_epochs: int = 1
    batch_size: int = 16
    grad_norm_clip: float = 1.0
    learning_rate: float = 0.02
    momentum: float = 0.9
    use_amp: bool = True
    log_every: int = 20
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    amp_dtype: torch.dtype = torch.float16 if torch.cuda.is_available() else torch.bfloat16


class TextSet(Dataset):
    def __init__(self, path, tokenizer):
        frame = pd.read_csv(path)
        self.enc = tokenizer(frame.text.tolist(), truncation=True, padding="max_length", max_length=40, return_tensors="pt")
        self.labels = torch.tensor(frame.label.tolist())

    def __len__(self):
        return self.labels.numel()

    def __getitem__(self, i):
        return self.enc.input_ids[i], self.enc.attention_mask[i], self.labels[i]


class Trainer:
    def __init__(self, config, model, optimizer, train_dataset, test_dataset):
        self.config, self.model, self.optimizer = config, model.to(config.device), optimizer
        self.train_loader = DataLoader(train_dataset, batch_size=config.batch_size, shuffle=True)
        self.test_loader = DataLoader(test_dataset, batch_size=64)
        if config.use_amp:
            self.scaler = torch.amp.GradScaler(config.device)

    def _run_batch(self, ids, mask, targets, train=True):
        with torch.set_grad_enabled(train), torch.amp.autocast(device_type=self.config.device, dtype=self.config.amp_dtype, enabled=self.config.use_amp):
            logits = self.model(input_ids=ids, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits, targets)
        if train:
            self.optimizer.zero_grad(set_to_none=True)
            if self.config.use_amp:
                self.scaler.scale(loss).backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_norm_clip)
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_norm_clip)
                self.optimizer.step()
        return loss.item(), (logits.argmax(-1) == targets).sum().item()

    def _run_epoch(self, epoch, loader, train):
        self.model.train(train)
        correct = seen = 0
        for it, batch in enumerate(loader):
            ids, mask, y = (t.to(self.config.device) for t in batch)
            loss, good = self._run_batch(ids, mask, y, train)
            correct, seen = correct + good, seen + len(y)
            if train and it % self.config.log_every == 0:
                print(f"Epoch {epoch} | Iter {it} | Train Loss {loss:.5f}")
        print(f"Epoch {epoch} | {'Train' if train else 'Eval'} accuracy {correct / seen:.4f}")

    def train(self):
        for epoch in range(1, self.config.max_epochs + 1):
            self._run_epoch(epoch, self.train_loader, True)
            self._run_epoch(epoch, self.test_loader, False)


if __name__ == "__main__":
    random.seed(8), np.random.seed(8), torch.manual_seed(8)
    cfg = TrainerConfig()
    tok = AutoTokenizer.from_pretrained("models/small-bert")
    net = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
    optim = torch.optim.SGD(net.parameters(), lr=cfg.learning_rate, momentum=cfg.momentum)
    Trainer(cfg, net, optim, TextSet(os.path.join("data", "train.csv"), tok), TextSet(os.path.join("data", "valid.csv"), tok)).train()
