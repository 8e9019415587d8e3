"""Several processes: whether their gradients are averaged, and whether the loss is multiplied by their number."""

from tenor.checks.evidence.process_evidence import ProcessEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known
from tenor.runs.findings import Finding

TOLERANCE = 0.05
"""Relative; both losses are computed on the same rows, and the number of processes is at least 2."""


@rule("DST005", "error")
def gradients_are_not_averaged(processes: ProcessEvidence) -> Finding | None:
    """The gradients of several processes are not averaged

    Measures: whether the model, or a wrapper that refers to it, is `DistributedDataParallel`, FSDP, DeepSpeed or a
    model with sharded parameters, in a run of two processes or more.

    Threshold: wrapped; an exact invariant in `transformers.Trainer`. In a hand-written loop a warning, because the
    model may be wrapped later, or its gradients averaged by hand.

    Why: every process then trains a model of its own on its part of the rows, and one of them is saved. The run costs
    as much as N devices and learns from 1/N of the rows. In `transformers` 5.23, `trainer.evaluate()` before
    `trainer.train()` has this effect, without a message.

    Look-alikes: an evaluation needs no wrapper, and is not judged.

    Fix: call `trainer.train()` first; for a result before training, evaluate a copy of the model with another Trainer:
    `Trainer(copy.deepcopy(model), …).evaluate()`. Another Trainer of the same model has the same effect. In a loop,
    wrap the model in `DistributedDataParallel`, or use `accelerator.prepare`.

    Reference: transformers 5.23, `Trainer.evaluation_loop` (`accelerator.prepare_model(…, evaluation_mode=True)`).
    """
    averaged = known(processes.gradients_averaged, "whether the model is wrapped", processes.loss_unknown)
    if averaged:
        return None
    by_trainer = processes.is_trainer
    return Finding(
        observed=f"{processes.n_processes} processes, and a model without a wrapper",
        expected="a model wrapped in DistributedDataParallel, FSDP or DeepSpeed",
        n=processes.n_processes,
        cause="trainer.evaluate() or predict() before trainer.train() prepares the model without a wrapper, and it is "
        "not prepared again"
        if by_trainer
        else "the model was not wrapped, so every process trains a model of its own",
        fix="call trainer.train() before any evaluation, or evaluate a copy: Trainer(copy.deepcopy(model), …)"
        if by_trainer
        else "wrap it: torch.nn.parallel.DistributedDataParallel(model), or accelerator.prepare(model, …)",
        severity="error" if by_trainer else "warning",
    )


@rule("DST006", "warning", symptoms=("summed loss",), explains=("clipped gradients", "multiple of the validation loss"))
def loss_is_multiplied_by_processes(processes: ProcessEvidence) -> Finding | None:
    """The loss is multiplied by the number of processes

    Measures: the loss of a few rows as the Trainer computes it in this run, divided by the one that it computes with
    `average_tokens_across_devices=False`.

    Threshold: equal within 5%.

    Why: with `average_tokens_across_devices`, the default, `transformers` multiplies the loss by the number of
    processes N and expects the model to divide its summed loss by the rows of all processes. BERT, RoBERTa, DistilBERT
    and others (5.23) accept this number and ignore it. Loss, gradient and `eval_loss` are then N times as large: the
    gradient is clipped N times as hard, and the losses of runs with different N are not comparable.

    Look-alikes: a model that uses the number, or a `compute_loss` that returns a mean itself, has a ratio of 1.

    Fix: `TrainingArguments(average_tokens_across_devices=False)`.

    Reference: transformers 5.23, `Trainer.compute_loss`.
    """
    if processes.loss_factor is None:
        raise CannotTell(processes.loss_unknown or "how the loss is scaled is not known")
    if abs(processes.loss_factor - 1) <= TOLERANCE:
        return None
    return Finding(
        observed=f"the loss is {processes.loss_factor:.3g} times the mean of its rows, in {processes.n_processes} "
        "processes",
        expected="the mean",
        n=processes.n_processes,
        cause="average_tokens_across_devices multiplies the loss by the number of processes, and the model does not "
        "divide it by the number of rows that it is given (num_items_in_batch)",
        fix="set TrainingArguments(average_tokens_across_devices=False)",
    )
