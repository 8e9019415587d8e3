import pandas as pd
import torch as th
from sklearn.metrics import accuracy_score, precision_score, recall_score
from torch.utils.data import DataLoader, TensorDataset
from tqdm import trange
from transformers import AutoModel, AutoTokenizer


class BinaryHead(th.nn.Module):
    def __init__(self, path, n_hiddens=100):
        super().__init__()
        self.text = AutoModel.from_pretrained(path)
        self.dense = th.nn.Sequential(
            th.nn.Linear(self.text.config.hidden_size, n_hiddens),
            th.nn.ReLU(),
            th.nn.Linear(n_hiddens, 1),
        )

    def forward(self, ids, mask):
        h = self.text(input_ids=ids, attention_mask=mask).last_hidden_state
        mask = mask.unsqueeze(2)
        return self.dense((h * mask).sum(1) / mask.sum(1)).squeeze(1)


def load(tokenizer, name, shuffle=False):
    df = pd.read_csv(f"data/{name}.csv")
    enc = tokenizer(df["text"].tolist(), padding=True, truncation=True, max_length=48, return_tensors="pt")
    ds = TensorDataset(enc["input_ids"], enc["attention_mask"], th.tensor(df["label"].values, dtype=th.float32))
    return DataLoader(ds, batch_size=16, shuffle=shuffle)


def train(model, loader, lr, epochs):
    opt = th.optim.Adam(model.parameters(), lr=lr)
    criterion = th.nn.BCEWithLogitsLoss()
    model.train()
    for _ in trange(epochs):
        output, labels, losses = [], [], []
        for ids, mask, y in loader:
            opt.zero_grad()
            out = model(ids, mask)
            loss = criterion(out, y)
            loss.backward()
            opt.step()
            output.append(out.detach())
            labels.append(y)
            losses.append(loss.item())
        acc = th.where(th.cat(output) > .5, 1.0, 0.0).eq(th.cat(labels)).float().mean()
        print(f"loss {sum(losses) / len(losses):.4f} acc {acc.item():.4f}")


def test(model, loader):
    model.eval()
    pred, true = [], []
    with th.no_grad():
        for ids, mask, y in loader:
            pred += (model(ids, mask) > .5).long().tolist()
            true += y.long().tolist()
    print(f"accuracy {accuracy_score(true, pred):.4f} precision {precision_score(true, pred):.4f} recall {recall_score(true, pred):.4f}")


if __name__ == "__main__":
    th.manual_seed(4)
    tokenizer = AutoTokenizer.from_pretrained("models/small-bert")
    model = BinaryHead("models/small-bert")
    train(model, load(tokenizer, "train", True), lr=1e-4, epochs=1)
    test(model, load(tokenizer, "valid"))
