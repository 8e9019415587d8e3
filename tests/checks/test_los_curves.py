"""The course of a run: flat for any number of classes, overfitting, a rate that still rises, an early end."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenor.checks.catalogue import run_rules
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.training_evidence import MaskedLossEvidence, StepEvidence, ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import ckp, evl_claims, los_curves, los_training, opt_schedule

N = 60


def severity(rule: Rule, evidence: Any) -> str | None:
    seen = rule(evidence)
    return None if seen is None else seen.severity or rule.severity


def noise(scale: float, seed: int = 0, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, n)


def record(loss: np.ndarray, every: int = 10, **more: Any) -> StepEvidence:
    return StepEvidence(every * np.arange(1, len(loss) + 1), np.asarray(loss, dtype=float), **more)


# Flat.


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (record(0.6931 + noise(0.01)), "warning"),  # The number of classes is not known.
        (record(1.0986 + noise(0.01)), "warning"),
        (record(1.35 + noise(0.01)), "warning"),
        (record(0.6931 + noise(0.01), n_classes=3, total_steps=600), "warning"),  # At ln 2, although K is 3.
        (record(1.0986 + noise(0.01), n_classes=3, total_steps=600), "error"),
        (record(np.full(N, 0.6931)), "warning"),  # As a filter or a rounded log shows it.
        (record(np.linspace(0.7, 0.3, N) + noise(0.01)), None),
        (record(np.r_[np.linspace(1.2, 0.8, 10), 0.8 + noise(0.01)]), None),  # It fell, and is flat since.
        (record(0.3 + noise(0.005)), None),  # Trained further from a good model.
        (record(0.6931 + noise(0.004, n=12), every=50), "warning"),
        (record(np.array([0.6932, 0.6935, 0.6931, 0.6933, 0.6932, 0.6931]), every=1, epochs=6.0), "warning"),
        # A significant fall of 1e-7 per epoch, as Keras records it at a rate of 1e-9; and that of a frozen base.
        (record(0.6931 - 1e-7 * np.arange(12), every=1, epochs=12.0), "warning"),
        (record(0.6931 - 1e-4 * np.arange(N)), None),
        (record(np.array([0.69, 0.6, 0.5, 0.45, 0.4, 0.36]), every=1, epochs=6.0), None),
    ],
)
def test_a_loss_is_flat_for_any_number_of_classes(evidence: StepEvidence, expected: str | None) -> None:
    assert severity(los_training.loss_is_flat, evidence) == expected


def test_the_number_of_classes_that_a_flat_loss_shows_is_named() -> None:
    found = los_training.loss_is_flat(record(0.6931 + noise(0.01), n_classes=3))
    assert found is not None
    assert "ln 2" in found.observed
    assert "although there are 3 classes" in found.observed


@pytest.mark.parametrize("evidence", [record(0.69 + noise(0.01, n=6), every=1), record(0.69 + noise(0.01, n=12))])
def test_few_records_are_not_called_flat(evidence: StepEvidence) -> None:
    with pytest.raises(CannotTell, match="are needed"):
        los_training.loss_is_flat(evidence)


@pytest.mark.parametrize("seed", range(20))
def test_a_slow_or_noisy_run_is_not_called_flat(seed: int) -> None:
    for loss in (
        np.geomspace(0.7, 0.5, 200) + noise(0.05, seed, 200),
        np.geomspace(1.6, 1.1, 40) + noise(0.05, seed, 40),
    ):
        try:
            assert los_training.loss_is_flat(record(loss)) is None
        except CannotTell:
            continue


# Overfitting.


def validations(*values: float) -> tuple[ValidationPoint, ...]:
    return tuple(ValidationPoint(100 * (k + 1), value) for k, value in enumerate(values))


LEARNING = np.geomspace(0.7, 0.02, N)


@pytest.mark.parametrize(
    ("values", "more", "expected"),
    [
        ((0.4, 0.3, 0.31, 0.45, 0.6, 0.8), {}, "warning"),
        ((0.4, 0.3, 0.31, 0.45, 0.6, 0.8), {"keeps_best": True}, "note"),
        ((0.4, 0.3, 0.29, 0.3, 0.31, 0.33), {}, "note"),  # The last epoch of a usual fine-tuning.
        ((0.4, 0.3, 0.29, 0.3, 0.31, 0.305), {}, None),
        ((0.4, 0.35, 0.3, 0.29, 0.28, 0.27), {}, None),
        ((0.4, 0.3, float("nan"), 0.45, 0.6, 0.8), {}, "warning"),
    ],
)
def test_overfitting_is_reported_by_its_extent(
    values: tuple[float, ...], more: dict[str, Any], expected: str | None
) -> None:
    evidence = record(LEARNING, validation_loss=validations(*values), **more)
    assert severity(los_curves.overfits, evidence) == expected


def test_the_noise_of_a_validation_is_no_overfitting() -> None:
    """A loss of single small batches, whose lowest value is chance; and the same noise around a course that rises."""
    batches = np.exp(noise(0.5, n=30))
    flat, rising = 0.05 * batches, np.r_[np.full(10, 0.2), np.geomspace(0.2, 4, 20)] * batches
    for course, expected in ((flat, None), (rising, "warning")):
        evidence = record(LEARNING, validation_loss=tuple(ValidationPoint(20 * k, v) for k, v in enumerate(course, 1)))
        assert severity(los_curves.overfits, evidence) == expected
    assert flat[-3:].min() > 1.1 * flat.min()


def test_a_training_loss_above_that_of_no_knowledge_is_no_overfitting() -> None:
    validations = tuple(ValidationPoint(100 * k, value) for k, value in enumerate((0.9, 0.7, 0.9, 1.2), start=1))
    falling = record(np.linspace(2.5, 1.0, 40), validation_loss=validations)
    assert severity(los_curves.overfits, falling) == "warning"
    assert severity(los_curves.overfits, replace(falling, n_classes=2)) is None


def test_a_training_loss_that_rises_too_is_no_overfitting() -> None:
    evidence = record(np.linspace(0.3, 2.0, N), validation_loss=validations(0.4, 0.3, 0.5, 0.8, 1.2, 2.0))
    assert los_curves.overfits(evidence) is None


def test_overfitting_in_a_history_by_epochs_is_reported() -> None:
    """As Keras records it: one value of each per epoch."""
    points = tuple(ValidationPoint(k, 0.8 + 0.08 * max(0, k - 3)) for k in range(1, 31))
    evidence = record(np.geomspace(0.9, 0.01, 30), every=1, validation_loss=points, epochs=30.0)
    found = los_curves.overfits(evidence)
    assert found is not None
    assert "step 1" in found.observed or "step 3" in found.observed
    assert los_training.loss_diverges(evidence) is None


# The rate, the end, the evaluation.

RISING = np.linspace(1e-6, 2e-5, N)
TRAPEZOID = np.concatenate([np.linspace(1e-6, 2e-5, 6), np.linspace(2e-5, 0, N - 6)])


@pytest.mark.parametrize(
    ("rates", "more", "expected"),
    [
        (RISING, {"total_steps": 600}, "warning"),
        (RISING, {"ended": True}, "note"),
        (TRAPEZOID, {"total_steps": 600}, None),
        (np.full(N, 2e-5), {"total_steps": 600}, None),
        (np.minimum(RISING, 1e-5), {"total_steps": 600}, None),  # A warm-up of half the run, then constant.
        (RISING[::-1], {"ended": True}, None),
    ],
)
def test_a_rate_that_still_rises_at_the_end_is_reported(
    rates: np.ndarray, more: dict[str, Any], expected: str | None
) -> None:
    evidence = record(LEARNING, learning_rate=rates, **more)
    assert severity(opt_schedule.rate_still_rises_at_the_end, evidence) == expected


@pytest.mark.parametrize("more", [{}, {"total_steps": 6000}, {"total_steps": 6000, "ended": True}])
def test_a_warm_up_in_progress_is_not_judged(more: dict[str, Any]) -> None:
    with pytest.raises(CannotTell):
        opt_schedule.rate_still_rises_at_the_end(record(LEARNING, learning_rate=RISING, **more))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"total_steps": 600}, None),
        ({"total_steps": 610}, None),
        ({"total_steps": 2000}, "warning"),
        ({"total_steps": 2000, "last_step": 2000}, None),  # Its last records were logged earlier.
        ({"total_steps": 2000, "stopped_because": "EarlyStoppingCallback"}, None),
    ],
)
def test_a_run_that_ended_before_its_plan_is_reported(more: dict[str, Any], expected: str | None) -> None:
    evidence = record(LEARNING, ended=True, **more)
    assert severity(opt_schedule.ended_before_its_plan, evidence) == expected
    with pytest.raises(CannotTell):
        opt_schedule.ended_before_its_plan(replace(evidence, ended=False))


@pytest.mark.parametrize(("evaluated", "expected"), [(False, "warning"), (True, None)])
def test_a_run_without_an_evaluation_is_reported(evaluated: bool, expected: str | None) -> None:
    evidence = record(LEARNING, ended=True, has_evaluation=evaluated, epochs=3.0)
    assert severity(evl_claims.never_evaluated, evidence) == expected


def test_an_evaluation_is_not_expected_before_the_first_epoch_is_complete() -> None:
    with pytest.raises(CannotTell, match="first epoch"):
        evl_claims.never_evaluated(record(LEARNING, ended=True, has_evaluation=False, epochs=0.4, total_steps=6000))


def test_records_during_training_never_show_how_a_run_ended() -> None:
    """The watchdog's evidence: the same records, but the run goes on."""
    evidence = record(LEARNING, n_classes=2, total_steps=6000, learning_rate=RISING)
    assert not run_rules([evidence], "training").findings


@pytest.mark.parametrize(
    ("chosen", "metric", "expected"),
    [(100, "eval_loss", "note"), (300, "eval_loss", None), (200, "eval_loss", None)],
)
def test_a_choice_by_loss_that_costs_accuracy_is_a_note(chosen: int, metric: str, expected: str | None) -> None:
    accuracy = validations(0.88, 0.902, 0.905)
    evidence = CheckpointEvidence(
        validations(0.3, 0.31, 0.35),
        metric,
        chosen_step=chosen,
        other_metrics={"eval_accuracy": accuracy, "eval_regret": validations(0.1, 0.5, 0.9)},
    )
    assert severity(ckp.other_metric_peaks_elsewhere, evidence) == expected


def test_a_choice_by_accuracy_is_not_judged_by_the_loss() -> None:
    evidence = CheckpointEvidence(
        validations(0.88, 0.92), "eval_accuracy", chosen_step=200, other_metrics={"eval_loss": validations(0.3, 0.5)}
    )
    with pytest.raises(CannotTell, match="not selected by a loss"):
        ckp.other_metric_peaks_elsewhere(evidence)


# The size of the training loss.

VALIDATED = tuple(ValidationPoint(step, value) for step, value in ((200, 0.45), (400, 0.38), (600, 0.34)))
FALLING = np.linspace(0.7, 0.25, N) + noise(0.01)


@pytest.mark.parametrize(
    ("factor", "n_classes", "expected"),
    [
        (1, 2, None),
        (1.4, 2, None),  # Dropout, label smoothing.
        (2.6, 2, "warning"),
        (16, 2, "warning"),
        (8, 5, "warning"),
        (8, None, "warning"),
        (2.6, None, None),  # ln 5 = 1.61 would be a usual start.
        (0.5, 2, None),
    ],
)
def test_a_training_loss_that_is_a_multiple_is_reported(
    factor: float, n_classes: int | None, expected: str | None
) -> None:
    evidence = record(factor * FALLING, n_classes=n_classes, validation_loss=VALIDATED)
    assert severity(los_curves.training_loss_of_another_size, evidence) == expected


def test_a_validation_loss_of_the_same_size_or_a_rise_passes() -> None:
    """A regularized loss on both; a divergence."""
    both = tuple(replace(point, value=8 * point.value) for point in VALIDATED)
    assert los_curves.training_loss_of_another_size(record(8 * FALLING, n_classes=2, validation_loss=both)) is None
    rising = record(8 * FALLING[::-1], n_classes=2, validation_loss=VALIDATED)
    assert los_curves.training_loss_of_another_size(rising) is None


ASTRAY = np.r_[21.0, 38.0, 11.7, 6.9, 5.8, 7.1, 4.8, 4.3, 4.0]
"""Of a rate that is far too large."""


@pytest.mark.parametrize(
    ("loss", "n_classes", "held_out"),
    [
        (ASTRAY, 2, (11.0, 0.96, 0.89)),
        (ASTRAY, 2, (0.98, 0.96, 0.89)),  # It rose to twice its start.
        (ASTRAY[2:], 2, (11.0, 0.96, 0.89)),
        (ASTRAY[2:], None, (3.6, 0.5, 0.2)),  # Not a constant multiple.
    ],
)
def test_losses_of_a_diverged_training_are_no_multiple(
    loss: np.ndarray, n_classes: int | None, held_out: tuple[float, ...]
) -> None:
    points = tuple(ValidationPoint(step, value) for step, value in zip((30, 60, 90), held_out, strict=True))
    evidence = record(loss, n_classes=n_classes, validation_loss=points)
    assert los_curves.training_loss_of_another_size(evidence) is None


def test_without_validations_a_high_start_is_a_note() -> None:
    assert severity(los_curves.training_loss_of_another_size, record(8 * FALLING, n_classes=2)) == "note"
    assert los_curves.training_loss_of_another_size(record(FALLING, n_classes=2)) is None
    with pytest.raises(CannotTell, match="number of classes"):
        los_curves.training_loss_of_another_size(record(8 * FALLING))


# Masked tokens.


@pytest.mark.parametrize(
    ("loss", "expected"), [(10.3, "warning"), (6.6, "warning"), (6.599, None), (4.6, None), (0.01, None)]
)
def test_a_masked_loss_at_or_above_the_unigram_entropy_is_a_warning(loss: float, expected: str | None) -> None:
    assert severity(los_curves.masked_loss_above_unigrams, MaskedLossEvidence(loss, 14_000, 6.6, 200, 10.8)) == expected


def test_few_masked_tokens_are_not_judged() -> None:
    with pytest.raises(CannotTell, match="999 masked tokens"):
        los_curves.masked_loss_above_unigrams(MaskedLossEvidence(8.0, 999, 6.6, 200))
