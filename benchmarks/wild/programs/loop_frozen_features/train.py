import pandas as pd
import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset
from transformers import BertModel, BertTokenizerFast

torch.manual_seed(1)
device = torch.device("cpu")


class ReviewDataset(Dataset):
    def __init__(self, csv_file, tokenizer, max_len=48):
        df = pd.read_csv(csv_file, nrows=1500)
        self.enc = tokenizer(df["text"].tolist(), padding="max_length", truncation=True, max_length=max_len, return_tensors="pt")
        self.y = torch.tensor(df["label"].values)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, idx):
        return {k: v[idx] for k, v in self.enc.items()}, self.y[idx]


class TransferModel(nn.Module):
    def __init__(self, bert_path, n_classes=2):
        super().__init__()
        self.bert = BertModel.from_pretrained(bert_path)
        # Freeze the pre-trained part, train the classifier only
        for param in self.bert.parameters():
            param.require_grad = False
        self.classifier = nn.Sequential(
            nn.Linear(self.bert.config.hidden_size, 128),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(128, n_classes),
        )

    def forward(self, x):
        return self.classifier(self.bert(**x).pooler_output)


tokenizer = BertTokenizerFast.from_pretrained("models/small-bert")
train_loader = DataLoader(ReviewDataset("data/train.csv", tokenizer), batch_size=32, shuffle=True)
valid_loader = DataLoader(ReviewDataset("data/valid.csv", tokenizer), batch_size=64)

model = TransferModel("models/small-bert").to(device)
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=0.001)

for epoch in range(1):
    model.train()
    running_loss = 0.0
    for i, (x, y) in enumerate(train_loader):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if i % 10 == 9:
            print("[%d, %3d] loss: %.3f" % (epoch + 1, i + 1, running_loss / 10))
            running_loss = 0.0
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in valid_loader:
            correct += (model(x).argmax(1) == y).sum().item()
    print("validation accuracy: %.2f%%" % (100.0 * correct / len(valid_loader.dataset)))
