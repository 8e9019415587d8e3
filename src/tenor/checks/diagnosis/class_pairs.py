"""Two namings of the same classes: the labels' and the predictions', or the classes' and the score columns'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lgamma, log

import numpy as np

from tenor.checks.diagnosis.class_cells import ClassColumn, in_order, usual_order
from tenor.checks.rules.evl_measures import best_relabelling
from tenor.checks.rules.evl_ranking import ALPHA, GOOD_ACCURACY, RELABELLING_GAIN, binomial_tail

TRUTH = ("false", "true")
AGREES = 0.9
"""Share of the rows whose predicted class is the most probable one, from which on the columns' order is certain. Below
lie predictions by a threshold far from the middle."""


@dataclass(frozen=True)
class Pairs:
    """How the classes of one side are read as those of the other."""

    of: Mapping[str, str]
    """Other side's key → own key."""
    how: str
    """Why so, in words."""
    certain: bool = True
    """Whether both are usual spellings of one thing, such as true and 1; else the two sides are named differently."""


@dataclass(frozen=True, eq=False)
class ClassifiedRows:
    """Labels and predictions under one naming of the classes."""

    label: ClassColumn
    predicted: ClassColumn | None
    pairs: Pairs | None = None
    """How predictions are read, where no class has the same name on both sides."""

    @property
    def said(self) -> list[str] | None:
        """The predicted classes per row, as the labels name them."""
        return None if self.predicted is None else [self.own(key) for key in self.predicted.keys]

    @property
    def classes(self) -> list[str]:
        """All that occur, in order."""
        return in_order({*self.label.keys, *(self.said or ())})

    def own(self, key: str) -> str:
        """A class of the predictions, or of the scores, as the labels name it."""
        return self.pairs.of.get(key, key) if self.pairs else key

    def shown(self, key: str) -> str:
        """A class as the file writes it."""
        known = [self.label, *([self.predicted] if self.predicted is not None and self.pairs is None else [])]
        return next((column.shown(key) for column in known if key in column.spellings), key)


def pair_predictions(labels: Sequence[str], predicted: Sequence[str], score_names: Sequence[str]) -> Pairs | None:
    """How predictions are read as labels where no class has the same name on both sides; None where nothing says it.

    `score_names` are the classes that score columns are named after, in the order of the file.
    """
    own, other = set(labels), set(predicted)
    for booleans, numbers in ((own, other), (other, own)):
        if booleans <= set(TRUTH) and numbers <= {"0", "1"}:
            pairs = dict(zip(TRUTH, ("0", "1"), strict=True))
            pairs = pairs if booleans is other else {number: word for word, number in pairs.items()}
            return Pairs(pairs, "false is 0 and true is 1")
    positions = [str(place) for place in range(len(score_names))]
    for numbers, names in ((own, other), (other, own)):
        if numbers <= set(positions) and names <= set(score_names) and not _is_against_usual_order(score_names):
            pairs = dict(zip(score_names, positions, strict=True))
            pairs = pairs if numbers is own else {number: name for name, number in pairs.items()}
            return Pairs(pairs, "numbers are the places of the score columns")
    length = max(len(own), len(other))
    usual = [usual_order(one, k) for k in (length, 3) for one in (own, other)]
    for one, two in (usual[:2], usual[2:]):
        pairs = dict(zip(two, one, strict=False))
        read = {pairs.get(key) for key in other}
        # 1 and 2 are not what 0, 1 and 2 are for negative and positive.
        if len(one) == len(two) > 0 and (read <= own or own <= read):
            return Pairs(pairs, "in their usual order", certain=False)
    return _pairs_by_rows(labels, predicted)


def _pairs_by_rows(labels: Sequence[str], predicted: Sequence[str]) -> Pairs | None:
    """The one-to-one reading that makes most predictions right, where it surely makes a good classifier of them."""
    own, other = in_order(labels), in_order(predicted)
    size, n = len(own), len(labels)
    if size < 2 or len(other) > size:
        return None
    counts = _counts(labels, own, predicted, other, size)
    order = best_relabelling(counts)
    paired = counts[order, np.arange(size)]
    majority = counts.sum(axis=1).max() / n
    is_most_frequent = (np.sort(counts, axis=0)[-2] < paired)[: len(other)].all()
    chance = log(max(binomial_tail(n - int(paired.sum()), n, 1 - majority), 1e-300)) + lgamma(size + 1)
    is_good = paired.sum() >= max(GOOD_ACCURACY, majority + RELABELLING_GAIN) * n
    if not (is_most_frequent and is_good and chance <= log(ALPHA)):
        return None
    pairs = {key: own[order[place]] for place, key in enumerate(other)}
    return Pairs(pairs, "by the rows, so that most are right", certain=False)


def _counts(
    first: Sequence[str], first_keys: Sequence[str], second: Sequence[str], second_keys: Sequence[str], size: int
) -> np.ndarray:
    """How often each key of the one comes with each key of the other, shape (size, size)."""
    rows, columns = ({key: k for k, key in enumerate(keys)} for keys in (first_keys, second_keys))
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, ([rows[key] for key in first], [columns[key] for key in second]), 1)
    return counts


def place_columns(
    classes: Sequence[str], names: Sequence[str], values: np.ndarray, predicted: Sequence[str] | None
) -> tuple[dict[str, int], str] | None:
    """Class → its score column, where the columns are not named after the classes; None where nothing says it.

    `names` are the columns' own, in the order of the file, `values` their scores (n, columns), `predicted` the classes
    per row. The second value says why, in words.
    """
    if len(names) < len(classes):
        return None
    if predicted is not None and (found := _by_most_probable(classes, values, predicted)):
        return found, "as the predicted classes have the highest score"
    positions = [str(place) for place in range(len(names))]
    if set(classes) <= set(positions) and not _is_against_usual_order(names) and not set(names) & set(positions):
        return {name: place for place, name in enumerate(positions) if name in classes}, "in the order of the file"
    usual, own = usual_order(classes, len(names)), usual_order(names, len(names))
    # Columns in the order positive, negative may be those of a model that numbers them so.
    is_plain = set(names) == set(TRUTH) or not _is_against_usual_order(names)
    if usual and set(own) == set(names) and is_plain:
        return {key: list(names).index(own[usual.index(key)]) for key in classes}, "in their usual order"
    return None


def _by_most_probable(classes: Sequence[str], values: np.ndarray, predicted: Sequence[str]) -> dict[str, int]:
    whole = np.isfinite(values).all(axis=1)
    if not whole.any():
        return {}
    places = [str(place) for place in range(values.shape[1])]
    highest = [places[place] for place in values[whole].argmax(axis=1)]
    said = [key for key, is_whole in zip(predicted, whole, strict=True) if is_whole]
    counts = _counts(highest, places, said, classes, len(places))
    order = best_relabelling(counts)
    if counts[order, np.arange(len(order))].sum() < AGREES * counts.sum():
        return {}
    never = [place for place in range(len(classes)) if not counts[:, place].any()]
    # A class that is never predicted is in the one column that is left, or in no one knows which.
    if never and not (len(never) == 1 and len(classes) == values.shape[1]):
        return {}
    return {key: int(order[place]) for place, key in enumerate(classes)}


def _is_against_usual_order(names: Sequence[str]) -> bool:
    """Whether columns stand otherwise than their names are usually numbered: positive before negative."""
    usual = [key for key in usual_order(names, len(names)) if key in names]
    return bool(usual) and usual != list(names)
