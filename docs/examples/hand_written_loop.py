"""Tenor's checks in a training loop of your own: preflight before it, watchdog within it."""

import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tenor.checks import Watchdog, preflight
from tenor.checks.finding import summary_line
from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews

folder = embedded_encoder_folder()  # any folder or hub id of a `transformers` encoder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, attention_probs_dropout_prob=0.0)

reviews = embedded_reviews().train
rows = torch.randperm(len(reviews), generator=torch.Generator().manual_seed(0))[:160].tolist()
texts, labels = reviews.texts, reviews.labels


def collate(batch: list[int]) -> dict[str, torch.Tensor]:
    encoded = tokenizer([texts[i] for i in batch], truncation=True, max_length=32, padding=True, return_tensors="pt")
    return {**encoded, "labels": torch.tensor([int(labels[i]) for i in batch])}


loader = DataLoader(rows, batch_size=16, shuffle=True, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

report = preflight(model=model, train_loader=loader, optimizer=optimizer, seconds=5.0)
print(summary_line(report))
if report.errors:
    raise SystemExit("\n".join(f"{finding.code} {finding.observed}: {finding.fix}" for finding in report.errors))

watchdog = Watchdog(model, optimizer, clip_at=1.0)
model.train()
for batch in loader:
    batch_labels = batch.pop("labels")
    loss = torch.nn.functional.cross_entropy(model(**batch).logits, batch_labels)
    loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    watchdog.step(loss, grad_norm=grad_norm)

print(summary_line(watchdog.report))
