"""What the records of a run show beyond the findings: it ranks the possible causes, and excludes some of them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history import logged_number, plain_setting
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ValidationCourse
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rules.evl_chance import classes_never_learned, is_above_chance
from tenor.checks.rules.evl_collapse import collapse
from tenor.checks.rules.evl_measures import (
    accuracy,
    best_relabelling,
    class_name,
    confusion,
    distributions,
    is_never_right,
    one_class_of,
)
from tenor.checks.rules.evl_ranking import MIN_ROWS

RECORDS_FOR_LOSS = 5
CLEARLY = 0.95
"""Ratio of a validation loss to an earlier one that is more than noise."""
WEIGHTS_MOVED = 0.01
"""Share of ln K: validation losses of the same rows that differ by more come from different weights."""
WEIGHTS_KEPT = 1e-5
"""The same: a smaller difference is rounding, or a rate that is a million times too small."""
STANDS_ABOVE, STANDS_STILL, STANDS_FOR = 0.02, 5e-4, 4
"""Validation losses that are this share above ln K, while they differ by less than this share, in this many
validations: any training moves them towards ln K within a few steps, so the weights hardly change."""
MOST_CLASSES = 20
NEARLY_ZERO = 0.05
SATURATED = 3.0
"""Times ln K: an untrained model is near ln K."""
NEAR_CHANCE, FAR_ABOVE = 0.03, 0.2
"""Differences of an accuracy from 1/K."""
NEARLY_ALL = 0.8
"""Share of a class in the evaluated rows from which predicting it alone is nearly always right."""
SAME_SHARES = 0.1
"""Largest difference between the shares of a class in labels and predictions that count as the same."""
MOST_RATE = 1e9
"""A larger number is no rate."""
RATE_NAMES = ("learning_rate", "lr", "peak_lr", "max_lr")
LIMITING = frozenset(("max", "limit", "n", "num", "size"))
ROWS = frozenset(("samples", "rows", "examples", "instances", "texts", "train", "training", "batches"))
NOT_ROWS = frozenset(
    ("epoch", "epochs", "step", "steps", "batch", "length", "len", "seq", "tokens", "workers", "processes", "time")
)
"""Words in the name of a setting: of a limit, of rows, and of a limit of something else, as in num_train_epochs."""


@dataclass(frozen=True)
class Observations:
    """What the results show beyond the findings."""

    collapsed: str = ""
    """How many rows are predicted as which class, as text; empty if the predictions did not collapse."""
    same_class_for_all: bool = False
    """Whether every row of every evaluated split is predicted as the same class."""
    test_at_chance: str = ""
    """The test accuracy, as text, if it is that of chance and the validation accuracy is far above it."""
    majority: str = ""
    """The share of the predicted class in the true ones, as text; empty unless all splits collapsed to the class that
    has nearly all of their rows."""
    loss_share: float | None = None
    """The last training loss over ln K; None if too few losses were logged."""
    last_loss: float | None = None
    n_classes: int = 2
    fell: bool | None = None
    """Whether the training loss ends below its start; None if too few losses were logged, or some are not finite."""
    validation_fell: bool = False
    """Whether the last validation loss is clearly below the first."""
    has_gradients: bool = False
    """Whether a gradient norm above 0 was recorded, so that some parameters are trainable."""
    began_finite: bool = False
    """Whether the first recorded training loss is a finite number."""
    gradients_are_zero: bool = False
    """Whether the gradient norm is exactly 0 in every one of several records."""
    weights_moved: bool = False
    """Whether the validation loss differs between validations, so that the weights changed."""
    weights_kept: bool = False
    """Whether the validation loss is the same in all validations: no weight changed, or hardly."""
    weights_creep: bool = False
    """Whether the training loss falls in every record by next to nothing, or the validation loss hardly differs far
    from that of equal probabilities: the weights hardly change."""
    saturated: bool = False
    """Whether the validation losses are the same, and several times that of equal probabilities."""
    may_lack_a_class: bool = False
    """Whether the validation rows may be of one class that is rare in training: a record of Keras, which holds out the
    last rows of the source, or an accuracy of nearly 0. Swapped classes leave some rows right."""
    above_chance: bool = False
    """Whether the loss stayed above that of a model that knows nothing, in most of the validations."""
    peak_rate: float | None = None
    """The largest learning rate that was recorded; None if none was, or if the optimizer is gradient descent."""
    recorded_rate: float | None = None
    """The largest learning rate in the records, else in the settings, of any optimizer."""
    is_descent: bool = False
    """Whether the settings name gradient descent as the optimizer."""
    is_adam: bool = False
    """Whether they name Adam or one of its variants."""
    relabelled: float | None = None
    """The accuracy of the evaluated rows after the best relabelling, the lowest of all splits; None without counts."""
    each_relabelled: float | None = None
    """The lowest recall of a class after it."""
    spread: bool = False
    """Whether the evaluated rows are predicted as the classes in about the shares of the labels."""
    sureness: float | None = None
    """The mean probability of the predicted class in the evaluated rows; None if it is not known."""
    subset: str = ""
    """The setting that selects a subset of the training rows, as recorded."""


def observations_of(artifacts: Artifacts) -> Observations:
    """Gather them from the evidence and the settings of a run."""
    evaluation = next((item for item in artifacts.evidence if isinstance(item, EvaluationEvidence)), None)
    steps = next((item for item in artifacts.evidence if isinstance(item, StepEvidence)), None)
    collapses = _collapses(evaluation) if evaluation else []
    n_classes = evaluation.n_classes if evaluation else (steps.n_classes or 2) if steps is not None else 2
    losses = steps.loss[-RECORDS_FOR_LOSS:] if steps is not None and len(steps.loss) >= RECORDS_FOR_LOSS else None
    last = None if losses is None or not np.isfinite(losses).all() else float(losses.mean())
    last = artifacts.train_loss if last is None else last
    course = evaluation.course if evaluation is not None else None
    last = course.training_loss if last is None and course is not None else last
    change = _change_of_loss(steps, n_classes)
    is_rounded = steps is None or all(round(point.value, 5) == point.value for point in steps.validation_loss)
    norms = np.zeros(0) if steps is None or steps.grad_norm is None else np.asarray(steps.grad_norm, dtype=np.float64)
    relabelled = _relabelled(evaluation)
    every_split = evaluation is not None and len(collapses) == len(evaluation.splits)
    return Observations(
        collapsed=", ".join(f"{name} {count:,} of {rows:,} as class {k}" for name, k, count, rows in collapses),
        same_class_for_all=every_split
        and len({k for _, k, _, _ in collapses}) == 1
        and all(count == rows for *_, count, rows in collapses),
        test_at_chance=_test_at_chance(evaluation) if evaluation is not None else "",
        majority=_majority(evaluation, collapses) if evaluation is not None else "",
        loss_share=None if last is None else last / log(max(n_classes, 2)),
        last_loss=last,
        n_classes=n_classes,
        fell=_fell(steps),
        validation_fell=_validation_fell(steps),
        began_finite=steps is not None and len(steps.loss) > 0 and bool(np.isfinite(steps.loss[0])),
        has_gradients=bool((norms > 0).any()),
        gradients_are_zero=len(norms) >= RECORDS_FOR_LOSS and bool((norms == 0).all()),
        weights_moved=change is not None and change > WEIGHTS_MOVED,
        weights_kept=change is not None and change < WEIGHTS_KEPT and not is_rounded and not _creeps(steps),
        weights_creep=_creeps(steps) or (change is not None and change >= WEIGHTS_KEPT and _stands_above(steps)),
        saturated=change is not None and change < WEIGHTS_KEPT and _is_far_above(steps, n_classes),
        may_lack_a_class="keras" in artifacts.kind.lower() or _is_nearly_zero(course),
        above_chance=_is_above_chance(evaluation),
        peak_rate=_peak_rate(steps, artifacts.settings),
        recorded_rate=_recorded_rate(steps, artifacts.settings),
        is_descent="sgd" in str(dict(artifacts.settings)).lower(),
        is_adam="adam" in str(dict(artifacts.settings)).lower(),
        relabelled=min((accuracy for accuracy, _ in relabelled), default=None),
        each_relabelled=min((recall for _, recall in relabelled), default=None),
        spread=evaluation is not None and _is_spread(evaluation),
        sureness=_sureness(evaluation) if evaluation is not None else None,
        subset=_subset(artifacts.settings),
    )


def _recorded_rate(steps: StepEvidence | None, settings: Mapping[str, Any]) -> float | None:
    """The largest rate that was logged, else that of the settings."""
    if steps is not None and steps.learning_rate is not None and np.isfinite(steps.learning_rate).all():
        return float(np.max(steps.learning_rate, initial=0.0)) or None
    return configured_rate(settings)


def configured_rate(settings: Mapping[str, Any], depth: int = 3) -> float | None:
    """The learning rate in settings, nested or flat: 0 only if no other one is there; None if none is recorded."""
    rates = list(_configured_rates(settings, depth))
    return next((rate for rate in rates if rate > 0), rates[0] if rates else None)


def _configured_rates(settings: Mapping[str, Any], depth: int) -> Iterator[float]:
    named = {re.split(r"[./]", str(key))[-1].lower(): value for key, value in reversed([*settings.items()])}
    for name in RATE_NAMES:
        rate = logged_number(plain_setting(named.get(name)))
        if rate is not None and 0 <= rate < MOST_RATE:
            yield rate
    for value in settings.values():
        if isinstance(value, Mapping) and depth:
            yield from _configured_rates(value, depth - 1)


def _relabelled(evaluation: EvaluationEvidence | None) -> list[tuple[float, float]]:
    """Of each split with counts: the accuracy after the best relabelling, and the lowest recall of a class after it."""
    shares = []
    for claims in evaluation.splits.values() if evaluation is not None else ():
        try:
            counts = confusion(claims, evaluation.n_classes if evaluation is not None else 2)
        except CannotTell:
            continue
        right, support = counts[best_relabelling(counts), np.arange(len(counts))], counts.sum(axis=1)
        rows = support[best_relabelling(counts)]
        shares.append((float(right.sum() / counts.sum()), float((right[rows > 0] / rows[rows > 0]).min())))
    return shares


def _fell(steps: StepEvidence | None) -> bool | None:
    losses = np.asarray(steps.loss, dtype=np.float64).ravel() if steps is not None else np.zeros(0)
    if len(losses) < 2 or not np.isfinite(losses).all():
        return None
    part = max(1, len(losses) // 10)
    return bool(losses[-part:].mean() < losses[:part].mean())


def _validation_fell(steps: StepEvidence | None) -> bool:
    losses = [point.value for point in steps.validation_loss if isfinite(point.value)] if steps is not None else []
    return len(losses) > 1 and losses[-1] < CLEARLY * losses[0]


def _change_of_loss(steps: StepEvidence | None, n_classes: int) -> float | None:
    """The range of the validation losses as a share of ln K; None with fewer than two."""
    losses = [point.value for point in steps.validation_loss if isfinite(point.value)] if steps is not None else []
    return (max(losses) - min(losses)) / log(max(n_classes, 2)) if len(losses) > 1 else None


def _stands_above(steps: StepEvidence | None) -> bool:
    """Whether the validation losses hardly differ, without being those of equal probabilities for any K classes."""
    losses = np.array([point.value for point in steps.validation_loss] if steps is not None else [])
    if len(losses) < STANDS_FOR or not np.isfinite(losses).all():
        return False
    levels = np.log(np.arange(2, MOST_CLASSES + 1))
    is_between = (np.abs(losses[-1] - levels) > STANDS_ABOVE * levels).all() and losses[-1] > levels[0]
    return bool(is_between and np.ptp(losses) < STANDS_STILL * levels[0])


def _is_nearly_zero(course: ValidationCourse | None) -> bool:
    values = [point.value for point in course.accuracy if isfinite(point.value)] if course is not None else []
    return bool(values) and values[-1] < NEARLY_ZERO


def _is_far_above(steps: StepEvidence | None, n_classes: int) -> bool:
    losses = [point.value for point in steps.validation_loss] if steps is not None else []
    return len(losses) >= STANDS_FOR and min(losses) > SATURATED * log(max(n_classes, 2))


def _creeps(steps: StepEvidence | None) -> bool:
    """Whether the training loss falls from each record to the next, and hardly at all in sum."""
    losses = np.asarray(steps.loss, dtype=np.float64).ravel() if steps is not None else np.zeros(0)
    if len(losses) < RECORDS_FOR_LOSS or not np.isfinite(losses).all() or losses[0] <= 0:
        return False
    return bool((np.diff(losses) < 0).all() and losses[0] - losses[-1] < STANDS_STILL * losses[0])


def _is_above_chance(evaluation: EvaluationEvidence | None) -> bool:
    course = evaluation.course if evaluation else None
    classes = None if course is None else classes_never_learned(course)
    return course is not None and classes is not None and is_above_chance(course, classes)


def _is_spread(evaluation: EvaluationEvidence) -> bool:
    """Whether in every split with counts no class has a share in the predictions far from its share in the labels."""
    differences = []
    for claims in evaluation.splits.values():
        try:
            counts = confusion(claims, evaluation.n_classes)
        except CannotTell:
            continue
        n = counts.sum()
        is_small = n < MIN_ROWS
        differences.append(1.0 if is_small else float(np.abs(counts.sum(axis=0) - counts.sum(axis=1)).max() / n))
    return bool(differences) and max(differences) < SAME_SHARES


def _sureness(evaluation: EvaluationEvidence) -> float | None:
    values = []
    for claims in evaluation.splits.values():
        try:
            rows = distributions(claims)
        except CannotTell:
            continue
        if len(rows) >= MIN_ROWS and np.isfinite(rows).all() and (np.abs(rows.sum(axis=1) - 1) < 0.01).all():
            values.append(float(rows.max(axis=1).mean()))
    return float(np.mean(values)) if values else None


def _peak_rate(steps: StepEvidence | None, settings: Mapping[str, Any]) -> float | None:
    """The largest recorded rate. What is too large for Adam is usual for gradient descent."""
    rates = None if steps is None or steps.learning_rate is None else np.asarray(steps.learning_rate, dtype=np.float64)
    if rates is None or not len(rates) or not np.isfinite(rates).all() or "sgd" in str(dict(settings)).lower():
        return None
    return float(rates.max())


def _collapses(evaluation: EvaluationEvidence) -> list[tuple[str, str, int, int]]:
    """Split, predicted class, rows predicted as that class, all rows: of each split that collapsed."""
    collapses = []
    for name, claims in evaluation.splits.items():
        try:
            result = collapse(claims, evaluation.n_classes)
        except CannotTell:
            continue
        if result is not None:
            collapses.append((name, class_name(claims, result[0]), *result[1:3]))
    return collapses


def _test_at_chance(evaluation: EvaluationEvidence) -> str:
    shares: dict[str, float | None] = {}
    for name in ("validation", "test"):
        try:
            shares[name] = accuracy(evaluation.splits[name], evaluation.n_classes)[0]
        except (KeyError, CannotTell):
            shares[name] = evaluation.splits[name].accuracy if name in evaluation.splits else None
    held_out, tested, chance = shares["validation"], shares["test"], 1 / max(evaluation.n_classes, 2)
    if held_out is None or tested is None or abs(tested - chance) > NEAR_CHANCE or held_out < chance + FAR_ABOVE:
        return ""
    return f"the test accuracy is {tested:.4f}, chance {chance:.4f}"


def _majority(evaluation: EvaluationEvidence, collapses: list[tuple[str, str, int, int]]) -> str:
    """Split and share of the class that every row is predicted as; empty if it is not that of nearly all rows."""
    texts, classes = [], {name: predicted for name, predicted, *_ in collapses}
    for name, claims in evaluation.splits.items():
        if name in classes:
            counts = confusion(claims, evaluation.n_classes)
            share = float(counts[counts.sum(axis=0).argmax()].sum() / counts.sum())
        else:
            share = (claims.accuracy or 0.0) if is_never_right(claims) or one_class_of(claims) is not None else 0.0
        if share < NEARLY_ALL:
            return ""
        texts.append(f"{share:.1%} of the {name} rows" + (f" are {classes[name]}" if name in classes else ""))
    return ", ".join(texts)


def _subset(settings: Mapping[str, Any], prefix: str = "") -> str:
    """The first positive setting whose name suggests a subset of the training rows."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            nested = _subset(value, f"{name}.")
            if nested:
                return nested
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0 and _suggests_subset(name):
            return f"{name} = {value:,}"
    return ""


def _suggests_subset(name: str) -> bool:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.rpartition(".")[2])
    words = set(re.split(r"[^a-z0-9]+", spaced.lower()))
    if words & NOT_ROWS or words & {"eval", "val", "test", "dev", "validation"}:
        return False
    return "subset" in words or bool(words & LIMITING and words & ROWS)
