"""Numbers that hide: losses of 0 for NaN, losses that only an evaluation shows, rows that are left out of a mean."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tenor.checks import Watchdog, diagnose
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.rules.los_finite import loss_is_nan
from tenor.errors import RefusedError

NAN = math.nan


def folder(path: Path, log: list[dict[str, Any]]) -> Path:
    steps = max(record["step"] for record in log)
    content = {"log_history": log, "global_step": steps, "max_steps": steps, "best_metric": None}
    (path / "trainer_state.json").write_text(json.dumps(content))
    return path


def train(step: int, loss: Any, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": loss, "learning_rate": 1e-5, **more}


def evaluation(step: int, loss: Any) -> dict[str, Any]:
    return {"step": step, "eval_loss": loss, "eval_accuracy": 0.8}


HIDDEN = {
    "0 with a gradient of NaN": [train(5, 0.7, grad_norm=1.0), train(10, 0.0, grad_norm=NAN)],
    "0 in between": [train(5, 0.7, grad_norm=1.0), train(10, 0.0, grad_norm=NAN), train(15, 0.6, grad_norm=1.0)],
    "0 from the first record": [train(5, 0.0), train(10, 0.0), evaluation(10, 0.7)],
    "0 in the only record": [train(500, 0.0), evaluation(600, 0.7)],
    "0 as the mean, with no record": [evaluation(40, 0.7), {"step": 40, "train_loss": 0.0}],
    "NaN in an evaluation, with no record": [evaluation(20, NAN), evaluation(40, 0.6)],
    "NaN in an evaluation": [train(5, 0.7), evaluation(20, NAN), train(25, 0.6), evaluation(40, 0.6)],
    "NaN as text": [train(5, "nan", grad_norm="nan"), train(10, "nan", grad_norm="nan")],
}
SOUND = {
    "a fall to 0": [train(5 * k, max(0.0, 0.6 - 0.1 * k)) for k in range(1, 8)],
    "numbers as text": [train(5, "0.7", grad_norm="1.2"), train(10, "0.65", grad_norm="1.1"), evaluation(10, "0.6")],
    "a mean, with no record": [evaluation(40, 0.5), {"step": 40, "train_loss": 0.4}],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_loss_that_is_hidden_is_found_in_a_folder(name: str, tmp_path: Path) -> None:
    codes = {finding.code for finding in diagnose(folder(tmp_path, HIDDEN[name])).findings}
    assert codes & {"LOS007", "EVL018"}


@pytest.mark.parametrize("name", SOUND)
def test_finite_losses_are_not_reported(name: str, tmp_path: Path) -> None:
    codes = {finding.code for finding in diagnose(folder(tmp_path, SOUND[name])).findings}
    assert not codes & {"LOS007", "EVL018"}


def test_a_mean_loss_of_exactly_0_is_an_error_and_any_other_is_not() -> None:
    empty = np.zeros(0)
    assert loss_is_nan(StepEvidence(empty, empty, mean_loss=0.4)) is None
    finding = loss_is_nan(StepEvidence(empty, empty, mean_loss=0.0))
    assert finding is not None
    assert "logging_nan_inf_filter" in finding.cause


class Scaled(nn.Module):
    """A classifier that divides by the sum of its input, which is 0 for an empty text."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(4, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(features / features.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("empty", [0, 3])
def test_evaluated_rows_that_are_not_finite_are_counted(empty: int) -> None:
    model = Scaled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watchdog = Watchdog(model, optimizer, n_classes=2)
    nn.functional.cross_entropy(model(torch.rand(6, 4) + 0.1), torch.arange(6) % 2).backward()
    optimizer.step()
    watchdog.step(0.7)
    rows = torch.rand(20, 4) + 0.1
    rows[:empty] = 0.0
    model.eval()
    with torch.no_grad():
        model(rows)
    if not empty:
        watchdog.validation()
        assert "PRC006" in watchdog.report.checked
        return
    with pytest.raises(RefusedError, match=r"PRC006.*: 3 of 20 evaluated rows"):
        watchdog.validation()
