"""A distributed training loop of your own, with a watchdog in every process:

torchrun --nproc-per-node 2 torchrun_loop.py
"""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tenor.checks import Watchdog
from tenor.checks.finding import summary_line
from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews

dist.init_process_group("gloo")  # "nccl" on GPUs
torch.manual_seed(0)

folder = embedded_encoder_folder()  # any folder or hub id of a `transformers` encoder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
ddp = DistributedDataParallel(model)

reviews = embedded_reviews().train
rows = torch.randperm(len(reviews), generator=torch.Generator().manual_seed(0))[:160].tolist()


def collate(batch: list[int]) -> dict[str, torch.Tensor]:
    texts = [reviews.texts[i] for i in batch]
    encoded = tokenizer(texts, truncation=True, max_length=32, padding=True, return_tensors="pt")
    return {**encoded, "labels": torch.tensor([int(reviews.labels[i]) for i in batch])}


sampler = DistributedSampler(rows, shuffle=True, seed=0)
loader = DataLoader(rows, batch_size=8, sampler=sampler, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

watchdog = Watchdog(model, optimizer, loader=loader, clip_at=1.0, every=5)
ddp.train()
for epoch in range(2):
    sampler.set_epoch(epoch)
    for batch in loader:
        labels = batch.pop("labels")
        loss = torch.nn.functional.cross_entropy(ddp(**batch).logits, labels)
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(loss, grad_norm=grad_norm)

dist.barrier()  # Every process has written what the others compare.
watchdog.finish()
if dist.get_rank() == 0:
    print(summary_line(watchdog.report))
dist.destroy_process_group()
