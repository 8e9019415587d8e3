"""Rules on the optimizer: its groups, its schedule, its steps."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import GroupRow, OptimizerEvidence, ScheduleEvidence, StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import opt_groups, opt_schedule, opt_steps

BODY = ("bert.layer.0.attention.query.weight", "bert.layer.0.attention.query.bias")
HEAD = ("classifier.weight", "classifier.bias")
ALL = (*BODY, *HEAD)


def severity(rule: Rule, evidence: Any) -> str | None:
    seen = rule(evidence)
    return None if seen is None else seen.severity or rule.severity


def optimizer(
    *groups: GroupRow, trainable: tuple[str, ...] = ALL, kind: str = "AdamW", body_newly_initialized: bool | None = None
) -> OptimizerEvidence:
    flat = frozenset(name for name in ALL if name.endswith("bias"))
    return OptimizerEvidence(groups, frozenset(trainable), frozenset(HEAD), flat, kind, body_newly_initialized)


def group(names: tuple[str, ...] = ALL, rate: float = 5e-5, decay: float = 0.0, foreign: int = 0) -> GroupRow:
    return GroupRow(names, foreign, rate, decay)


@pytest.mark.parametrize(
    ("rule", "evidence", "expected"),
    [
        (opt_groups.missing_from_optimizer, optimizer(group()), None),
        (opt_groups.missing_from_optimizer, optimizer(group(HEAD)), "error"),
        (opt_groups.missing_from_optimizer, optimizer(group(HEAD), trainable=HEAD), None),
        (opt_groups.head_missing_from_optimizer, optimizer(group()), None),
        (opt_groups.head_missing_from_optimizer, optimizer(group(BODY)), "error"),
        (opt_groups.twice_in_optimizer, optimizer(group(BODY), group(HEAD)), None),
        (opt_groups.twice_in_optimizer, optimizer(group((*BODY, BODY[0])), group(HEAD)), "error"),
        (opt_groups.foreign_parameters, optimizer(group()), None),
        (opt_groups.foreign_parameters, optimizer(group((), foreign=4)), "error"),
        (opt_groups.foreign_parameters, optimizer(group(foreign=1)), "note"),
        (opt_groups.rate_is_zero, optimizer(group()), None),
        (opt_groups.rate_is_zero, optimizer(group(rate=0.0)), "error"),
        (opt_groups.rate_is_zero, optimizer(group(BODY, 0.0), group(HEAD)), "warning"),
        (opt_groups.rate_is_small, optimizer(group()), None),
        (opt_groups.rate_is_small, optimizer(group(rate=5e-7)), "note"),
        (opt_groups.rate_is_small, optimizer(group(rate=1e-9)), "warning"),
        (opt_groups.rate_is_small, optimizer(group(BODY, 1e-7), group(HEAD)), None),
        (opt_groups.rate_is_small, optimizer(group(rate=5e-5), kind="SGD"), "note"),
        (opt_groups.rate_is_small, optimizer(group(rate=1e-2), kind="SGD"), None),
        (opt_groups.rate_is_large, optimizer(group()), None),
        (opt_groups.rate_is_large, optimizer(group(rate=5e-4)), "note"),
        (opt_groups.rate_is_large, optimizer(group(rate=1e-2)), "warning"),
        (opt_groups.rate_is_large, optimizer(group(HEAD, 1e-2), trainable=HEAD), None),
        (opt_groups.rate_is_large, optimizer(group(rate=1e-2), body_newly_initialized=True), None),
        (opt_groups.rate_is_large, optimizer(group(rate=1e-2), kind="SGD"), None),
        (opt_groups.decay_on_norms, optimizer(group()), None),
        (opt_groups.decay_on_norms, optimizer(group(decay=0.01)), "note"),
    ],
)
def test_optimizer_group_rules(rule: Rule, evidence: OptimizerEvidence, expected: str | None) -> None:
    assert severity(rule, evidence) == expected


def linear(steps: int = 100, warmup: int = 6, total: int | None = None) -> np.ndarray:
    """Warm-up from 0, then linear to 0 at `total`."""
    total, at = total or steps, np.arange(steps)
    return np.clip(np.minimum(at / max(1, warmup) if warmup else 1.0, (total - at) / (total - warmup)), 0, None)


def plan(factors: np.ndarray, **more: Any) -> ScheduleEvidence:
    return ScheduleEvidence(factors, more.pop("steps_per_epoch", 50), len(factors) / 50, **more)


PER_EPOCH = np.repeat([0.0, 0.1, 0.2, 0.3], 50)


@pytest.mark.parametrize(
    ("rule", "evidence", "expected"),
    [
        *((opt_schedule.schedule_ends_early, plan(f), None) for f in (linear(), np.ones(100), linear(warmup=0))),
        (opt_schedule.schedule_ends_early, plan(linear(total=90)), "warning"),
        (opt_schedule.schedule_ends_early, plan(linear(total=50)), "error"),
        (opt_schedule.schedule_ends_early, plan(np.zeros(100)), "error"),
        (opt_schedule.warmup_differs, plan(linear(), declared_warmup_steps=6), None),
        (opt_schedule.warmup_differs, plan(np.ones(100)), None),
        (opt_schedule.warmup_differs, plan(linear(warmup=0), declared_warmup_steps=6), "warning"),
        (opt_schedule.warmup_differs, plan(linear(warmup=30), declared_warmup_steps=6), "warning"),
        (opt_schedule.warmup_differs, plan(linear(warmup=80)), "warning"),
        (opt_schedule.scheduler_stepped_at_wrong_points, plan(linear(), accumulation=4), None),
        (opt_schedule.scheduler_stepped_at_wrong_points, plan(linear(total=25), accumulation=4), "error"),
        (opt_schedule.scheduler_stepped_at_wrong_points, plan(PER_EPOCH), "error"),
        (opt_schedule.scheduler_stepped_at_wrong_points, plan(PER_EPOCH + 0.1, declared_warmup_steps=12), "error"),
        (opt_schedule.scheduler_stepped_at_wrong_points, plan(np.repeat([1.0, 0.1, 0.01], 50)), None),
        (opt_schedule.accumulation_beyond_epoch, plan(linear(), batches_per_epoch=8, accumulation=8), None),
        (opt_schedule.accumulation_beyond_epoch, plan(linear(), batches_per_epoch=8, accumulation=9), "warning"),
        (opt_schedule.tail_dropped, plan(linear(), batches_per_epoch=201, accumulation=4), "note"),
        (opt_schedule.tail_dropped, plan(linear(), batches_per_epoch=7, accumulation=4, steps_per_epoch=1), "warning"),
        (opt_schedule.tail_dropped, plan(linear(), batches_per_epoch=199, accumulation=4), None),
        (opt_schedule.tail_dropped, plan(linear(), batches_per_epoch=200, accumulation=4), None),
    ],
)
def test_schedule_rules(rule: Rule, evidence: ScheduleEvidence, expected: str | None) -> None:
    assert severity(rule, evidence) == expected


N = 40
ONE_STEP_AHEAD = np.interp(np.arange(N) + 0.1, np.arange(N), linear(N) * 5e-5)
HEALTHY = StepEvidence(
    np.arange(10, 401, 10),
    np.linspace(0.69, 0.2, N),
    grad_norm=np.full(N, 4.0),
    clip_at=1.0,
    learning_rate=linear(N) * 5e-5,
    planned_rate=linear(N) * 5e-5,
    update_ratio=np.full(N, 1e-4),
    gradient_kept=False,
    unchanged_trainable=(),
    without_gradient=(),
    clipped_before_unscale=False,
    backward_ratio=1.05,
    parts_per_step=4,
)


@pytest.mark.parametrize(
    ("rule", "change", "expected"),
    [
        *(
            (rule, {}, None)
            for rule in vars(opt_steps).values()
            if isinstance(rule, Rule) and rule.needs == (StepEvidence,)
        ),
        (opt_steps.gradients_not_cleared, {"gradient_kept": True}, "error"),
        (opt_steps.always_clipped, {"grad_norm": np.full(N, 40.0)}, "note"),
        (opt_steps.always_clipped, {"grad_norm": np.full(N, 4000.0)}, "warning"),
        (opt_steps.clipped_before_unscaling, {"clipped_before_unscale": True}, "error"),
        (opt_steps.updates_small, {"update_ratio": np.full(N, 1e-9)}, "warning"),
        (opt_steps.updates_small, {"update_ratio": linear(N) * 1e-4}, None),
        (opt_steps.updates_large, {"update_ratio": np.full(N, 0.5)}, "warning"),
        (opt_steps.rate_off_plan, {"learning_rate": ONE_STEP_AHEAD}, None),
        (opt_steps.rate_off_plan, {"learning_rate": np.full(N, 5e-5)}, "error"),
        (opt_steps.rate_off_plan, {"learning_rate": linear(N) * 4.0e-5}, "error"),
        (opt_steps.no_gradient_at_steps, {"without_gradient": ("bert.layer.weight",)}, "error"),
        (
            opt_steps.no_gradient_at_steps,
            {"without_gradient": ("bert.layer.weight",), "share_without_gradient": 0.1},
            "warning",
        ),
        (opt_steps.no_gradient_at_steps, {"without_gradient": ("bert.pooler.dense.weight",)}, "note"),
        (opt_steps.never_moved, {"unchanged_trainable": ("classifier.weight",)}, "error"),
        (opt_steps.never_moved, {"unchanged_trainable": ("bert.pooler.dense.weight",)}, "note"),
        (opt_steps.accumulation_not_scaled, {"backward_ratio": 4.0}, "warning"),
        (opt_steps.accumulation_not_scaled, {"backward_ratio": 0.25}, "warning"),
        (opt_steps.accumulation_not_scaled, {"backward_ratio": 4.0, "parts_per_step": 1}, None),
    ],
)
def test_optimizer_step_rules(rule: Rule, change: dict[str, Any], expected: str | None) -> None:
    assert severity(rule, replace(HEALTHY, **change)) == expected


@pytest.mark.parametrize(
    ("without", "zero", "expected"),
    [
        ((), (), None),
        (("bert.layer.0.query.weight",), (), "error"),
        (("bert.pooler.dense.weight",), (), "note"),
        ((), ("bert.layer.0.query.weight",), "warning"),
        ((), ("bert.layer.0.key.bias",), None),
    ],
)
def test_gradients_must_reach_all_trainable_parameters(
    without: tuple[str, ...], zero: tuple[str, ...], expected: str | None
) -> None:
    evidence = ProbeEvidence(2, parameters_without_gradient=without, parameters_with_zero_gradient=zero)
    assert severity(opt_steps.no_gradient, evidence) == expected


def test_unchanged_parameters_are_not_judged_while_the_rate_is_zero() -> None:
    still = replace(HEALTHY, learning_rate=np.zeros(N), unchanged_trainable=("classifier.weight",))
    with pytest.raises(CannotTell):
        opt_steps.never_moved(still)


def test_a_rate_is_not_judged_where_loss_scaling_skipped_steps() -> None:
    """A plain loop steps its scheduler after skipped steps too, and is at another place of the plan."""
    skipped = np.zeros(N)
    skipped[0] = 3
    off_plan = replace(HEALTHY, learning_rate=np.full(N, 5e-5))
    assert severity(opt_steps.rate_off_plan, off_plan) == "error"
    with pytest.raises(CannotTell, match="skipped 3 steps"):
        severity(opt_steps.rate_off_plan, replace(off_plan, skipped_steps=skipped))
