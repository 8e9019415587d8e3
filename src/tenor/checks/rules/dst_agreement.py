"""Several processes: whether their weights and gradients stay the same."""

from tenor.checks.evidence.process_evidence import AgreementEvidence
from tenor.checks.rule import rule
from tenor.checks.rules.shared import shown
from tenor.runs.findings import RULE_SEVERITY, Finding

ROUNDING = 1e-5
"""Relative. Processors of different kinds round differently: by 1e-7 in one operation, and by less than this over ten
thousand steps of averaged gradients. One step of AdamW at the usual rates moves weights by more."""


@rule("DST008", "error", is_exact=True)
def processes_drift_apart(ranks: AgreementEvidence) -> Finding | None:
    """The weights or gradients of the processes differ

    Measures: a checksum over the bits of every trainable parameter, and of its gradient as the optimizer receives it,
    in each process; and the largest relative difference among some sampled values.

    Threshold: the same bits; an exact invariant. If samples differ by less than 0.001%, a note: processors of
    different kinds round differently.

    Why: averaged gradients make the same update of the same weights. Once weights differ, every process trains a model
    of its own, one of them is saved, and it has learned from a part of the rows.

    Look-alikes: weights that are divided among the processes (FSDP, DeepSpeed's third stage, tensor parallelism) are
    not compared. Local SGD and other methods that average only from time to time differ on purpose: allow the rule.

    Fix: call the wrapped model (`model(**batch)`, not `model.module(**batch)`) in every pass whose gradients count;
    leave `no_sync()` for the last pass of a step; create the head and load weights before wrapping; give every process
    a forward pass through the same layers.

    Reference: PyTorch, "DistributedDataParallel", internal design.
    """
    weights, gradients, missing = (
        sorted(names) for names in (ranks.weights_differ, ranks.gradients_differ, ranks.gradient_in_some)
    )
    if not weights and not gradients and not missing:
        return None
    gap = max(ranks.weight_gap, ranks.gradient_gap)
    rounding = not missing and 0 < gap <= ROUNDING
    observed = [
        f"{kind} of {len(names):,} of {ranks.n_parameters:,} parameters differ, by up to {least(size)} ({shown(names)})"
        for kind, names, size in (
            ("the weights", weights, ranks.weight_gap),
            ("the gradients", gradients, ranks.gradient_gap),
        )
        if names
    ]
    if missing:
        observed.append(f"{len(missing):,} have a gradient in some processes only ({shown(missing)})")
    return Finding(
        observed=f"before step {ranks.step + 1:,}, in {ranks.n_processes} processes: {'; '.join(observed)}",
        expected="the same weights and gradients in every process",
        n=ranks.n_parameters,
        cause=_cause(weights, gradients, missing, rounding),
        fix="use processors or GPUs of one kind if results must be repeatable"
        if rounding
        else "call the wrapped model itself, create every layer before wrapping it, and average a step's last pass",
        severity="note" if rounding else RULE_SEVERITY,
    )


def least(gap: float) -> str:
    """A relative difference in percent; none of the samples may differ."""
    return f"{gap:.2g} of their size" if gap else "less than the samples show"


def _cause(weights: list[str], gradients: list[str], missing: list[str], rounding: bool) -> str:
    if rounding:
        return "the processes compute on different kinds of processors, which round differently"
    if missing:
        return "some layers are used in some processes only, and their gradients are not averaged"
    if gradients:
        return (
            "the gradients are not averaged: the model is not wrapped, its inner module is called directly, the last "
            "pass of the step is within no_sync(), or layers were added after wrapping"
        )
    return "the weights differed from the start (a layer created after wrapping, with unequal seeds) or were changed"
