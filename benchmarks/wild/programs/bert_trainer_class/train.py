import pandas as pd
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModel, AutoTokenizer


class SentenceDataset(Dataset):
    def __init__(self, path, tokenizer, seq_len):
        frame = pd.read_csv(path)
        self.texts, self.labels = frame["text"].tolist(), frame["label"].tolist()
        self.tokenizer, self.seq_len = tokenizer, seq_len

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, item):
        enc = self.tokenizer(self.texts[item], max_length=self.seq_len, truncation=True, padding="max_length")
        return {
            "bert_input": torch.tensor(enc["input_ids"]),
            "bert_mask": torch.tensor(enc["attention_mask"]),
            "bert_label": torch.tensor(self.labels[item]),
        }


class SentimentBERT(nn.Module):
    def __init__(self, path):
        super().__init__()
        self.bert = AutoModel.from_pretrained(path)
        self.linear = nn.Linear(self.bert.config.hidden_size, 2)
        self.softmax = nn.LogSoftmax(dim=-1)

    def forward(self, x, mask):
        x = self.bert(x, attention_mask=mask).last_hidden_state
        return self.softmax(self.linear(x[:, 0]))


class BERTTrainer:
    def __init__(self, model, train_loader, test_loader, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01, log_freq=25):
        self.model = model
        self.train_data, self.test_data = train_loader, test_loader
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=lr, betas=betas, weight_decay=weight_decay)
        self.criterion = nn.NLLLoss(ignore_index=0)
        self.log_freq = log_freq

    def train(self, epoch):
        self.model.train()
        self.iteration(epoch, self.train_data)

    def test(self, epoch):
        self.model.eval()
        with torch.no_grad():
            self.iteration(epoch, self.test_data, train=False)

    def iteration(self, epoch, loader, train=True):
        name = "train" if train else "test"
        total_loss, total_correct, total = 0.0, 0, 0
        for i, data in enumerate(loader):
            output = self.model(data["bert_input"], data["bert_mask"])
            loss = self.criterion(output, data["bert_label"])
            if train:
                self.optim.zero_grad()
                loss.backward()
                self.optim.step()
            total_loss += loss.item()
            total_correct += output.argmax(dim=-1).eq(data["bert_label"]).sum().item()
            total += len(output)
            if train and i % self.log_freq == 0:
                print({"epoch": epoch, "iter": i, "avg_loss": round(total_loss / (i + 1), 4),
                       "avg_acc": round(100 * total_correct / total, 2), "loss": round(loss.item(), 5)})
        print(f"EP{epoch}_{name}, avg_loss={total_loss / len(loader):.4f} total_acc={100 * total_correct / total:.2f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
    train_loader = DataLoader(SentenceDataset("data/train.csv", tokenizer, 40), batch_size=16, shuffle=True)
    test_loader = DataLoader(SentenceDataset("data/valid.csv", tokenizer, 40), batch_size=50)
    trainer = BERTTrainer(SentimentBERT("models/small-bert"), train_loader, test_loader)
    trainer.train(0)
    trainer.test(0)
