"""Rules on the order of a loop's calls."""

from dataclasses import replace

import pytest

from tenor.checks.evidence.training_evidence import LoopEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules.call_order import (
    clipped_after_the_step,
    gradients_discarded,
    plateau_in_the_wrong_direction,
    same_order_in_every_epoch,
    scheduler_not_called_once_per_step,
    state_loaded_into_itself,
    trained_without_dropout,
    weights_replaced_by_evaluation,
)

SOUND = LoopEvidence(
    steps=100,
    passes=400,
    clips=100,
    schedule_calls=100,
    schedule_total=100,
    epochs=2,
    plateau_mode="max",
    plateau_measures="accuracy",
    plateau_values=(0.7, 0.8),
    steps_without_dropout=0,
    evaluations=3,
    epochs_in_same_order=1,
    is_shuffled=True,
)
FAULTS = (
    (gradients_discarded, {"passes_discarded": 300}),
    (clipped_after_the_step, {"clips_after_step": 100}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 400}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 2}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 400, "schedule_total": None, "steps_at_rate_zero": 75}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 0, "schedule_rise": 1.0, "has_ended": True}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 0, "schedule_rise": 4.0, "has_ended": True, "epochs": 1}),
    (gradients_discarded, {"steps": 0, "steps_without_gradient": 100, "passes_discarded": 400}),
    (plateau_in_the_wrong_direction, {"plateau_mode": "min"}),
    (plateau_in_the_wrong_direction, {"plateau_measures": "loss"}),
    (weights_replaced_by_evaluation, {"weights_replaced_at": (15, 30, 45)}),
    (trained_without_dropout, {"steps_without_dropout": 50, "first_without_dropout": 51, "without_dropout": ("drop",)}),
    (same_order_in_every_epoch, {"epochs_in_same_order": 2}),
    (state_loaded_into_itself, {"loads_of_itself": 1}),
)
LOOK_ALIKES = (
    (gradients_discarded, {"passes_discarded": 12}),  # Incomplete accumulations, skipped steps.
    (clipped_after_the_step, {"clips": 0}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 2, "schedule_total": 2}),  # A schedule made for epochs.
    (scheduler_not_called_once_per_step, {"schedule_calls": 2, "schedule_total": None}),
    (scheduler_not_called_once_per_step, {"passes": 100}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 400, "schedule_total": 400}),  # Made for all passes.
    (scheduler_not_called_once_per_step, {"schedule_calls": 400, "schedule_total": None}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 400, "schedule_total": None, "steps_at_rate_zero": 1}),
    (scheduler_not_called_once_per_step, {"schedule_calls": 0, "schedule_rise": 4.0}),  # It has not ended yet.
    (scheduler_not_called_once_per_step, {"schedule_calls": 0, "has_ended": True}),  # A constant schedule.
    (
        scheduler_not_called_once_per_step,  # One epoch of a schedule for epochs.
        {"schedule_calls": 0, "schedule_rise": 1.0, "schedule_total": 10, "has_ended": True, "epochs": 1},
    ),
    (plateau_in_the_wrong_direction, {"plateau_mode": "min", "plateau_measures": "loss"}),
    (weights_replaced_by_evaluation, {"weights_replaced_at": (15,)}),  # Returned once to an earlier state.
    (trained_without_dropout, {"steps_without_dropout": 3, "first_without_dropout": 1}),
    (same_order_in_every_epoch, {"epochs_in_same_order": 2, "is_shuffled": False}),
)
UNKNOWN = (
    (gradients_discarded, {"passes": None}),
    (gradients_discarded, {"steps": 2}),
    (clipped_after_the_step, {"clips": None}),
    (scheduler_not_called_once_per_step, {"schedule_calls": None}),
    (plateau_in_the_wrong_direction, {"plateau_measures": None}),
    (weights_replaced_by_evaluation, {"evaluations": 1}),
    (trained_without_dropout, {"steps_without_dropout": None}),
    (same_order_in_every_epoch, {"epochs_in_same_order": None}),
)


@pytest.mark.parametrize(("rule", "fault"), FAULTS)
def test_a_fault_is_found_and_its_healthy_twin_is_not(rule: Rule, fault: dict[str, object]) -> None:
    assert rule(SOUND) is None
    found = rule(replace(SOUND, **fault))  # type: ignore[arg-type]
    assert found is not None
    assert found.n > 0


@pytest.mark.parametrize(("rule", "case"), LOOK_ALIKES)
def test_look_alikes_pass(rule: Rule, case: dict[str, object]) -> None:
    assert rule(replace(SOUND, **case)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "case"), UNKNOWN)
def test_nothing_is_said_where_nothing_is_known(rule: Rule, case: dict[str, object]) -> None:
    with pytest.raises(CannotTell):
        rule(replace(SOUND, **case))  # type: ignore[arg-type]
