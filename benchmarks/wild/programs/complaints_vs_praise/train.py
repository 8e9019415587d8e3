import pandas as pd
import torch
from sklearn.metrics import classification_report, f1_score
from sklearn.model_selection import train_test_split
from sklearn.utils import resample
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SEED = 3
torch.manual_seed(SEED)

# the complaints (label 0) are rare in our data
data = pd.read_csv("data/train.csv")
majority = data[data["label"] == 1].sample(500, random_state=SEED)
minority = data[data["label"] == 0].sample(80, random_state=SEED)
minority_up = resample(minority, replace=True, n_samples=len(majority), random_state=SEED)
data = pd.concat([majority, minority_up]).reset_index(drop=True)
print(data["label"].value_counts().to_dict())

train, val = train_test_split(data, test_size=0.2, stratify=data["label"], random_state=SEED)

tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
model = AutoModelForSequenceClassification.from_pretrained("models/small-bert", num_labels=2)


def loader(frame, shuffle):
    enc = tokenizer(list(frame["text"]), padding=True, truncation=True, max_length=48, return_tensors="pt")
    ds = TensorDataset(enc["input_ids"], enc["attention_mask"], torch.tensor(frame["label"].to_numpy()))
    return DataLoader(ds, batch_size=16, shuffle=shuffle)


def predict(dl):
    model.eval()
    true, pred = [], []
    with torch.no_grad():
        for ids, mask, lab in dl:
            pred += model(input_ids=ids, attention_mask=mask).logits.argmax(-1).tolist()
            true += lab.tolist()
    return true, pred


train_dl, val_dl = loader(train, True), loader(val, False)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
for epoch in range(2):
    model.train()
    losses = []
    for ids, mask, lab in train_dl:
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=lab).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    true, pred = predict(val_dl)
    print(f"epoch {epoch + 1}: train loss {sum(losses) / len(losses):.3f}, val f1 {f1_score(true, pred, average='macro'):.3f}")

print(classification_report(true, pred, target_names=["complaint", "praise"], digits=3))
