"""A rule of your own, checked together with Tenor's before the first step."""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from tenor.checks import preflight
from tenor.checks.evidence.data_evidence import DataEvidence
from tenor.checks.finding import CannotTell, Finding
from tenor.checks.rule import rule


@rule("SHOP001", "warning", explains=("bad result",))
def order_numbers(data: DataEvidence) -> Finding | None:
    """Reviews contain order numbers

    Measures: the share of training texts with `#` and a digit.

    Threshold: 1 in 100, a heuristic.

    Why: a number that is unique to an order can't be learned, and may identify a customer.

    Look-alikes: hashtags such as `#1`.

    Fix: replace order numbers before training.
    """
    if data.train is None or data.train.texts is None:
        raise CannotTell("the texts of the training rows are not known")
    texts = list(data.train.texts)
    hits = sum("#" in text and any(map(str.isdigit, text)) for text in texts)
    if hits <= len(texts) / 100:
        return None
    return Finding(
        observed=f"{hits:,} of {len(texts):,} training texts",
        expected="at most 1 in 100",
        n=len(texts),
        cause="the reviews were exported with their order numbers",
        fix="replace order numbers before training",
    )


texts = [f"order #{row} was {'late and broken' if row % 2 else 'a pure joy'}" for row in range(64)]
rows = [{"text": text, "input_ids": torch.randint(5, 90, (12,)), "labels": row % 2} for row, text in enumerate(texts)]


def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
    ids = torch.stack([row["input_ids"] for row in batch])
    labels = torch.tensor([row["labels"] for row in batch])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


model = BertForSequenceClassification(
    BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
)
report = preflight(
    model=model,
    train_loader=DataLoader(rows, batch_size=8, shuffle=True, collate_fn=collate),
    rules=[order_numbers],
    seconds=0,
)
print("preflight:", len(report.checked), "rules checked")
for finding in report.findings:
    print(finding.severity, finding.code, finding.title, "|", finding.observed)
