"""The factor of a loss and the class it rewards follow from its gradient, whatever kind of cross-entropy it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tenor.checks import Watchdog
from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.loss_families import read_losses
from tenor.checks.loss_gradients import ForwardPass
from tenor.checks.probes.probe import probe
from tenor.checks.rules import los_function, los_training

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
PARTS = 4


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """A few rows are slower on two threads."""
    torch.set_num_threads(1)


def weights_of(logits: torch.Tensor, *weights: float) -> torch.Tensor:
    return torch.tensor((weights * logits.shape[1])[: logits.shape[1]])


def weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, weight=weights_of(logits, 0.3, 2.0, 1.0))


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def focal(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    nats = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-nats)) ** gamma * nats).mean()


def weighted_and_smoothed(largest: float) -> Loss:
    return lambda logits, labels: F.cross_entropy(
        logits, labels, weight=weights_of(logits, 1.0, largest), label_smoothing=0.1
    )


def weighted_over_rows(*weights: float) -> Loss:
    return lambda logits, labels: (
        weights_of(logits, *weights)[labels] * F.cross_entropy(logits, labels, reduction="none")
    ).mean()


def passes(loss: Loss, k: int = 2, spread: float = 1.0, scale: float = 1.0, seed: int = 0) -> list[ForwardPass]:
    """Eight passes of 16 rows, of which 70% have class 0."""
    generator, made = torch.Generator().manual_seed(seed), []
    frequencies = torch.tensor([0.7, *[0.3 / (k - 1)] * (k - 1)])
    for number in range(8):
        logits = (spread * torch.randn(16, k, generator=generator)).requires_grad_()
        labels = torch.multinomial(frequencies, 16, replacement=True, generator=generator)
        gradient = torch.autograd.grad(scale * loss(logits, labels), logits)[0]
        made.append(ForwardPass(number // PARTS, logits.detach(), gradient))
    return made


def factor(made: list[ForwardPass]) -> float:
    """Of one step of four passes."""
    return float(np.median(read_losses(made, PARTS).factors)) * PARTS


@pytest.mark.parametrize("loss", [F.cross_entropy, weighted, smoothed, focal], ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("scale", "expected"), [(1 / PARTS, 1.0), (1.0, PARTS), (1 / PARTS**2, 1 / PARTS)])
def test_the_factor_of_every_usual_loss_is_read(loss: Loss, k: int, scale: float, expected: float) -> None:
    for spread in (0.3, 2.0):
        assert factor(passes(loss, k, spread, scale)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.3])
def test_any_exponent_of_a_focal_loss_is_determined(gamma: float) -> None:
    made = passes(lambda logits, labels: focal(logits, labels, gamma), 3, scale=1.0)
    assert factor(made) == pytest.approx(PARTS, rel=0.01)


def test_class_weights_with_little_smoothing_reward_the_right_class() -> None:
    reading = read_losses(passes(weighted_and_smoothed(3.0), scale=1.0), PARTS)
    assert reading.rewarded == -1
    assert np.nanmedian(reading.factors) * PARTS == pytest.approx(PARTS, rel=0.01)


@pytest.mark.parametrize(("weights", "expected"), [((1.0, 4.0), 1.0), ((0.5, 1.5), 1.0)])
def test_weights_on_a_usual_scale_are_told_from_a_missing_division(weights: Any, expected: float) -> None:
    """Where both readings are usual, none is chosen: no false alarm."""
    divided, undivided = (factor(passes(weighted_over_rows(*weights), scale=scale)) for scale in (1 / PARTS, 1.0))
    assert np.isnan(divided) or divided == pytest.approx(expected)
    assert np.isnan(undivided) or undivided == pytest.approx(PARTS * expected)


@pytest.mark.parametrize("weights", [(2.3, 7.1), (0.25, 0.75), (2.0, 6.0)])
def test_weights_on_another_scale_never_look_like_a_double_division(weights: Any) -> None:
    for scale in (1 / PARTS, 1.0):
        assert not factor(passes(weighted_over_rows(*weights), scale=scale)) < 0.75


def test_a_loss_of_another_kind_has_no_factor() -> None:
    def other(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return ((1 - logits.softmax(dim=1).gather(1, labels[:, None]) ** 0.7) / 0.7).mean()

    for loss in (other, F.multi_margin_loss):
        assert np.isnan(factor(passes(loss, spread=0.3)))


def test_a_zero_head_does_not_hide_a_focal_loss_behind_a_division() -> None:
    """With all probabilities equal, a focal loss looks like a cross-entropy that is divided by 1.7."""
    made = passes(focal, spread=1e-5, scale=1 / PARTS)
    assert np.isnan(factor(made))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("largest", "wrong"), [(3.0, False), (12.0, False), (25.0, True), (35.0, True), (80.0, True)])
def test_a_wrong_class_that_is_rewarded_is_recognized(k: int, largest: float, wrong: bool) -> None:
    wrong = wrong and (k == 2 or largest > 30)
    reading = read_losses(passes(weighted_and_smoothed(largest), k), PARTS)
    assert (reading.rewarded == 1) == wrong
    evidence = probe(nn.Linear(3, k), weighted_and_smoothed(largest), [], k, seconds=0)
    found = los_function.loss_is_inverted(evidence)
    assert bool(found) == wrong
    if found and largest < 50:
        assert "class 1" in found.observed
        assert "label_smoothing" in found.fix


@pytest.mark.parametrize("loss", [F.cross_entropy, weighted, smoothed, focal], ids=lambda loss: loss.__name__)
def test_other_losses_reward_the_right_class(loss: Loss) -> None:
    assert read_losses(passes(loss), PARTS).rewarded == -1
    assert probe(nn.Linear(3, 2), loss, [], 2, seconds=0).rewarded_instead == ()


def test_targets_that_differ_from_row_to_row_are_no_wrong_reward() -> None:
    """Mixup, or a teacher's probabilities."""

    def mixed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        share = torch.linspace(0.55, 0.95, len(labels))
        return (share * F.cross_entropy(logits, labels, reduction="none")).mean() + (
            (1 - share) * F.cross_entropy(logits, 1 - labels, reduction="none")
        ).mean()

    assert read_losses(passes(mixed), PARTS).rewarded is None


def test_a_wrong_reward_is_an_error_of_both_stages() -> None:
    steps = StepEvidence(np.arange(3), np.ones(3), rewarded_for_several=1)
    assert "class 1" in los_training.rewards_a_wrong_class(steps).observed
    assert los_training.rewards_a_wrong_class(StepEvidence(np.arange(3), np.ones(3), rewarded_for_several=-1)) is None
    healthy = ProbeEvidence(2, loss_when_right=0.1, loss_when_inverted=9.0)
    assert los_function.loss_is_inverted(healthy) is None


@pytest.mark.parametrize("loss", [weighted, smoothed, focal], ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("divided", [True, False])
def test_accumulation_is_judged_with_every_loss(loss: Loss, divided: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watchdog = Watchdog(model, optimizer, n_classes=2, policy="warn")
    for _ in range(20):
        for _ in range(PARTS):
            features = torch.randn(16, 8)
            value = loss(model(features), (features[:, 0] > 0.5).long())
            (value / PARTS if divided else value).backward()
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(value)
    codes = {finding.code for finding in watchdog.report.findings}
    assert codes == (set() if divided else {"OPT022"})
    assert "OPT022" in watchdog.report.checked
