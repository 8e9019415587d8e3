"""Evaluated rows: whether labels and predictions match row by row, and whether rows were trained on."""

from dataclasses import dataclass, replace

import numpy as np

from tenor.checks.evidence import EvaluationEvidence, OverlapEvidence, SplitClaims
from tenor.checks.finding import OWN, CannotTell, Finding, Severity
from tenor.checks.rule import rule
from tenor.checks.rules.dat_splits import SAME_WORDS, WHOLESALE, WHOLESALE_ROWS, distinct
from tenor.checks.rules.evl_measures import accuracy, class_indices, joined, per_split
from tenor.checks.rules.evl_ranking import ALPHA, GOOD_ACCURACY, MIN_ROWS, RELABELLING_GAIN, binomial_tail
from tenor.checks.rules.shared import text_keys

MOST_ROWS_APART = 5
"""A header, a lost first row, or a batch's remainder; further apart, rows are in another order altogether."""
SHIFT_GAIN = 0.1
"""Of the accuracy: what a move must win, and what sets it apart from the other moves."""
SHOWN = 4


@rule("EVL019", "error")
def no_name_in_common(evaluation: EvaluationEvidence) -> Finding | None:
    """Labels and predictions have no class name in common

    Measures: the names of the classes in the labels and in the predictions, without regard to case and blanks; then the
    accuracy with each name of the predictions read as one of the labels: in the usual order (negative before positive),
    else so that most predictions are right.

    Threshold: no common name; an exact invariant. A warning where one side has numbers and the other names, as files
    with ids beside names do.

    Why: compared as they are written, no prediction is ever right. An accuracy of 0 then says nothing about the model.

    Look-alikes: true and 1, LABEL_1 and 1, and "Positive" and "positive" are the same class, and are read so.

    Fix: give the model's `id2label` the names that the data has, or map the predictions before they are saved.

    Reference: transformers, PretrainedConfig (id2label, label2id).
    """
    measured = per_split(evaluation, lambda claims: _other_names(claims, evaluation.n_classes))
    found = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not found:
        return None
    return Finding(
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
        severity="warning" if all(one.numbers_and_names for _, _, one in found) else OWN,
    )


@rule("EVL017", "error", explains=("low accuracy", "splits disagree"))
def moved_against_each_other(evaluation: EvaluationEvidence) -> Finding | None:
    """Labels and predictions are shifted against each other by some rows

    Measures: the accuracy as the rows stand, and with the predictions moved by one to five rows up or down.

    Threshold: at least 50 rows; moved, an accuracy of 0.5 and 0.05 above the majority's share, 0.1 above the accuracy
    as it is and above that of the moves in the other direction, and a binomial test between the rows that only one of
    both readings gets right with p < 0.001 over the ten moves.

    Why: each prediction is held against the label of another text, which makes a good model look like chance.

    Look-alikes: rows sorted by label look alike before and after a move, and labels that alternate look alike after
    moves in both directions: neither is found.

    Fix: join labels and predictions by the rows' ids, not by their places; look for a header, a row that was dropped,
    or a list that begins one too late.

    Reference: McNemar 1947, Note on the Sampling Error of the Difference between Correlated Proportions.
    """
    measured = per_split(evaluation, lambda claims: _move(claims, evaluation.n_classes))
    found = [(name, claims, one) for name, claims, one in measured if one is not None]
    if not found:
        return None
    rows, direction = found[0][2].rows, "up" if found[0][2].by > 0 else "down"
    return Finding(
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


# A model that is right on 80% of unseen rows and on all memorised ones gains 0.05 · 0.2 = one point.
MATERIAL_SHARE = 0.05


@rule("EVL016", "error")
def evaluated_rows_in_training(overlap: OverlapEvidence) -> Finding | None:
    """Evaluated rows were in training

    Measures: evaluated rows whose text, apart from case and white space, is a training text of the run, and further
    rows whose text is one of its validation texts (not where a validation split is what is evaluated).

    Threshold: training texts of 5 words or more that are 5% of the rows or more are an error: if the model remembers
    these and is right on 80% of the others, the accuracy is a point too high. Texts of any length are an error where
    half of 10 or more distinct texts are training texts. Fewer are a warning, and so are validation texts. Only
    shorter texts: a note.

    Why: the result then measures memory, not what the model does with new texts. The validation rows chose the
    checkpoint, the temperature and the threshold, so a result on them is a little too good as well.

    Look-alikes: short texts ("great film") are written by different people. Published test splits share some rows with
    their training split; the result on the other rows stands next to the one on all. A closed set of phrases repeats
    everywhere: accept the finding with that reason (`checks.allow.EVL016=…`).

    Fix: evaluate on rows that were not in training, or quote the result on the other rows.

    Reference: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based science.
    """
    overlap = _without_expected(overlap)
    in_train, in_validation = int(overlap.in_train.sum()), int(overlap.in_validation.sum())
    if not in_train and not in_validation:
        return None
    n = len(overlap.texts)
    found = [f"{in_train:,} of {n:,} {overlap.split} rows are training texts"] if in_train else []
    if in_validation:
        further = f"{in_validation:,} more" if in_train else f"{in_validation:,} of {n:,} {overlap.split} rows"
        found.append(f"{further} are validation texts")
    return Finding(
        observed=", ".join(found),
        expected="no text that the model was trained or chosen on",
        n=n,
        cause="the file has rows of the training data in it"
        if in_train
        else "the file has rows that chose the checkpoint and the temperature",
        fix="evaluate on other rows, or quote the result on the rows that are in neither split",
        severity=_severity(overlap),
    )


def _without_expected(overlap: OverlapEvidence) -> OverlapEvidence:
    """Validation texts are what a validation split consists of."""
    expected = overlap.split == "validation"
    return replace(overlap, in_validation=np.zeros_like(overlap.in_validation)) if expected else overlap


def _severity(overlap: OverlapEvidence) -> Severity:
    long_in_train, long_in_validation = (_long(overlap, rows) for rows in (overlap.in_train, overlap.in_validation))
    if long_in_train >= MATERIAL_SHARE * len(overlap.texts) > 0 or _wholesale(overlap, overlap.in_train):
        return "error"
    return "warning" if long_in_train or long_in_validation or _wholesale(overlap, overlap.in_validation) else "note"


def _long(overlap: OverlapEvidence, rows: np.ndarray) -> int:
    """How many of the marked rows have a text that two people hardly write alike."""
    return sum(len(overlap.texts[row].split()) >= SAME_WORDS for row in np.flatnonzero(rows).tolist())


def _wholesale(overlap: OverlapEvidence, rows: np.ndarray) -> bool:
    """Whether half of the distinct texts are marked, however short they are."""
    marked = len(distinct(text_keys(overlap.texts[row] for row in np.flatnonzero(rows).tolist())))
    texts = len(distinct(text_keys(overlap.texts))) if marked else 0
    return texts >= WHOLESALE_ROWS and marked >= WHOLESALE * texts
