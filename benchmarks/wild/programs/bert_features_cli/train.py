"""Fine-tune a BERT sentence classifier (single sentences, two classes)."""
import argparse
import random

import numpy as np
import pandas as pd
import torch
from torch.nn import CrossEntropyLoss
from torch.optim import AdamW
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset
from transformers import BertForSequenceClassification, BertTokenizerFast


def load_features(path, tokenizer, max_seq_length):
    frame = pd.read_csv(path)
    all_ids, all_mask, all_segments = [], [], []
    for sentence in frame["text"]:
        tokens = ["[CLS]"] + tokenizer.tokenize(sentence)[: max_seq_length - 2] + ["[SEP]"]
        ids = tokenizer.convert_tokens_to_ids(tokens)
        mask = [1] * len(ids)
        segments = [0] * max_seq_length
        pad = max_seq_length - len(ids)
        all_ids.append(ids + [0] * pad)
        all_mask.append(mask + [0] * pad)
        all_segments.append(segments)
    labels = frame["label"].tolist()
    return TensorDataset(torch.tensor(all_ids), torch.tensor(all_mask), torch.tensor(all_segments), torch.tensor(labels))


def evaluate(model, loader):
    model.eval()
    hits, seen, total = 0, 0, 0.0
    with torch.no_grad():
        for input_ids, input_mask, segment_ids, label_ids in loader:
            logits = model(input_ids, segment_ids, input_mask)[0]
            total += CrossEntropyLoss(reduction="sum")(logits, label_ids).item()
            hits += (logits.argmax(-1) == label_ids).sum().item()
            seen += len(label_ids)
    return total / seen, hits / seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bert_model", default="models/small-bert")
    parser.add_argument("--max_seq_length", type=int, default=48)
    parser.add_argument("--train_batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    tokenizer = BertTokenizerFast.from_pretrained(args.bert_model)
    model = BertForSequenceClassification.from_pretrained(args.bert_model, num_labels=2)

    train_data = load_features("data/train.csv", tokenizer, args.max_seq_length)
    eval_data = load_features("data/valid.csv", tokenizer, args.max_seq_length)
    train_loader = DataLoader(train_data, sampler=RandomSampler(train_data), batch_size=args.train_batch_size)
    eval_loader = DataLoader(eval_data, sampler=SequentialSampler(eval_data), batch_size=64)

    optimizer = AdamW(model.parameters(), lr=args.learning_rate)
    loss_fct = CrossEntropyLoss()
    model.train()
    running = 0.0
    for step, batch in enumerate(train_loader, 1):
        input_ids, input_mask, segment_ids, label_ids = batch
        logits = model(input_ids, segment_ids, input_mask)[0]
        loss = loss_fct(logits, label_ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        running += loss.item()
        if step % 25 == 0:
            print(f"step {step:4d}  loss {running / 25:.4f}")
            running = 0.0
    eval_loss, eval_accuracy = evaluate(model, eval_loader)
    print(f"eval_loss = {eval_loss:.4f}")
    print(f"eval_accuracy = {eval_accuracy:.4f}")


if __name__ == "__main__":
    main()
