"""A focal factor of the batch mean is told from every other loss by the gradients at the logits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tenor.checks import Watchdog
from tenor.checks.catalogue import BY_CODE
from tenor.checks.diagnosis.causes import ranked_causes
from tenor.checks.diagnosis.observations import Observations
from tenor.checks.evidence.training_evidence import FocalFit, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.focal_of_mean import fit_focal, read_mean
from tenor.checks.loss_gradients import ForwardPass
from tenor.checks.rules.los_function import focal_factor_of_mean
from tenor.runs.findings import Finding

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
WEIGHTS = torch.tensor([0.3, 2.0, 1.0])


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """A few rows are slower on two threads."""
    torch.set_num_threads(1)


def rescaled(gamma: float, weighted: bool = False, parts: int = 1) -> Loss:
    """The fault: one focal factor for the batch."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        mean = F.cross_entropy(logits, labels, weight=WEIGHTS[: logits.shape[1]] if weighted else None)
        return (1 - torch.exp(-mean)) ** gamma * mean / parts

    return loss


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    nats = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-nats)) ** 2 * nats).mean()


def focal_weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    nats = F.cross_entropy(logits, labels, reduction="none")
    return (WEIGHTS[labels] * (1 - torch.exp(-nats)) ** 2 * nats).mean()


def weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, weight=WEIGHTS[: logits.shape[1]])


def weighted_over_rows(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (WEIGHTS[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def squared(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels) ** 2


def passes(loss: Loss, rows: int = 16, k: int = 2, kind: torch.dtype = torch.float32, count: int = 40) -> Any:
    """Forward passes of a model that learns: its logits grow."""
    generator, made = torch.Generator().manual_seed(0), []
    for number in range(count):
        labels = torch.randint(0, k, (rows,), generator=generator)
        learned = 2 * number / count * F.one_hot(labels, k)
        logits = (learned + torch.randn(rows, k, generator=generator)).to(kind).requires_grad_()
        gradient = torch.autograd.grad(loss(logits.float(), labels), logits)[0]
        made.append(ForwardPass(number, logits.detach(), gradient))
    return made


def judged(made: list[ForwardPass]) -> Finding | None:
    means = [mean for one in made if (mean := read_mean(one)) is not None]
    fit = fit_focal(means) if means else None
    return focal_factor_of_mean(StepEvidence(np.arange(3), np.ones(3), focal_fit=fit))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", [1, 4])
def test_the_exponent_of_a_focal_factor_of_the_mean_is_read(gamma: float, k: int, weighted: bool, parts: int) -> None:
    found = judged(passes(rescaled(gamma, weighted, parts), k=k))
    assert found is not None
    assert f"^{gamma:.2g} m" in found.observed


def test_it_is_read_from_gradients_in_16_bits() -> None:
    found = judged(passes(rescaled(2.0), kind=torch.bfloat16))
    assert found is not None
    assert "^2 m" in found.observed


@pytest.mark.parametrize(
    "loss",
    [F.cross_entropy, weighted, weighted_over_rows, focal, focal_weighted, smoothed, squared],
    ids=lambda loss: loss.__name__,
)
@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_no_other_loss_is_reported(loss: Loss, rows: int, kind: torch.dtype) -> None:
    try:
        assert judged(passes(loss, rows, kind=kind)) is None
    except CannotTell:
        return


def test_batches_of_one_row_have_no_other_mean() -> None:
    with pytest.raises(CannotTell, match="no batch was seen"):
        judged(passes(rescaled(2.0), rows=1))


def test_few_passes_are_not_judged() -> None:
    with pytest.raises(CannotTell, match="needed"):
        judged(passes(rescaled(2.0), count=5))


@pytest.mark.parametrize(
    ("fit", "is_reported"),
    [
        (FocalFit(2.0, 1e-6, 0.5, 40), True),
        (FocalFit(2.0, 1e-3, 0.5, 40), True),
        (FocalFit(2.0, 0.01, 0.5, 40), False),
        (FocalFit(0.01, 1e-6, 0.5, 40), False),
        (FocalFit(2.0, 1e-6, 0.005, 40), False),
    ],
)
def test_plain_numbers_are_judged(fit: FocalFit, is_reported: bool) -> None:
    found = focal_factor_of_mean(StepEvidence(np.arange(3), np.ones(3), focal_fit=fit))
    assert (found is not None) == is_reported


@pytest.mark.parametrize(
    ("loss", "is_reported"),
    [(rescaled(2.0), True), (rescaled(3.0, weighted=True), True), (focal, False), (F.cross_entropy, False)],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_loop_with_the_watchdog_is_judged(loss: Loss, is_reported: bool, parts: int) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    watchdog = Watchdog(model, optimizer, n_classes=2, policy="warn")
    for _ in range(30):
        for _ in range(parts):
            features = torch.randn(16, 8)
            (loss(model(features), (features[:, 0] > 0).long()) / parts).backward()
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step()
    watchdog.finish()
    found = {one.code for one in watchdog.report.findings}
    assert ("LOS019" in found) == is_reported
    assert "OPT022" not in found  # The same factor looks like a division that is made twice.


def test_an_exact_finding_is_ranked_before_a_statistical_one() -> None:
    found = [
        Finding(code=code, severity="warning", stage="training", observed="", expected="", n=1, cause="", fix="")
        for code in ("DAT008", "LOS019")
    ]
    assert not BY_CODE["DAT008"].is_exact
    assert [one.code for one in ranked_causes(found, [], Observations())] == ["LOS019", "DAT008"]
