"""Checkpoints as files: whether the best one is kept, restored completely, of this run, finite and with its head."""

from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown
from tenor.runs.findings import Finding

SHOWN_CHECKPOINTS = 4


@rule("CKP008", "warning")
def best_is_not_kept(checkpoint: CheckpointEvidence) -> Finding | None:
    """No checkpoint of the best validation was kept

    Measures: whether the state of a `transformers.Trainer` with a best value (`best_metric`) names its checkpoint
    (`best_model_checkpoint`).

    Threshold: it is not null; an exact invariant. A warning; an error if the arguments show that the best checkpoint
    was to be loaded (`load_best_model_at_end`).

    Why: Trainer then keeps the weights of the last step, without a message. It happens if the best validation was at a
    step without a checkpoint, if the best checkpoint was deleted before a resume, and if the metric was NaN in every
    validation (`best_metric` is then infinite).

    Look-alikes: a run without `metric_for_best_model` has no best value, and is not judged.

    Fix: save at every validation (the same `save_steps` and `eval_steps`), or `save_strategy="best"`; do not delete the
    best checkpoint before resuming.

    Reference: transformers 5.23, `Trainer._save_checkpoint`.
    """
    if checkpoint.best_value is None:
        raise CannotTell("the state of the run records no best value")
    if checkpoint.path is not None:
        return None
    was_number = abs(checkpoint.best_value) < float("inf")
    metric = checkpoint.metric or "the metric"
    return Finding(
        observed=f"the best value of {metric} is {checkpoint.best_value:.6g}, and its checkpoint is null",
        expected="the path of the checkpoint with this value",
        n=1,
        cause="the best validation was at a step at which no checkpoint was saved, or it was deleted before "
        "the run was resumed"
        if was_number
        else "the metric was not a number in any validation",
        fix="use the same steps for evaluation and saving, or save_strategy='best'; the model at the end of this run "
        "is that of its last step"
        if was_number
        else "correct compute_metrics; the model at the end of this run is that of its last step",
        severity="error" if checkpoint.best_is_used else "warning",
    )


@rule("CKP009", "error")
def names_prevent_restoring(checkpoint: CheckpointEvidence) -> Finding | None:
    """Checkpoints have other names than the model, so Trainer restores them incompletely

    Measures: parameters whose names `save_pretrained` changes to those of the checkpoint from which the model was
    loaded, or LayerNorms named gamma and beta in a checkpoint of the run; and whether Trainer loads such a checkpoint
    (`load_best_model_at_end`, resuming).

    Threshold: none if a checkpoint is loaded; an exact invariant. Where it is not known whether one is loaded, a
    warning if the run records a best checkpoint, otherwise a note.

    Why: original BERT checkpoints call the weights of their LayerNorms gamma and beta. `from_pretrained` renames them,
    and `save_pretrained` (5.23) changes them back in every checkpoint. Trainer loads the best checkpoint, and the one
    to resume from, with `load_state_dict(strict=False)`, which skips them: LayerNorms of the last step remain in the
    best model, those of the pretrained model in a resumed one. Only a line in the log lists the missing keys.

    Look-alikes: `from_pretrained` reads such checkpoints correctly, so a run that never loads one is not affected.

    Fix: before training, save the model once under its own names and load it from there:
    `model.save_pretrained(folder, save_original_format=False)`. In a finished run, load the best checkpoint with
    `from_pretrained` and evaluate it again.

    Reference: transformers 5.23, `Trainer._load_best_model` and `PreTrainedModel.save_pretrained`.
    """
    names = known(checkpoint.not_restored, "under which names the model is saved")
    if not names:
        return None
    by = " and ".join(checkpoint.restored_by)
    return Finding(
        observed=f"{len(names):,} parameters have other names in the checkpoints: {shown(names)}"
        + (f"; {by} loads a checkpoint" if by else ""),
        expected="the same names in the model and its checkpoints",
        n=len(names),
        cause="the pretrained checkpoint has names of an older version, and save_pretrained restores them",
        fix="save the model with model.save_pretrained(folder, save_original_format=False) and train from that folder; "
        "load a checkpoint of this run with from_pretrained only",
        severity="error" if by else "warning" if checkpoint.path and checkpoint.best_is_used is None else "note",
    )


@rule("CKP010", "warning")
def folder_has_other_checkpoints(checkpoint: CheckpointEvidence) -> Finding | None:
    """The output folder contains checkpoints of another run

    Measures: checkpoints of steps that a starting run has not taken; in a finished run, checkpoints whose recorded
    losses differ from those that the newest one records for the same steps.

    Threshold: none; an exact invariant. A warning, because it is possible that nothing reads them.

    Why: `resume_from_checkpoint=True` takes the checkpoint with the highest number, which may belong to the other run.
    With `save_total_limit`, Trainer orders checkpoints by time and, on file systems where times cannot be used, by
    number: it then deletes the newest checkpoints of this run and keeps those of the other one.

    Look-alikes: a run that was resumed from an earlier checkpoint than the last one has taken some steps twice; the
    later checkpoints of the first attempt are reported, and are not part of the run.

    Fix: a folder of its own for every run; delete or move the other checkpoints.

    Reference: transformers 5.23, `get_last_checkpoint`, `rotate_checkpoints` and `sort_checkpoints`.
    """
    others = known(checkpoint.other_runs, "which checkpoints belong to the run")
    if not others:
        return None
    names = ", ".join(others[:SHOWN_CHECKPOINTS])
    return Finding(
        observed=f"{len(others):,} checkpoints of another run: {names}",
        expected="only checkpoints of this run",
        n=len(others),
        cause="the output folder was used before, or the run was started again without resuming",
        fix="use a new output folder, or delete these checkpoints before training or resuming",
    )


@rule("CKP011", "warning")
def last_checkpoint_is_deleted(checkpoint: CheckpointEvidence) -> Finding | None:
    """The last checkpoint will be deleted, and the model in memory is not the one that is kept

    Measures: the arguments `save_total_limit=1` and `metric_for_best_model` without `load_best_model_at_end`.

    Threshold: this combination; an exact invariant.

    Why: at its end, Trainer (5.23) deletes every checkpoint but the best one. The model in memory, which is usually
    evaluated and saved next, is that of the last step. The run cannot be resumed from its last step.

    Look-alikes: with `load_best_model_at_end` both are the same model.

    Fix: `load_best_model_at_end=True`, or `save_total_limit=2`, which keeps the best and the last one.

    Reference: transformers 5.23, end of `Trainer.train`.
    """
    if not known(checkpoint.deletes_last, "which checkpoints are deleted"):
        return None
    return Finding(
        observed="save_total_limit=1 and metric_for_best_model, without load_best_model_at_end",
        expected="the model in memory at the end, or a checkpoint of it",
        n=1,
        cause="at the end only the best checkpoint is kept, while the model in memory is that of the last step",
        fix="set load_best_model_at_end=True, or save_total_limit=2",
    )


@rule("CKP012", "error", symptoms=("metric not a number",), explains=("bad result", "not a number"))
def saved_weights_are_not_finite(checkpoint: CheckpointEvidence) -> Finding | None:
    """Saved weights are NaN or infinite

    Measures: every tensor in the weights of the model or of the newest checkpoint in the folder.

    Threshold: none; an exact invariant.

    Why: such a model predicts class 0 for every text, the argmax of NaN, and continues as NaN whatever it is trained
    on. In training, losses of NaN may not have been logged (`logging_nan_inf_filter`). A head alone is NaN if it was
    newly initialized in 16 bits by some versions of PyTorch or `transformers`.

    Look-alikes: none; masks with -inf are buffers, and not saved.

    Fix: go back to an earlier checkpoint, load in float32 (`dtype=torch.float32`), lower the learning rate; for a head
    that was never finite, check all parameters after `from_pretrained`.

    Reference: Micikevicius et al. 2018, Mixed Precision Training; transformers, issue 46002.
    """
    broken = known(checkpoint.weights_not_finite, "the saved weights")
    if not broken:
        return None
    return Finding(
        observed=f"{len(broken):,} tensors of {checkpoint.weights_file} are not finite: {shown(broken)}",
        expected="finite weights",
        n=len(broken),
        cause="training diverged or overflowed before this checkpoint, or weights were never initialized to numbers",
        fix="use an earlier checkpoint, train in float32 with a lower rate, and check the weights before training",
    )


@rule("CKP013", "error")
def head_is_not_saved(checkpoint: CheckpointEvidence) -> Finding | None:
    """The saved classifier has no head

    Measures: whether the saved weights of a model for sequence classification contain its head; for a saved adapter,
    whether the file contains a tensor that is not an adapter's.

    Threshold: the head is present; an exact invariant. For adapters a warning: the base model may have a trained head,
    which the folder does not show unless it is a folder on this machine.

    Why: a model that is loaded from such files has a newly initialized head, and predicts at chance, whatever the
    validation during training was. Often `modules_to_save` was forgotten, or only the encoder was saved.

    Look-alikes: an adapter on a classifier that was trained before, with its head frozen.

    Fix: with PEFT `task_type="SEQ_CLS"` or `modules_to_save=["classifier"]`, and train again: the head is lost.

    Reference: PEFT documentation, Checkpoint format.
    """
    saved = known(checkpoint.head_is_saved, "whether the saved weights contain a head")
    if saved:
        return None
    return Finding(
        observed=f"{checkpoint.weights_file} contains no tensor of a classification head",
        expected="the trained head next to the encoder or the adapter",
        n=1,
        cause="the head was not named in modules_to_save, or only the encoder was saved",
        fix='train again with task_type="SEQ_CLS" or modules_to_save=["classifier"]; the trained head is lost',
        severity="warning" if str(checkpoint.weights_file).startswith("adapter") else "error",
    )
