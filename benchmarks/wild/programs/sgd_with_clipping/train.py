import argparse
import time

import pandas as pd
import torch as th
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def tensors(tokenizer, path):
    df = pd.read_csv(path)
    enc = tokenizer(df.text.tolist(), max_length=48, truncation=True, padding="max_length", return_tensors="pt")
    return TensorDataset(enc.input_ids, enc.attention_mask, th.tensor(df.label.values))


def fit(model, loader, optimizer, num_epochs, max_grad_norm, grad_norm_type):
    total_steps = 0
    for epoch in range(num_epochs):
        model.train()
        t0 = time.time()
        for i, (ids, mask, labels) in enumerate(loader):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if max_grad_norm is not None:
                th.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm, grad_norm_type)

            total_steps += 1
            if i % 20 == 0:
                print("Epoch %05d | Batch %03d | Train Loss: %.4f | Time: %.2f" % (epoch, i, loss.item(), time.time() - t0))
                t0 = time.time()
    return total_steps


@th.no_grad()
def accuracy(model, loader):
    model.eval()
    good = sum((model(input_ids=a, attention_mask=b).logits.argmax(1) == c).sum().item() for a, b, c in loader)
    return good / len(loader.dataset)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--lr", type=float, default=0.03)
    p.add_argument("--max-grad-norm", type=float, default=1.0)
    p.add_argument("--grad-norm-type", type=float, default=2.0)
    p.add_argument("--num-epochs", type=int, default=1)
    args = p.parse_args()
    th.manual_seed(10)

    tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
    model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
    train_loader = DataLoader(tensors(tokenizer, "data/train.csv"), batch_size=16, shuffle=True)
    valid_loader = DataLoader(tensors(tokenizer, "data/valid.csv"), batch_size=64)
    optimizer = th.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    fit(model, train_loader, optimizer, args.num_epochs, args.max_grad_norm, args.grad_norm_type)
    print("Validation accuracy: %.4f" % accuracy(model, valid_loader))
