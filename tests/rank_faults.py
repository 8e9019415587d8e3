"""A program for one of two processes: hand-written distributed loops, each with a fault or none, and what the watchdog
of process 0 reports; the codes are written to FOLDER/codes.json."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from tenor.checks import Watchdog

WATCHED = {"DST001", "DST002", "DST008"}
ROWS = 96


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.classifier = nn.Linear(8, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.tanh(self.body(features)))


def dataset() -> TensorDataset:
    features = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(1))
    return TensorDataset(features, (features[:, 0] > 0).long())


def divided(rows: TensorDataset) -> DataLoader:
    return DataLoader(rows, batch_size=4, sampler=DistributedSampler(rows, shuffle=True, seed=0))


def not_divided(rows: TensorDataset) -> DataLoader:
    return DataLoader(rows, batch_size=4, shuffle=True)


def divided_by_more(rows: TensorDataset) -> DataLoader:
    return DataLoader(rows, batch_size=4, sampler=DistributedSampler(rows, num_replicas=4, seed=0))


def codes_of(
    loader_of: Callable[[TensorDataset], DataLoader] = divided,
    wrap: Callable[[nn.Module], Any] = DistributedDataParallel,
    call: Callable[[Any], Any] = lambda wrapped: wrapped,
    after_wrapping: Callable[[Classifier], None] = lambda model: None,
    averages: Callable[[Any], Any] = lambda wrapped: nullcontext(),
    watched_by: Callable[[int], bool] = lambda rank: True,
) -> dict[str, str]:
    """Train one epoch; the findings of process 0 by code."""
    torch.manual_seed(0)
    model = Classifier()
    wrapped = wrap(model)
    after_wrapping(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = loader_of(dataset())
    watchdog = (
        Watchdog(model, optimizer, loader=loader, policy="warn", every=4) if watched_by(dist.get_rank()) else None
    )
    for features, labels in loader:
        with averages(wrapped):
            loss = nn.functional.cross_entropy(call(wrapped)(features), labels)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if watchdog is not None:
            watchdog.step(loss)
    dist.barrier()
    if watchdog is None:
        return {}
    watchdog.finish()
    return {finding.code: finding.severity for finding in watchdog.report.findings if finding.code in WATCHED}


def unequal_head(model: Classifier) -> None:
    torch.manual_seed(dist.get_rank())
    model.classifier.reset_parameters()


CASES: dict[str, dict[str, Any]] = {
    "healthy": {},
    "the wrapper is bypassed": {"call": lambda wrapped: wrapped.module},
    "not wrapped": {"wrap": lambda model: model},
    "no pass is averaged": {"averages": lambda wrapped: wrapped.no_sync()},
    "a head initialized after wrapping": {"after_wrapping": unequal_head},
    "every process reads all rows": {"loader_of": not_divided},
    "divided by a wrong number of processes": {"loader_of": divided_by_more},
    "a watchdog in process 0 only": {"watched_by": lambda rank: rank == 0, "call": lambda wrapped: wrapped.module},
}


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    codes = {name: codes_of(**case) for name, case in CASES.items()}
    if dist.get_rank() == 0:
        (folder / "codes.json").write_text(json.dumps(codes))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
