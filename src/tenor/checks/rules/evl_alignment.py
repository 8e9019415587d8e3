"""Alignment: whether labels and predictions speak of the same classes and stand in the same rows."""

from dataclasses import dataclass

import numpy as np

from tenor.checks.evidence import EvaluationEvidence, SplitClaims
from tenor.checks.finding import CannotTell, Observation
from tenor.checks.rule import rule
from tenor.checks.rules.evl_measures import accuracy, class_indices, joined, per_split
from tenor.checks.rules.evl_ranking import ALPHA, GOOD_ACCURACY, MIN_ROWS, RELABELLING_GAIN, binomial_tail

MOST_ROWS_APART = 5
"""A header, a lost first row, or a batch's remainder; further apart, rows are in another order altogether."""
SHIFT_GAIN = 0.1
"""Of the accuracy: what a move must win, and what sets it apart from the other moves."""
SHOWN = 4


@rule("EVL019", "error")
def no_name_in_common(evaluation: EvaluationEvidence) -> Observation | None:
    """Labels and predictions have no class name in common

    Measures: the names of the classes in the labels and in the predictions, without regard to case and blanks; then the
    accuracy with each name of the predictions read as one of the labels: in the usual order (negative before positive),
    else so that most predictions are right.

    Threshold: no common name; an exact invariant. A warning where one side has numbers and the other names, as files
    with ids beside names do.

    Why: compared as they are written, no prediction is ever right. An accuracy of 0 then says nothing about the model.

    Look-alikes: true and 1, LABEL_1 and 1, and "Positive" and "positive" are the same class, and are read so.

    Mend: give the model's `id2label` the names that the data has, or map the predictions before they are saved.

    Reference: transformers, PretrainedConfig (id2label, label2id).
    """
    measured = per_split(evaluation, lambda claims: _other_names(claims, evaluation.n_classes))
    found = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not found:
        return None
    return Observation(
        observed=joined([(name, f"labels {one.labels}; predictions {one.predictions}") for name, _, one in found]),
        expected=joined(
            [
                (name, f"the same names; read pairwise ({one.pairs}) the accuracy is {one.accuracy:.4f}")
                for name, _, one in found
            ]
        ),
        n=sum(claims.n for _, claims, _ in found),
        cause="the model, or the program that saved its predictions, calls the classes otherwise than the data does",
        fix="map the predictions to the labels' names before they are compared; set id2label in the model's config",
        severity="warning" if all(one.numbers_and_names for _, _, one in found) else None,
    )


@rule("EVL017", "error")
def moved_against_each_other(evaluation: EvaluationEvidence) -> Observation | None:
    """Labels and predictions are shifted against each other by some rows

    Measures: the accuracy as the rows stand, and with the predictions moved by one to five rows up or down.

    Threshold: at least 50 rows; moved, an accuracy of 0.5 and 0.05 above the majority's share, 0.1 above the accuracy
    as it is and above that of the moves in the other direction, and a binomial test between the rows that only one of
    both readings gets right with p < 0.001 over the ten moves.

    Why: each prediction is held against the label of another text, which makes a good model look like chance.

    Look-alikes: rows sorted by label look alike before and after a move, and labels that alternate look alike after
    moves in both directions: neither is found.

    Mend: join labels and predictions by the rows' ids, not by their places; look for a header, a row that was dropped,
    or a list that begins one too late.

    Reference: McNemar 1947, Note on the Sampling Error of the Difference between Correlated Proportions.
    """
    measured = per_split(evaluation, lambda claims: _move(claims, evaluation.n_classes))
    found = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not found:
        return None
    rows, direction = found[0][2].rows, "up" if found[0][2].by > 0 else "down"
    return Observation(
        observed=joined([(name, f"accuracy {one.before:.4f} as the rows stand") for name, _, one in found]),
        expected=joined(
            [(name, f"moved by {one.rows} they would be right in {one.after:.1%}") for name, _, one in found]
        ),
        n=sum(claims.n for _, claims, _ in found),
        cause="one of both lists lost or gained rows at its beginning, so that each prediction is another text's",
        fix=f"join labels and predictions by the rows' ids; as they are, move the predictions {direction} by {rows}",
    )


@dataclass(frozen=True)
class _Names:
    labels: str
    predictions: str
    pairs: str
    accuracy: float
    numbers_and_names: bool


def _other_names(claims: SplitClaims, n_classes: int) -> _Names | None:
    if claims.read_as is None:
        raise CannotTell("the rows don't name the classes of both labels and predictions")
    if not claims.read_as:
        return None
    said = [name for name, _ in claims.read_as]
    own = sorted({*(claims.class_names or ()), *(name for _, name in claims.read_as)})
    numbers = [all(name.lstrip("-").isdecimal() for name in names) for names in (own, said)]
    return _Names(
        labels=_listed(own),
        predictions=_listed(said),
        pairs=_listed([f"{name} as {label}" for name, label in claims.read_as]),
        accuracy=accuracy(claims, n_classes)[0],
        numbers_and_names=numbers[0] != numbers[1],
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


@dataclass(frozen=True)
class _Move:
    by: int
    """Rows by which the predictions stand below their labels; above where negative."""
    before: float
    after: float

    @property
    def rows(self) -> str:
        return "one row" if abs(self.by) == 1 else f"{abs(self.by)} rows"


def _move(claims: SplitClaims, n_classes: int) -> _Move | None:
    """The move that makes the predictions right, where there is one."""
    labels = class_indices(claims.labels, n_classes, "labels")
    predicted = class_indices(claims.predicted, n_classes, "predictions")
    if len(labels) != len(predicted) or len(labels) < MIN_ROWS:
        raise CannotTell(f"fewer than {MIN_ROWS} rows with label and prediction")
    moves = [by for by in range(-MOST_ROWS_APART, MOST_ROWS_APART + 1) if by]
    after = {by: float(_right(labels, predicted, by).mean()) for by in moves}
    best, *others = sorted(moves, key=lambda by: -after[by])
    before, majority = float((labels == predicted).mean()), np.bincount(labels).max() / len(labels)
    rival = max([before, *(after[by] for by in others)])
    if after[best] < max(rival + SHIFT_GAIN, GOOD_ACCURACY, majority + RELABELLING_GAIN):
        return None
    right, moved = (labels == predicted)[max(0, -best) : len(labels) - max(0, best)], _right(labels, predicted, best)
    lost, won = int((right & ~moved).sum()), int((moved & ~right).sum())
    if binomial_tail(lost, lost + won, 0.5) * len(moves) >= ALPHA:
        return None
    return _Move(best, before, after[best])


def _right(labels: np.ndarray, predicted: np.ndarray, by: int) -> np.ndarray:
    """Which rows are right with the predictions moved up by so many rows; those without a partner are left out."""
    return labels[: len(labels) - by] == predicted[by:] if by > 0 else labels[-by:] == predicted[:by]
