import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import BertForSequenceClassification, BertTokenizerFast, set_seed

set_seed(5)
tokenizer = BertTokenizerFast.from_pretrained("models/small-bert")
model = BertForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)
MAX_LEN = 48


def read(path):
    df = pd.read_csv(path)
    seqs = [torch.tensor(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(s)[:MAX_LEN])) for s in df["text"]]
    return list(zip(seqs, df["label"].tolist()))


def make_batch(rows):
    seqs, labels = zip(*rows)
    ids = pad_sequence(seqs, batch_first=True, padding_value=tokenizer.pad_token_id)
    return ids, (ids != tokenizer.pad_token_id).long(), torch.tensor(labels)


train_loader = DataLoader(read("data/train.csv"), batch_size=16, shuffle=True, collate_fn=make_batch)
valid_loader = DataLoader(read("data/valid.csv"), batch_size=64, shuffle=False, collate_fn=make_batch)

optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.05, total_iters=len(train_loader))

model.train()
history = []
for n, (ids, mask, y) in enumerate(train_loader, start=1):
    out = model(input_ids=ids, attention_mask=mask, labels=y)
    out.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    history.append(out.loss.item())
    if n % 25 == 0:
        print("batch", n, "loss", round(sum(history[-25:]) / 25, 4))

model.eval()
preds, golds = [], []
with torch.no_grad():
    for ids, mask, y in valid_loader:
        preds.append(model(input_ids=ids, attention_mask=mask).logits.argmax(-1))
        golds.append(y)
preds, golds = torch.cat(preds), torch.cat(golds)
print("validation accuracy", round((preds == golds).float().mean().item(), 4))
