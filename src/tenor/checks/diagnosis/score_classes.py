"""Which class each score belongs to: by the columns' names, by the predicted classes, or by the usual order of classes.

Where none of them says it, the scores are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenor.checks.diagnosis.class_cells import are_numbers, in_order, listed, usual_order
from tenor.checks.diagnosis.class_pairs import AGREES, ClassifiedRows, place_columns
from tenor.checks.diagnosis.score_columns import OF_PREDICTED, PERCENT, ScoreSet, probabilities_of, sums_to_one
from tenor.errors import UserError

CONFIDENT = 0.5
"""Of two classes, the probability of the predicted one is never below it."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Probabilities and their classes."""

    classes: list[str]
    """Of the columns of `values`, in their order."""
    values: np.ndarray | None
    """Shape (n, K); None for the probability of the predicted class alone, of more than two classes."""
    note: str


class UnresolvedError(Exception):
    """Scores whose classes nothing says; the reason, for people."""


def scored_rows(rows: ClassifiedRows, sets: Sequence[ScoreSet], where: str) -> tuple[Scored | None, list[str]]:
    """The first set of scores whose classes are known, if there is one, and the columns that are of no class.

    Raises UserError where scores are of classes, and nothing says of which.
    """
    reasons: list[str] = []
    unused: list[str] = []
    for scores in sets:
        try:
            if len(scores.of) > 1:
                return _of_several(scores, rows), unused
            return _of_one(scores, rows), unused
        except UnresolvedError as reason:
            reasons.append(str(reason))
            unused += scores.columns
    if reasons and (rows.predicted is None or any(_is_about_classes(scores, rows) for scores in sets)):
        raise UserError(f"{where}: {reasons[0]}")
    return None, unused


def _is_about_classes(scores: ScoreSet, rows: ClassifiedRows) -> bool:
    """Whether scores that were not understood should be: not p_value, nor score_bleu with score_rouge."""
    named = any(not key or rows.own(key) in rows.classes for key in scores.of)
    return named or (len(scores.of) > 1 and _are_of_classes(scores))


def _are_of_classes(scores: ScoreSet) -> bool:
    """Whether several scores look like those of classes that exclude each other."""
    if scores.unit == "probability" or scores.unit == "score":
        negative = scores.unit == "score" and bool((scores.values < 0).any())
        return negative or sums_to_one(scores.values) or sums_to_one(scores.values / PERCENT)
    return True


def _of_several(scores: ScoreSet, rows: ClassifiedRows) -> Scored:
    values, how = probabilities_of(scores)
    names, classes = [rows.own(key) for key in scores.of], rows.classes
    matched = [place for place, name in enumerate(names) if name in classes]
    if set(classes) <= set(names) and len(set(names)) == len(names):
        others = len(matched) < len(names)
        if others and len(matched) > 1 and not sums_to_one(values) and sums_to_one(values[:, matched]):
            left_out = [name for place, name in enumerate(scores.columns) if place not in matched]
            names, values, scores = [names[k] for k in matched], values[:, matched], scores.only(matched)
            how = f"{how}; {listed(left_out)} left out, as the others sum to 1"
        order = [names.index(key) for key in _columns_in_order(names)]
        return Scored([names[k] for k in order], values[:, order], _described(scores.only(order), how))
    placed = place_columns(classes, names, values, rows.said) if _are_of_classes(scores) else None
    if placed is None:
        lacking = [rows.shown(key) for key in classes if key not in names]
        raise UnresolvedError(
            f"{len(classes)} classes ({listed(map(rows.shown, classes))}), but scores of {len(names)}: "
            f"{listed(scores.columns)}. No column is named after {listed(lacking)}, and which one it is can't be told. "
            f"Name one column after each class, such as prob_{lacking[0] if lacking else 'CLASS'}."
        )
    columns, why = placed
    key_of = {place: key for key, place in columns.items()}
    found = [key_of.get(place, f"of {name}") for place, name in enumerate(scores.columns)]
    order = [found.index(key) for key in classes] + [place for place in range(len(found)) if place not in key_of]
    return Scored([found[k] for k in order], values[:, order], f"{_described(scores.only(order), how)}, {why}")


def _columns_in_order(names: list[str]) -> list[str]:
    """Numbers and usual orders sorted, other names as they stand."""
    known = are_numbers(names) or set(usual_order(names, len(names))) == set(names)
    return in_order(names) if known else names


def _of_one(scores: ScoreSet, rows: ClassifiedRows) -> Scored:
    """One score per row: of a class that the column names, of the usual positive class, or of the predicted one."""
    values, how = probabilities_of(scores)
    name, classes = scores.columns[0], rows.classes
    named = rows.own(scores.of[0])
    if len(classes) > 2 or (scores.word == OF_PREDICTED and not scores.of[0]):
        return _of_predicted(scores, rows, values[:, 0])
    positive, why = (_class_named(named, classes), "") if named else _positive_class(values[:, 0], rows, scores)
    if positive is None:
        raise UnresolvedError(
            f"column {name} is named after none of the classes {listed(map(rows.shown, classes))}. Name it after the "
            f"one whose scores it holds, such as prob_{rows.shown(classes[-1])}."
        )
    if positive == "":
        return _of_predicted(scores, rows, values[:, 0])
    both = _with_other(positive, classes)
    place = both.index(positive)
    two = np.concatenate([1 - values, values] if place else [values, 1 - values], axis=1)
    return Scored(both, two, f"{name} ({how}) of class {rows.shown(positive)}{why}")


def _class_named(key: str, classes: list[str]) -> str | None:
    """The class that a score column's name means: itself, or the one at the same place of the usual order."""
    if key in classes or len(classes) < 2:
        return key
    usual, own = usual_order(classes, 2), usual_order([key], 2)
    return usual[own.index(key)] if usual and own else None


def _positive_class(values: np.ndarray, rows: ClassifiedRows, scores: ScoreSet) -> tuple[str | None, str]:
    """Whose probability a column without a class's name holds, and why; "" for that of the predicted class."""
    classes, name = rows.classes, scores.columns[0]
    usual = usual_order(classes, 2)
    sure = bool((values[np.isfinite(values)] >= CONFIDENT).all())
    if rows.said is None:
        if usual and not (sure and len(classes) == 2 and scores.word == "score" and not are_numbers(classes)):
            return usual[1], ", as the usual positive class"
        raise UnresolvedError(
            f"column {name} is named after no class, and there is no column of predicted classes: it may belong to "
            f"any of {listed(map(rows.shown, classes))}. Name it after its class, such as "
            f"prob_{rows.shown(classes[-1])}; if "
            f"{rows.label.name} is what was predicted, name that column prediction and add the true class as label."
        )
    said = np.array(rows.said)
    agreement = {key: float(((said == key) == (values >= CONFIDENT)).mean()) for key in (*classes, *usual)}
    # Where every score is sure and a prediction is negative, only that of the predicted class agrees with all rows.
    if usual and agreement[usual[1]] >= (1 if sure else AGREES):
        return usual[1], ", as the usual positive class"
    if sure:
        return "", ""
    if usual:
        return usual[1], ", as the usual positive class"
    best = max(classes, key=lambda key: agreement[key])
    if agreement[best] >= AGREES:
        return best, ", as the predicted classes show"
    raise UnresolvedError(
        f"column {name} is named after no class, and the predicted classes don't show whose it is. Name it after its "
        f"class, such as prob_{rows.shown(classes[-1])}."
    )


def _of_predicted(scores: ScoreSet, rows: ClassifiedRows, values: np.ndarray) -> Scored:
    """The probability of the predicted class: of two classes, it gives that of the other one as well."""
    name, classes = scores.columns[0], rows.classes
    if rows.said is None or (scores.of[0] and rows.own(scores.of[0]) in classes):
        raise UnresolvedError(
            f"{len(classes)} classes ({listed(map(rows.shown, classes))}), but scores of one: {name}. Add a column of "
            f"scores for each class, such as prob_{rows.shown(classes[0])}, or one of predicted classes."
        )
    if scores.of[0]:
        raise UnresolvedError(f"column {name} is named after none of the classes")
    note = f"{name} of the predicted class"
    if len(classes) > 2:
        return Scored(classes, None, f"{note}, which says nothing of the other ones and is not used")
    both = _with_other(classes[0], classes)
    of_second = np.where(np.array(rows.said) == both[1], values, 1 - values)
    return Scored(both, np.stack([1 - of_second, of_second], axis=1), note)


def _with_other(key: str, classes: list[str]) -> list[str]:
    """A class and the other one of two, in order; the other one may not occur in the rows."""
    others = [one for one in classes if one != key] or [one for one in usual_order([key], 2) if one != key]
    return in_order([key, *(others or [f"not {key}"])])


def _described(scores: ScoreSet, how: str) -> str:
    return f"{listed(scores.columns)} ({how})"
