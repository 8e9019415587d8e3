"""What `transformers.Trainer` records of a whole training: rows, steps, the mean loss, and the checkpoints it kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import number, read_any_json
from tenor.checks.evidence.training_evidence import StepEvidence

RESULTS = ("train_results.json", "all_results.json")
CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")


@dataclass(frozen=True)
class Totals:
    """The totals of a training, as far as they are recorded."""

    steps: int | None = None
    loss: float | None = None
    """The mean over all steps, nats."""
    rows: int | None = None
    """Training rows."""
    kept: tuple[int, ...] | None = None
    """Steps of the checkpoints in the folder; None if there is none."""

    def as_steps(self, n_classes: int | None) -> StepEvidence | None:
        """One record at the last step, of a training that logged no other; None without steps or loss."""
        if not self.steps or self.loss is None:
            return None
        steps, loss = np.array([self.steps], dtype=np.int64), np.array([self.loss], dtype=np.float64)
        return StepEvidence(steps=steps, loss=loss, n_classes=n_classes)


def totals_of(state: Mapping[str, Any], folder: Path, loss: float | None) -> Totals:
    """From the state and the results at the end; `loss` is the mean. Raises UserError for a file that is not JSON."""
    results = [read_any_json(folder / name) for name in RESULTS if (folder / name).is_file()]
    records = [one for one in results if isinstance(one, Mapping)]
    rows = next((value for one in records if (value := number(one.get("train_samples"))) is not None), None)
    steps = number(state.get("global_step"))
    kept = sorted(int(match[1]) for one in folder.glob("checkpoint-*") if (match := CHECKPOINT.fullmatch(one.name)))
    return Totals(
        steps=int(steps) if steps else None,
        loss=loss,
        rows=int(rows) if rows is not None else None,
        kept=tuple(kept) or None,
    )
