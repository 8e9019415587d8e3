"""Checkpoints: each fault is reported, and unknown facts are not judged."""

import pytest

from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import ckp

LOG = (ValidationPoint(10, 0.8), ValidationPoint(20, 0.9), ValidationPoint(30, 0.9))
NOT_A_NUMBER = ValidationPoint(40, float("nan"))
LOSSES = (ValidationPoint(10, 0.8), ValidationPoint(20, 0.3), ValidationPoint(30, 0.3))
SOUND = CheckpointEvidence(
    validations=LOG,
    metric="accuracy",
    chosen_step=20,
    evaluated_step=20,
    chosen_digest="aa",
    evaluated_digest="aa",
    path="checkpoints/step-000020",
    path_recorded=True,
    exists=True,
    metrics_recorded=True,
    status="completed",
)
RULES = (
    ckp.selected_is_not_best,
    ckp.evaluated_is_not_selected,
    ckp.checkpoint_missing,
    ckp.metrics_not_recorded,
    ckp.success_without_result,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_correct_checkpoint_passes_and_an_unknown_one_is_not_judged(rule: Rule) -> None:
    assert rule(SOUND) is None
    with pytest.raises(CannotTell):
        rule(CheckpointEvidence())


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOG, metric="accuracy", chosen_step=10)),
        (
            ckp.selected_is_not_best,
            CheckpointEvidence(validations=(*LOG, NOT_A_NUMBER), metric="macro_f1", chosen_step=40),
        ),
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOSSES, metric="eval_loss", chosen_step=10)),
        (ckp.selected_is_not_best, CheckpointEvidence((*LOSSES, NOT_A_NUMBER), "loss", chosen_step=40)),
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOG, larger_is_better=True, chosen_step=10)),
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOG, larger_is_better=False, chosen_step=20)),
        (ckp.evaluated_is_not_selected, CheckpointEvidence(chosen_digest="aa", evaluated_digest="bb", chosen_step=1)),
        (ckp.evaluated_is_not_selected, CheckpointEvidence(chosen_step=10, evaluated_step=20)),
        (ckp.checkpoint_missing, CheckpointEvidence(path=None, path_recorded=True)),
        (ckp.checkpoint_missing, CheckpointEvidence(path="gone", path_recorded=True, exists=False)),
        (ckp.metrics_not_recorded, CheckpointEvidence(metrics_recorded=False)),
        (ckp.success_without_result, CheckpointEvidence(status="ok", path_recorded=True)),
        (ckp.success_without_result, CheckpointEvidence(status="Completed", metrics_recorded=False)),
    ],
)
def test_checkpoint_faults_are_reported(rule: Rule, fault: CheckpointEvidence) -> None:
    assert rule(fault) is not None
    assert rule.severity == "error"


@pytest.mark.parametrize(
    ("rule", "fine"),
    [
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOG, metric="acc", chosen_step=30)),  # a tie
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOSSES, metric="val_loss", chosen_step=30)),
        (ckp.selected_is_not_best, CheckpointEvidence(validations=LOSSES, larger_is_better=False, chosen_step=20)),
        (ckp.success_without_result, CheckpointEvidence(status="failed", path_recorded=True, metrics_recorded=False)),
    ],
)
def test_checkpoint_look_alikes_pass(rule: Rule, fine: CheckpointEvidence) -> None:
    assert rule(fine) is None


def test_step_outside_the_log_is_not_judged() -> None:
    with pytest.raises(CannotTell):
        ckp.selected_is_not_best(CheckpointEvidence(validations=LOG, metric="accuracy", chosen_step=99))


@pytest.mark.parametrize("metric", [None, "regret", "score"])
def test_a_selection_is_not_judged_if_the_direction_is_unknown(metric: str | None) -> None:
    with pytest.raises(CannotTell, match=r"whether a larger or smaller .* is better is not known"):
        ckp.selected_is_not_best(CheckpointEvidence(validations=LOG, metric=metric, chosen_step=10))
