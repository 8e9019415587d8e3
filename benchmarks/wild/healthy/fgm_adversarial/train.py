import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import BertForSequenceClassification, BertTokenizer, get_linear_schedule_with_warmup, set_seed


class FGM:
    def __init__(self, model, emb_name="word_embeddings.weight", epsilon=0.5):
        self.model, self.emb_name, self.epsilon = model, emb_name, epsilon
        self.backup = {}

    def attack(self):
        for name, param in self.model.named_parameters():
            if param.requires_grad and name.endswith(self.emb_name) and param.grad is not None:
                self.backup[name] = param.data.clone()
                norm = torch.norm(param.grad)
                if norm > 0 and torch.isfinite(norm):
                    param.data.add_(self.epsilon * param.grad / norm)

    def restore(self):
        for name, param in self.model.named_parameters():
            if name in self.backup:
                param.data.copy_(self.backup[name])
        self.backup = {}


class MyDataset(Dataset):
    def __init__(self, path, limit=None):
        self.df = pd.read_csv(path, nrows=limit)

    def __len__(self):
        return self.df.shape[0]

    def __getitem__(self, index):
        row = self.df.iloc[index]
        return row["text"], int(row["label"])


class Collator:
    def __init__(self, tokenizer, max_len):
        self.tokenizer, self.max_len = tokenizer, max_len

    def __call__(self, batch):
        texts, labels = map(list, zip(*batch))
        enc = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_len, return_tensors="pt")
        enc["labels"] = torch.tensor(labels)
        return enc


def evaluate(model, loader):
    model.eval()
    right, total, loss = 0, 0, 0.0
    with torch.no_grad():
        for batch in loader:
            out = model(**batch)
            right += (out.logits.argmax(-1) == batch["labels"]).sum().item()
            total += batch["labels"].size(0)
            loss += out.loss.item() * batch["labels"].size(0)
    return loss / total, right / total


if __name__ == "__main__":
    set_seed(666)
    path = "models/small-bert"
    tokenizer = BertTokenizer.from_pretrained(path)
    model = BertForSequenceClassification.from_pretrained(path, num_labels=2)
    collator = Collator(tokenizer, 48)
    train_loader = DataLoader(MyDataset("data/train.csv", 900), batch_size=16, shuffle=True, collate_fn=collator)
    dev_loader = DataLoader(MyDataset("data/valid.csv"), batch_size=64, collate_fn=collator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=1e-2)
    scheduler = get_linear_schedule_with_warmup(optimizer, 6, len(train_loader))
    fgm = FGM(model)
    for step, batch in enumerate(train_loader, start=1):
        model.train()
        loss = model(**batch).loss
        loss.backward()
        fgm.attack()
        loss_adv = model(**batch).loss
        loss_adv.backward()
        fgm.restore()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % 14 == 0:
            dev_loss, dev_acc = evaluate(model, dev_loader)
            print(f"step {step}/{len(train_loader)} loss {loss.item():.4f} adv {loss_adv.item():.4f} "
                  f"dev loss {dev_loss:.4f} dev acc {dev_acc:.4f}")
