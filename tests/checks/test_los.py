"""Rules on the loss."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import los_finite, los_function, los_training
from tenor.checks.rules import los_function as los_experiments

HEALTHY = ProbeEvidence(
    2,
    initial_loss=0.72,
    n_examples=32,
    loss_when_right=5e-5,
    loss_when_uniform=0.693,
    loss_when_inverted=10.0,
    mean_of_loss=1.0,
    loss_gradient=0.5,
    rows_sum_to_one=False,
    overfit_errors=0,
    overfit_examples=20,
    overfit_loss=(0.72, 0.01),
    overfit_responds=(0.01, 0.69),
    random_labels_loss=0.75,
    real_labels_loss=0.55,
    deep_examples=200,
    trainable_share=1.0,
)
SQUASHED = {"loss_when_right": 0.313, "loss_when_inverted": 1.313}
SMOOTHED = {"loss_when_right": 0.5, "loss_when_inverted": 9.5}
FAMILIES = (los_function, los_experiments, los_training, los_finite)
RULES = [rule for family in FAMILIES for rule in vars(family).values() if isinstance(rule, Rule)]


def severity(rule: Rule, evidence: Any) -> str | None:
    seen = rule(evidence)
    return None if seen is None else seen.severity or rule.severity


@pytest.mark.parametrize(
    ("rule", "change", "expected"),
    [
        *((rule, {}, None) for rule in RULES if rule.needs == (ProbeEvidence,)),
        (los_function.initial_loss_too_high, {"initial_loss": 1.5}, "note"),
        (los_function.initial_loss_too_high, {"initial_loss": 22.0}, "warning"),
        (los_function.initial_loss_too_high, {"initial_loss": 0.1}, None),
        (los_function.initial_loss_too_high, {"initial_loss": 3.1, "n_classes": 20}, None),
        (los_function.softmax_before_loss, {"rows_sum_to_one": True}, "error"),
        (los_function.softmax_before_loss, SQUASHED, "error"),
        (los_function.softmax_before_loss, SMOOTHED, None),
        (los_function.loss_is_inverted, {"loss_when_right": 10.0, "loss_when_inverted": 5e-5}, "error"),
        (los_function.loss_is_inverted, {"loss_when_right": -10.0, "loss_when_inverted": 10.0}, None),
        (los_function.loss_does_not_reward, {"loss_when_right": 0.693, "loss_when_inverted": 0.693}, "error"),
        (los_function.loss_does_not_reward, {"loss_gradient": 0.0}, "error"),
        (los_function.loss_does_not_reward, SMOOTHED, None),
        (los_function.loss_does_not_reward, {**SMOOTHED, "loss_when_right": 1.0}, None),
        (los_function.loss_sums, {"mean_of_loss": 2.0}, "warning"),
        (los_experiments.cannot_overfit, {"overfit_errors": 10, "overfit_loss": (0.7, 0.69)}, "error"),
        (los_experiments.cannot_overfit, {"overfit_errors": 7, "overfit_loss": (0.7, 0.5)}, "warning"),
        (
            los_experiments.cannot_overfit,
            {"overfit_errors": 7, "overfit_loss": (0.7, 0.5), "trainable_share": 0.01},
            None,
        ),
        (los_experiments.cannot_overfit, {"overfit_errors": 0, "overfit_loss": (0.02, 0.019)}, None),
        (los_experiments.learning_ignores_text, {"overfit_responds": (0.69, 0.69)}, "warning"),
        (los_experiments.random_labels_learned_as_fast, {"real_labels_loss": 0.75}, "warning"),
    ],
)
def test_loss_rules_before_training(rule: Rule, change: dict[str, Any], expected: str | None) -> None:
    assert severity(rule, replace(HEALTHY, **change)) == expected


N = 60


def record(loss: np.ndarray, **more: Any) -> StepEvidence:
    return StepEvidence(10 * np.arange(1, len(loss) + 1), loss, 2, **more)


def noise(scale: float, seed: int = 0, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, n)


FALLING = np.geomspace(0.69, 0.1, N) + noise(0.02)
FLAT = 0.693 + noise(0.01)


@pytest.mark.parametrize(
    ("rule", "evidence", "expected"),
    [
        (los_training.loss_is_flat, record(FALLING), None),
        (los_training.loss_is_flat, record(FLAT), "warning"),
        (los_training.loss_is_flat, record(FLAT, total_steps=800), "error"),
        (los_training.loss_is_flat, record(np.linspace(0.69, 0.66, N) + noise(0.01)), None),  # A frozen base, slowly.
        (los_training.loss_is_flat, record(0.1 + noise(0.01)), None),
        (los_training.loss_is_flat, record(0.199 + noise(0.004), label_counts=np.tile([95, 5], (N, 1))), "warning"),
        (los_finite.loss_is_nan, record(FALLING, grad_norm=np.ones(N)), None),
        (los_finite.loss_is_nan, record(np.r_[FALLING, np.nan]), "error"),
        (los_finite.loss_is_nan, record(FALLING, grad_norm=np.r_[np.inf, np.ones(N - 1)]), "error"),
        (
            los_finite.loss_is_nan,
            record(FALLING, grad_norm=np.r_[np.inf, np.ones(N - 1)], skipped_steps=np.r_[1, np.zeros(N - 1)]),
            None,
        ),
        (los_training.loss_diverges, record(FALLING), None),
        (los_training.loss_diverges, record(FLAT), None),
        (los_training.loss_diverges, record(np.r_[FALLING, np.full(20, 3.0)]), "error"),
        (los_training.loss_diverges, record(np.r_[FALLING, 0.7 + noise(0.01, n=20)]), "warning"),
        (los_training.loss_diverges, record(np.r_[FALLING, 5.0, FALLING[-20:]]), None),
    ],
)
def test_loss_rules_during_training(rule: Rule, evidence: StepEvidence, expected: str | None) -> None:
    assert severity(rule, evidence) == expected


@pytest.mark.parametrize("seed", range(10))
def test_no_false_alarm_for_any_seed(seed: int) -> None:
    noisy = record(np.geomspace(0.7, 0.15, 200) * np.exp(noise(0.4, seed, 200)), total_steps=2000)
    assert los_training.loss_diverges(noisy) is None
    with pytest.raises(CannotTell):
        los_training.loss_is_flat(record(0.693 + noise(0.3, seed)))


@pytest.mark.parametrize(
    ("predicted", "labels", "total", "expected"),
    [
        ([16, 16], [16, 16], 800, None),
        ([32, 0], [16, 16], 800, "error"),
        ([32, 0], [16, 16], 1500, "warning"),
        ([32, 0], [31, 1], 800, None),
        ([30, 2], [16, 16], 800, None),
    ],
)
def test_collapse_of_training_predictions_is_reported(
    predicted: list[int], labels: list[int], total: int, expected: str | None
) -> None:
    evidence = record(
        FLAT, total_steps=total, predicted_counts=np.tile(predicted, (N, 1)), label_counts=np.tile(labels, (N, 1))
    )
    assert severity(los_training.predictions_collapse, evidence) == expected


def test_early_collapse_is_not_judged() -> None:
    ones = np.tile([32, 0], (N, 1))
    evidence = record(FLAT, total_steps=100_000, predicted_counts=ones, label_counts=np.tile([16, 16], (N, 1)))
    with pytest.raises(CannotTell):
        los_training.predictions_collapse(evidence)


@pytest.mark.parametrize("rule", [los_training.loss_is_flat, los_training.predictions_collapse])
def test_a_newly_initialized_encoder_is_judged_late(rule: Rule) -> None:
    ones, labels = np.tile([32, 0], (N, 1)), np.tile([16, 16], (N, 1))
    evidence = record(FLAT, total_steps=800, predicted_counts=ones, label_counts=labels)
    last = int(evidence.steps.max())
    fresh = {"body_newly_initialized": True, "predicted_counts": ones, "label_counts": labels}
    assert severity(rule, record(FLAT, total_steps=last, **fresh)) == "error"
    with pytest.raises(CannotTell, match="newly initialized"):
        rule(record(FLAT, total_steps=last + last // 5, **fresh))
    assert severity(rule, evidence) == "error"
