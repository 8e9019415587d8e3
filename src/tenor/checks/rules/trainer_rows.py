"""Rows that `transformers.Trainer` leaves unused without a message: labels, columns, and all rows of a finished run."""

from tenor.checks.evidence.checkpoint_evidence import TrainerEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known
from tenor.runs.findings import Finding

LABELS = ("labels", "label", "label_ids")
"""Usual keys of the labels in a batch."""
SAME_EPOCH = 0.02
"""Relative; an epoch of the same rows has the same number of steps, up to an incomplete one."""


@rule("EVL034", "error", is_exact=True, explains=("no result",))
def no_labels_in_evaluation(trainer: TrainerEvidence) -> Finding | None:
    """The Trainer finds no labels in the evaluation rows

    Measures: whether the first evaluation row, as collated, has a value for every key of the Trainer's `label_names`.

    Threshold: all of them; an exact invariant of the Trainer. An error where `compute_metrics` or
    `metric_for_best_model` was given; a warning where only `label_names` was.

    Why: `label_names` holds the keys of a batch under which labels are passed to the model, not the names of the
    classes. If one of them is missing, `prediction_step` computes no loss and `compute_metrics` is not called, without
    a message: the evaluation reports runtimes only, and the best checkpoint cannot be chosen.

    Look-alikes: evaluation rows without labels on purpose, without `compute_metrics`, pass. A Trainer with its own
    `prediction_step` or evaluation loader is not judged.

    Fix: leave `label_names` out, or name the keys of the batch: `label_names=["labels"]`. A model of your own needs a
    parameter whose name contains `label` in `forward`, or `label_names`.

    Reference: transformers documentation, TrainingArguments, label_names.
    """
    if trainer.evaluation_keys is None:
        raise CannotTell(trainer.evaluation_unknown or "the keys of an evaluation batch are not known")
    missing = [name for name in trainer.label_names if name not in trainer.evaluation_keys]
    if trainer.label_names and not missing:
        return None
    if not trainer.metrics_wanted and not trainer.label_names_given:
        return None
    present = [name for name in LABELS if name in trainer.evaluation_keys]
    names = ", ".join(map(repr, missing))
    return Finding(
        observed=(f"label_names asks for {names}, but" if missing else "label_names is empty, and")
        + f" an evaluation batch has the keys {', '.join(trainer.evaluation_keys)}",
        expected="every key of label_names in the batch",
        n=1,
        cause="label_names was filled with names that are no keys of a batch, such as those of the classes"
        if trainer.label_names_given
        else "the Trainer took the parameters of the model's forward method with `label` in their name",
        fix=(
            f"set label_names={present[:1]!r}"
            if present
            else "keep a column of labels in the evaluation rows, under a key that label_names contains"
        )
        + f"; without it {' and '.join(trainer.metrics_wanted) or 'eval_loss'} has no effect",
        severity="error" if trainer.metrics_wanted else "warning",
    )


@rule("DST007", "warning", is_exact=True)
def resumed_run_was_finished(trainer: TrainerEvidence) -> Finding | None:
    """The resumed run makes no step

    Measures: the steps of the checkpoint from which the run is resumed, the planned steps of the resumed run, and the
    steps of an epoch in both.

    Threshold: at least one step is left; an exact invariant. An error where an epoch of the present rows has another
    number of steps (by more than one and 2%), so that the rows have changed; otherwise a warning.

    Why: `resume_from_checkpoint` restores the position in the run with the weights. A run that was at its last step
    ends at once, with a training loss of 0, and its result is that of the checkpoint: new rows were not trained on.

    Look-alikes: a job that is started again after it has finished does this on purpose: allow the rule with that
    reason.

    Fix: to train on new rows, load the weights, `from_pretrained(checkpoint)`, and call `train()` without
    `resume_from_checkpoint`; to train longer on the same rows, increase `num_train_epochs` or `max_steps`.

    Reference: transformers documentation, Trainer.train, resume_from_checkpoint.
    """
    if not trainer.steps_done or trainer.steps_done < trainer.max_steps:
        return None
    before = trainer.steps_done / trainer.epochs_done if trainer.epochs_done else None
    now = trainer.steps_per_epoch
    has_changed = before is not None and now is not None and abs(before - now) > max(1, SAME_EPOCH * before)
    epochs = f"; an epoch had {before:,.0f} steps then and has {now:,} now" if has_changed else ""
    return Finding(
        observed=f"the checkpoint is at step {trainer.steps_done:,} of {trainer.max_steps:,} planned ones{epochs}",
        expected="steps that are left to train",
        n=trainer.steps_done,
        cause="the run that is resumed was finished: no row of the present training split is used",
        fix="load the weights with from_pretrained(checkpoint) and call train() without resume_from_checkpoint, or "
        "plan more epochs; if a finished job was only started again, allow DST007",
        severity="error" if has_changed else "warning",
    )


@rule("DAT031", "warning")
def column_of_the_loss_was_removed(trainer: TrainerEvidence) -> Finding | None:
    """A column that the loss reads was removed

    Measures: the columns of the training rows that the Trainer has removed, and the texts in the code of the program's
    own `compute_loss` and `training_step`.

    Threshold: no removed column is named there; one whose value is only discarded (`inputs.pop("id", None)` as a
    statement, `del inputs["id"]`) does not count.

    Why: with `remove_unused_columns=True`, the default, the Trainer keeps only the columns that the model's `forward`
    names. `inputs.pop("weight", default)` then always returns the default, so that row weights, masks or a second kind
    of label have no effect.

    Look-alikes: a column that is in the batch because the collator adds it passes. A method that handles batches with
    and without the column on purpose: allow the rule with that reason.

    Fix: `TrainingArguments(remove_unused_columns=False)`, and drop the columns that are not needed yourself.

    Reference: transformers documentation, TrainingArguments, remove_unused_columns.
    """
    found = known(trainer.removed_read, "which columns the Trainer removed")
    if not found:
        return None
    columns = list(dict.fromkeys(column for column, _ in found))
    methods = list(dict.fromkeys(method for _, method in found))
    return Finding(
        observed=f"{', '.join(methods)} reads {', '.join(map(repr, columns))}, which the training rows contain and the "
        "batches do not",
        expected="every column that the loss reads in the batches",
        n=len(columns),
        cause="remove_unused_columns=True removes the columns that the model's forward method does not name",
        fix="set remove_unused_columns=False, and read the column without a default, inputs.pop(…)",
    )
