import pandas as pd
import torch
from sklearn.metrics import classification_report
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

path = "models/small-bert"
epochs = 2
batch_size = 16
torch.manual_seed(2020)

train_df = pd.read_csv("data/train.csv").sample(640, random_state=1)
val_df = pd.read_csv("data/valid.csv").sample(200, random_state=1)
tokenizer = AutoTokenizer.from_pretrained(path)


def to_loader(df, shuffle):
    enc = tokenizer(df.text.tolist(), padding="max_length", max_length=40, truncation=True, return_attention_mask=True,
                    return_tensors="pt")
    return DataLoader(TensorDataset(enc["input_ids"], enc["attention_mask"], torch.tensor(df.label.values)),
                      batch_size=batch_size, shuffle=shuffle)


train_loader, val_loader = to_loader(train_df, True), to_loader(val_df, False)

config = BertConfig.from_pretrained(path)
config.num_labels = 2
config.hidden_dropout_prob = 0.2
model = BertForSequenceClassification(config)

optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, eps=1e-8)
scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(train_loader) * epochs)

for epoch in range(1, epochs + 1):
    model.train()
    loss_sum = 0
    for ids, mask, labels in tqdm(train_loader, desc=f"Epoch {epoch}", disable=True):
        model.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels)[0]
        loss_sum += loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    model.eval()
    preds = []
    for ids, mask, labels in val_loader:
        with torch.no_grad():
            preds += model(input_ids=ids, attention_mask=mask)[0].argmax(1).tolist()
    print(f"Epoch {epoch}: training loss {loss_sum / len(train_loader):.4f}")
    print(classification_report(val_df.label, preds, digits=3, zero_division=0))
