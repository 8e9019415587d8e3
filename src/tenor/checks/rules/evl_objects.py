"""Objects that accumulate a metric: which rows their value covers."""

from tenor.checks.evidence.evaluation_evidence import MetricObjectsEvidence
from tenor.checks.rule import rule
from tenor.runs.findings import Finding


@rule("EVL035", "warning", is_exact=True, explains=("splits disagree",))
def one_object_for_training_and_evaluation(metrics: MetricObjectsEvidence) -> Finding | None:
    """One metric object counts training and evaluation rows

    Measures: the calls of `update` of each torchmetrics object between two resets, with gradients (training) and
    without (evaluation), when its value is computed.

    Threshold: only one of both; an exact invariant.

    Why: a metric object adds up all rows since its last `reset()`. If training and validation steps update the same
    one, the value that is reported for the validation covers training rows too, and those of all earlier epochs: it
    moves slowly, and looks better than the model is.

    Look-alikes: two objects (`clone()`), or a `reset()` between training and evaluation, pass. So does an object whose
    value is not computed in this state. Lightning resets an object that was given to `self.log` at the end of an epoch,
    which is after the validation in the case of the training epoch.

    Fix: one object for each split: `self.train_acc = Accuracy(…)`, `self.val_acc = self.train_acc.clone()`; call
    `reset()` after `compute()` where Lightning does not log the object itself.

    Reference: torchmetrics documentation, Lightning pitfalls.
    """
    if not metrics.mixed:
        return None
    first = metrics.mixed[0]
    several = f"{len(metrics.mixed)} objects, such as " if len(metrics.mixed) > 1 else ""
    return Finding(
        observed=f"{several}{first.name} was computed over {first.training_updates:,} updates in training and "
        f"{first.evaluation_updates:,} in evaluation",
        expected="a value of one split only",
        n=first.training_updates + first.evaluation_updates,
        cause="training and evaluation update the same object, without reset() between them",
        fix="make one object for each split, with clone(), and reset() each after compute()",
    )
