"""What a watched process amounts to: the evidence of its trainings and evaluations, and the diagnosis of all of it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tenor.checks.catalogue import BY_CODE
from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.diagnose import Diagnosis, diagnose_runs
from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.evidence.training_evidence import ScheduleEvidence, StepEvidence
from tenor.runs.findings import Report
from tenor.watch.observer import OBSERVER
from tenor.watch.patches import failures, own_work
from tenor.watch.settings import UNWATCHED

if TYPE_CHECKING:
    from tenor.watch.evaluations import SeenEvaluation
    from tenor.watch.session import Session
    from tenor.watch.training import WatchedTraining

MOST_DECODED = 20_000
"""Rows whose token ids are made text again, which takes some seconds."""
MANY_CLIPS = 5
"""Calls of clipping on scaled gradients."""
SAME_ROWS = 0.95
"""An evaluation of at least this share of training rows, and of at least half of them, is one of the training rows."""


def reports_of() -> list[Report]:
    """The reports of every stage so far."""
    reports = [report for one in (*OBSERVER.trainings, *OBSERVER.trainers) for report in one.all_reports]
    return reports + OBSERVER.loading_reports()


def diagnosis_of(session: "Session", is_final: bool) -> Diagnosis:
    """Every rule on everything that was seen of this process; texts are compared only at its end."""
    with own_work():
        runs = [_artifacts(training, is_final) for training in OBSERVER.trainings if not training.unjudged]
        runs += [run for trainer in OBSERVER.trainers for run in trainer.artifacts()]
        evaluated = OBSERVER.evaluations.evidence(max((one.n_classes or 0 for one in OBSERVER.trainings), default=0))
        for further in (evaluated, OBSERVER.metric_objects.evidence()):
            if further is not None:
                runs = _with_evidence(runs, further)
        if not runs:
            runs = [Artifacts("a program", ())]
        runs[-1] = replace(runs[-1], earlier=(*runs[-1].earlier, *OBSERVER.loading_reports()))
        notes = (*session.notes, *_limits(), *([session.trouble] if session.trouble else []))
        runs[0] = replace(runs[0], notes=(*runs[0].notes, *notes))
        diagnosis = diagnose_runs(runs, session.program)
        # What a reader of files could pass besides does not help here.
        limits = "" if session.is_stopped else diagnosis.limits.partition(" To check more,")[0]
        return replace(diagnosis, limits=limits)


def _limits() -> list[str]:
    """What could not be seen, a sentence each."""
    limits = [f"steps taken in {name} are not seen" for name in UNWATCHED]
    left_out = len(list(OBSERVER.left_out))
    if left_out:
        limits.append(f"at least {left_out} further optimizer{'s were' if left_out > 1 else ' was'} not watched")
    limits += [f"observing {what} failed" for what in failures()]
    backward = len(OBSERVER.step.backward)
    if backward > 1:
        limits.append(f"{backward} backward passes at the end were followed by no optimizer step")
    return limits


def _with_evidence(runs: list[Artifacts], evidence: Any) -> list[Artifacts]:
    """Evaluations and metrics belong to the last run before them, which is the last one in all but a few programs."""
    if not runs:
        return [Artifacts("an evaluation", (evidence,))]
    if any(type(one) is type(evidence) for one in runs[-1].evidence):
        return [*runs, Artifacts("an evaluation", (evidence,), name="evaluation")]
    return [*runs[:-1], replace(runs[-1], evidence=(*runs[-1].evidence, evidence))]


def _artifacts(training: "WatchedTraining", is_final: bool) -> Artifacts:
    evidence: list[Any] = [training.seen_batches] if training.seen_batches is not None else []
    steps = _steps(training)
    if steps is not None:
        evidence.append(steps)
    if training.order is not None and (training.order.steps or training.order.without_gradient):
        evidence.append(training.order.evidence())
    if training.later_groups is not None:
        evidence.append(training.later_groups)
    if is_final and training.outputs is not None:
        evidence.append(replace(training.outputs, n_classes=_classes_seen(training)))
    checked = training.preflight.checked if training.preflight is not None else ()
    if "OPT008" not in checked and len(training.rates) > 1:
        evidence.append(_schedule(training))
    rows = _rows(training) if is_final else None
    if rows is not None:
        evidence.append(rows)
    has_ended = training.evidence is not None
    reports = (_without_early_warnings(one) if has_ended else one for one in training.all_reports)
    return Artifacts("a watched program", tuple(evidence), name=training.name, earlier=tuple(reports))


def _without_early_warnings(report: Report) -> Report:
    """A report of a training that has ended: its steps are judged again as a whole, and what was only said of the
    first of them, such as a loss that did not fall yet, is left out."""
    kept = [one for one in report.findings if one.severity == "error" or BY_CODE[one.code].needs != (StepEvidence,)]
    return replace(report, findings=tuple(kept))


def _steps(training: "WatchedTraining") -> StepEvidence | None:
    known = training.evidence or (training.watchdog.evidence if training.watchdog is not None else None)
    if known is None or not len(known.steps):
        return None
    taken = len(training.rates)
    has_ended = training.evidence is not None
    scaled = training.order.clips_scaled if training.order is not None else 0
    return replace(
        known,
        last_step=taken,
        total_steps=known.total_steps or (taken if has_ended else None),
        clipped_before_unscale=known.clipped_before_unscale or scaled >= MANY_CLIPS or None,
    )


def _schedule(training: "WatchedTraining") -> ScheduleEvidence:
    """The learning rates as they were: no plan is known that they could be compared with."""
    rates = np.asarray(training.rates)
    per_epoch = training.steps_per_epoch or len(rates)
    factors = rates / rates.max() if rates.max() > 0 else rates
    return ScheduleEvidence(factors, per_epoch, len(rates) / per_epoch)


def _rows(training: "WatchedTraining") -> DataEvidence | None:
    """The texts of the training rows and of two sets of evaluated rows, as the model was given them."""
    tokenizer, seen = training.tokenizer, training.train_rows
    evaluations = [one for one in OBSERVER.evaluations.all if known_labels(one) is not None]
    if tokenizer is None or training.n_classes is None or not len(seen) or not evaluations:
        return None
    if len(seen) > MOST_DECODED or _are_labels_replaced(training):
        return None
    ids, labels = seen.first(_epoch_rows(training))
    keys = {row.tobytes() for row in ids}
    sets: dict[bytes, SeenEvaluation] = {}
    for evaluation in evaluations:
        own = [row.tobytes() for row in evaluation.rows.ids]
        is_training = sum(key in keys for key in own) >= SAME_ROWS * len(own) and len(own) >= len(keys) / 2
        if not is_training and len(own) <= MOST_DECODED:
            sets.setdefault(b"".join(own[:8]) + str(len(own)).encode(), evaluation)
    if not sets:
        return None
    first, *others = sets.values()
    return DataEvidence(
        Rows(labels, _texts(tokenizer, ids)),
        _classes_seen(training),
        _evaluated_rows(tokenizer, first),
        _evaluated_rows(tokenizer, others[0]) if others else None,
    )


def _are_labels_replaced(training: "WatchedTraining") -> bool:
    """Whether the loss is given one class for rows of several: those are not the labels of the rows."""
    batches = training.seen_batches
    if batches is None or batches.loss_labels is None:
        return False
    loader, loss = batches.loss_labels
    return len(np.unique(loss)) == 1 < len(np.unique(loader))


def _classes_seen(training: "WatchedTraining") -> int:
    """Classes among all labels that were seen, if there are at least two; before the end of an epoch, and with labels
    of one class, the model's outputs say how many there should be."""
    evaluated = [known_labels(one) for one in OBSERVER.evaluations.all]
    split_labels = [training.train_rows.labels, *(labels for labels in evaluated if labels is not None)]
    values = np.unique(np.concatenate([labels for labels in split_labels if len(labels)] or [np.zeros(0, dtype=int)]))
    whole = len(values) > 1 and values[0] == 0 and values[-1] == len(values) - 1
    return len(values) if whole and len(training.train_rows) else training.n_classes or 2


def _epoch_rows(training: "WatchedTraining") -> int:
    """Rows of the first epoch: later ones repeat them."""
    steps = training.steps_per_epoch
    seen = training.train_rows
    return len(seen) if steps is None else min(len(seen), -(-len(seen) * steps // max(steps, len(training.rates))))


def _evaluated_rows(tokenizer: Any, evaluation: "SeenEvaluation") -> Rows:
    labels = known_labels(evaluation)
    assert labels is not None
    return Rows(labels, _texts(tokenizer, evaluation.rows.ids))


def known_labels(evaluation: "SeenEvaluation") -> np.ndarray | None:
    """The labels of the rows whose token ids were seen, shape (rows,); None if the program did not show them."""
    from tenor.watch.evaluations import reported

    split = reported(evaluation)
    labels = None if split is None else split.labels
    return labels if labels is not None and 0 < len(labels) == len(evaluation.rows) else None


def _texts(tokenizer: Any, ids: list[np.ndarray]) -> list[str]:
    """The texts as they were given to the tokenizer; where that was not heard, the ids decoded."""
    heard = [OBSERVER.texts.text_of(row) for row in ids]
    rest = [row.tolist() for row, text in zip(ids, heard, strict=True) if text is None]
    decoded = iter(tokenizer.batch_decode(rest, skip_special_tokens=True) if rest else [])
    return [str(next(decoded)) if text is None else text for text in heard]
