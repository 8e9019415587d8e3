"""Faults in what is said about a trained model, and in records of resumed and distributed runs."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DistributedSampler
from transformers import AutoModelForSequenceClassification

from faults.fault import fault, faults_of
from faults.program import Evaluation, Program
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence, ResumeEvidence
from tenor.checks.evidence.process_evidence import RankEvidence
from tenor.checks.evidence.training_evidence import ValidationPoint

Finish = Any


def finishing(program: Program, finish: Finish) -> Program:
    return replace(program, finish=finish)


def kept(evaluation: Evaluation, rows: np.ndarray) -> Evaluation:
    return replace(
        evaluation,
        ids=tuple(evaluation.ids[i] for i in rows),
        labels=evaluation.labels[rows],
        predicted=evaluation.predicted[rows],
        probabilities=evaluation.probabilities[rows],
    )


@fault("training", "EVL012")
def evaluated_in_training_mode(program: Program) -> Program:
    """`model.eval()` is missing."""
    return replace(program, evaluate_in="training mode")


@fault("diagnosis", "EVL004")
def a_threshold_nobody_reaches(program: Program) -> Program:
    """Positive is predicted from a probability of 0.999 on."""

    def finish(evaluation: Evaluation) -> Evaluation:
        predicted = (evaluation.probabilities[:, 1] > 0.999).astype(int)
        return replace(evaluation, predicted=predicted, accuracy=float((predicted == evaluation.labels).mean()))

    return finishing(program, finish)


@fault("diagnosis", "EVL002")
def a_bias_out_of_place(program: Program) -> Program:
    """The head's bias was overwritten after training: the ranking is right, every prediction is positive."""

    def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        found = model(**inputs).logits
        return found if torch.is_grad_enabled() else found + torch.tensor([0.0, 8.0])

    return replace(program, logits_of=logits)


@fault("diagnosis", "CKP002", signs=("EVL001", "EVL003", "EVL005"))
def another_model_evaluated(program: Program) -> Program:
    """A model that was never trained is evaluated instead of the trained one."""
    torch.manual_seed(program.seed + 1)
    other = AutoModelForSequenceClassification.from_pretrained(program.encoders["bert"]).eval()

    def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return (model if torch.is_grad_enabled() else other)(**inputs).logits

    return replace(program, logits_of=logits)


@fault("diagnosis", "EVL007")
def columns_swapped(program: Program) -> Program:
    """The classes of the predictions are read in the other order."""

    def finish(evaluation: Evaluation) -> Evaluation:
        predicted = 1 - evaluation.predicted
        return replace(
            evaluation,
            predicted=predicted,
            probabilities=evaluation.probabilities[:, ::-1],
            accuracy=float((predicted == evaluation.labels).mean()),
        )

    return finishing(program, finish)


@fault("diagnosis", "EVL008")
def the_last_batch_is_dropped(program: Program) -> Program:
    """`drop_last` is on in evaluation, too."""

    def finish(evaluation: Evaluation) -> Evaluation:
        part = kept(evaluation, np.arange(len(evaluation.ids) - 24))
        return replace(part, accuracy=float((part.predicted == part.labels).mean()))

    return finishing(program, finish)


@fault("diagnosis", "EVL008")
def rows_repeated_for_even_ranks(program: Program) -> Program:
    """Gathered from several processes, the first rows are there twice."""

    def finish(evaluation: Evaluation) -> Evaluation:
        n = len(evaluation.ids)
        part = kept(evaluation, np.concatenate([np.arange(n), np.arange(8)]))
        return replace(part, accuracy=float((part.predicted == part.labels).mean()))

    return finishing(program, finish)


@fault("diagnosis", "EVL009", "EVL011")
def accuracy_as_a_mean_of_batches(program: Program) -> Program:
    """Accuracies of batches are averaged, the short last one as much as the others."""

    def finish(evaluation: Evaluation) -> Evaluation:
        part = kept(evaluation, np.arange(len(evaluation.ids) - 19))
        right = part.predicted == part.labels
        means = [right[start : start + 32].mean() for start in range(0, len(right), 32)]
        return replace(part, accuracy=float(np.mean(means)), n_expected=len(right))

    return finishing(program, finish)


@fault("diagnosis", "EVL011")
def metrics_of_another_epoch(program: Program) -> Program:
    """The reported accuracy is that of an earlier checkpoint, the predictions are the last one's."""

    def finish(evaluation: Evaluation) -> Evaluation:
        n = len(evaluation.ids)
        return replace(evaluation, accuracy=(round(evaluation.accuracy * n) - 11) / n)

    return finishing(program, finish)


@fault("diagnosis", "EVL014")
def logits_taken_for_probabilities(program: Program) -> Program:
    """What is saved as probabilities was never normalised."""

    def finish(evaluation: Evaluation) -> Evaluation:
        return replace(evaluation, probabilities=np.log(evaluation.probabilities / evaluation.probabilities[:, ::-1]))

    return finishing(program, finish)


def with_record(program: Program, record: Any) -> Program:
    return replace(program, further_evidence=(record,))


def log_of_validations() -> tuple[ValidationPoint, ...]:
    return tuple(ValidationPoint(step, value) for step, value in ((20, 0.71), (40, 0.76), (60, 0.74)))


@fault("diagnosis", "CKP001")
def the_last_checkpoint_taken_for_the_best(program: Program) -> Program:
    """The last checkpoint is kept as the best; the log says otherwise."""
    return with_record(program, CheckpointEvidence(log_of_validations(), "accuracy", chosen_step=60, evaluated_step=60))


@fault("diagnosis", "CKP002")
def another_checkpoint_evaluated(program: Program) -> Program:
    """The best checkpoint was chosen, and the last one evaluated."""
    record = CheckpointEvidence(log_of_validations(), "accuracy", chosen_step=40, evaluated_step=60)
    return with_record(program, record)


@fault("diagnosis", "CKP003", "CKP005")
def no_checkpoint_recorded(program: Program) -> Program:
    """The summary says null where the checkpoint's path should be."""
    return with_record(program, CheckpointEvidence(path_recorded=True, path=None, status="ok"))


@fault("diagnosis", "CKP004", "CKP005")
def no_validation_metrics(program: Program) -> Program:
    """The summary's validation metrics are null."""
    return with_record(program, CheckpointEvidence(metrics_recorded=False, status="ok"))


@fault("diagnosis", "DST003")
def the_schedule_restarts_on_resume(program: Program) -> Program:
    """After a resume the rate is that of the first step."""
    factor, total = program.factor, program.total_steps
    after, planned = (program.rate * factor(step, total) for step in (0, 31))
    return with_record(program, ResumeEvidence(30, 31, rate_after=after, planned_rate_after=planned))


@fault("diagnosis", "DST004")
def the_epoch_restarts_on_resume(program: Program) -> Program:
    """After a resume the epoch begins anew, with rows that were seen."""
    rows = np.random.default_rng(program.seed).permutation(len(program.train)).tolist()
    record = ResumeEvidence(30, 31, rows_before=rows[:480], rows_after=rows[:480], rows_in_epoch=len(rows))
    return with_record(program, record)


def seen_by(ranks: tuple[tuple[int, int], ...], rows: int, drop: bool = False) -> dict[int, list[int]]:
    """Rows that each process's sampler gives, from the (rank, processes) that it was told."""
    seen = {}
    for place, (rank, processes) in enumerate(ranks):
        sampler = DistributedSampler(range(rows), processes, rank, shuffle=True, seed=1, drop_last=drop)
        seen[place] = list(sampler)
    return seen


@fault("diagnosis", "DST001")
def ranks_see_the_same_rows(program: Program) -> Program:
    """Both processes believe to be the first."""
    n = len(program.train)
    return with_record(program, RankEvidence(seen_by(((0, 2), (0, 2)), n), n))


@fault("diagnosis", "DST002")
def rows_that_no_rank_sees(program: Program) -> Program:
    """Two processes run, each told that there are three."""
    n = len(program.train)
    return with_record(program, RankEvidence(seen_by(((0, 3), (1, 3)), n), n))


FAULTS = faults_of(globals())
