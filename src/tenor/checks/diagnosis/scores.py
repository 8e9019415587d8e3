"""Columns of scores: which there are, the class of each, and the probabilities that they are or can be turned into."""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tenor.checks.diagnosis.columns import (
    AGREES,
    ClassifiedRows,
    Sheet,
    are_numbers,
    class_key,
    in_order,
    listed,
    place_columns,
    usual_order,
)
from tenor.errors import UserError

Unit = Literal["probability", "score", "logit", "log probability"]
UNITS: dict[str, Unit] = {
    **dict.fromkeys(("probability", "probabilities", "proba", "probas", "probs", "prob", "p"), "probability"),
    **dict.fromkeys(("softmax", "confidence"), "probability"),
    **dict.fromkeys(("scores", "score"), "score"),
    **dict.fromkeys(("logits", "logit"), "logit"),
    **dict.fromkeys(
        ("log_probability", "log_proba", "log_probs", "log_prob", "logprobs", "logprob"), "log probability"
    ),
}
"""What a column is called → what it holds; a score is a probability where it can be one, else a logit."""
OF_PREDICTED = "confidence"
"""The word for the probability of the predicted class."""
WORDS = "|".join(sorted(UNITS, key=len, reverse=True))
BEFORE = re.compile(
    rf"(?:(?:y_pred|y|pred|predicted|prediction|model)[ _.-])?(?P<word>{WORDS})"
    rf"(?:(?:[ _.:/]+|-)(?P<of>.+)|(?P<number>\d+)|[(\[](?P<within>.+)[)\]])?"
)
AFTER = re.compile(rf"(?P<of>.+?)[ _.:/-]+(?P<word>{WORDS})")
PERCENT = 100.0
SUM_APART = 0.01
"""Of 1, or of 100 percent: rounded to two decimals, scores of ten classes still sum to it."""


@dataclass(frozen=True, eq=False)
class ScoreSet:
    """Columns that belong together: one per class, or one alone."""

    word: str
    """What they are called."""
    of: tuple[str, ...]
    """Keys of the classes that they are named after; "" for a column without one, "0", "1", … for places in a list."""
    columns: tuple[str, ...]
    """Their names in the file."""
    values: np.ndarray
    """Shape (n, columns), float64, as in the file."""

    @property
    def unit(self) -> Unit:
        return UNITS.get(self.word, "score")

    def only(self, places: Sequence[int]) -> "ScoreSet":
        """Some of the columns, in this order."""
        chosen = list(places)
        of, columns = tuple(self.of[k] for k in chosen), tuple(self.columns[k] for k in chosen)
        return ScoreSet(self.word, of, columns, self.values[:, chosen])


def score_sets(sheet: Sheet, taken: Sequence[str], classes: Sequence[str]) -> tuple[list[ScoreSet], list[str]]:
    """The sets of score columns in a file, the likeliest first, and the columns that look like scores and are none.

    `taken` are columns of another meaning, `classes` the keys of the classes that labels and predictions have.
    Raises UserError for a cell that is no number, in a column that is named after a class.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name in (name for name in sheet.names if name not in taken):
        word, of = _meaning(name, classes)
        if word is not None:
            found.setdefault(word, []).append((of, name))
    sets, ignored = [], []
    for word, columns in sorted(found.items(), key=lambda one: _rank(one[0])):
        named = [one for one in columns if one[0]]
        for group in [named, [one for one in columns if not one[0]]]:
            made = _score_set(sheet, word, group, classes) if group else None
            if made is not None:
                sets.append(made)
            else:
                ignored += [name for _, name in group]
    return sorted(sets, key=lambda one: not set(one.of) & set(classes)), ignored


def probabilities_of(scores: ScoreSet) -> tuple[np.ndarray, str]:
    """Probabilities, shape (n, K) or (n, 1), and what was done in words.

    What is called a probability and can be none is left as it is, for rule EVL014 to report.
    """
    values, unit = scores.values, scores.unit
    finite = values[np.isfinite(values).all(axis=1)]
    outside = bool(((finite < 0) | (finite > 1)).any())
    if unit in ("probability", "score") and outside and _is_percent(finite):
        return values / PERCENT, "percent"
    if unit == "logit" or unit == "log probability" or (unit == "score" and outside):
        if values.shape[1] == 1:
            with np.errstate(over="ignore"):
                return (np.exp(values) if unit == "log probability" else 1 / (1 + np.exp(-values))), f"from {unit}s"
        with np.errstate(invalid="ignore"):
            powers = np.exp(values - values.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True), "logits" if unit == "score" else f"from {unit}s"
    return values, "probabilities"


def sums_to_one(values: np.ndarray) -> bool:
    """Whether the rows are distributions, as far as rounding lets one tell; NaN is left out."""
    sums = values[np.isfinite(values).all(axis=1)].sum(axis=1)
    return bool(len(sums)) and bool((np.abs(sums - 1) <= SUM_APART).all())


def _is_percent(values: np.ndarray) -> bool:
    """Whether rows of several scores sum to 100, or single ones reach beyond 1 and lie within 0 … 100."""
    if not len(values) or values.min() < 0 or values.max() > PERCENT * (1 + SUM_APART):
        return False
    return values.shape[1] == 1 or sums_to_one(values / PERCENT)


def _meaning(name: str, classes: Sequence[str]) -> tuple[str | None, str]:
    """The word for the scores in a column, and the key of the class it is named after; (None, "") for no score."""
    plain = " ".join(name.split()).casefold()
    if class_key(plain) in classes:
        return "", class_key(plain)
    if match := BEFORE.fullmatch(plain):
        return match["word"], class_key(match["of"] or match["number"] or match["within"] or "")
    if (match := AFTER.fullmatch(plain)) and class_key(match["of"]) in classes:
        return match["word"], class_key(match["of"])
    return None, ""


def _rank(word: str) -> int:
    """Probabilities before what must be turned into some."""
    order: tuple[Unit, ...] = ("probability", "score", "log probability", "logit")
    return order.index(UNITS.get(word, "score"))


def _score_set(sheet: Sheet, word: str, group: list[tuple[str, str]], classes: Sequence[str]) -> ScoreSet | None:
    """The columns' numbers; None where they hold none, and no name says that they should."""
    cells = [sheet.read(name) for _, name in group]
    if len(group) == 1 and (lists := _lists(cells[0], group[0][1], sheet)) is not None:
        of, values = lists
        return ScoreSet(word, of, tuple(f"{group[0][1]}[{one}]" for one in of), values)
    numbers = []
    for (key, name), column in zip(group, cells, strict=True):
        parsed = [_number(cell) for cell in column]
        wrong = next((row for row, value in enumerate(parsed) if value is None), None)
        if wrong is not None and (key in classes or any(value == value for value in parsed if value is not None)):
            raise UserError(
                f"{sheet.path}: row {wrong + 1:,} of column {name} holds {str(column[wrong])[:40]!r}; expected a "
                f"number with a decimal point. Correct it, or rename the column if it is no score."
            )
        if wrong is not None:
            return None
        numbers.append(parsed)
    values = np.array(numbers, dtype=np.float64).T
    if _all_end_in_percent(cells):
        values = values / PERCENT
    return ScoreSet(word, tuple(of for of, _ in group), tuple(name for _, name in group), values)


def _number(cell: Any) -> float | None:
    """NaN for a missing cell, which EVL014 reports; None for what is no number."""
    if cell is None:
        return float("nan")
    if isinstance(cell, bool) or not isinstance(cell, str):
        try:
            return None if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            return None
    text = cell.strip().removesuffix("%").strip()
    if not text or text.casefold() in ("none", "null", "na", "n/a"):
        return float("nan")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _all_end_in_percent(cells: list[list[Any]]) -> bool:
    texts = [cell.strip() for column in cells for cell in column if isinstance(cell, str) and cell.strip()]
    return bool(texts) and all(text.endswith("%") for text in texts)


def _lists(cells: list[Any], name: str, sheet: Sheet) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Scores of all classes in each cell: a list, a mapping, or one of both as text; None for anything else."""
    parsed = [_as_mapping(cell) for cell in cells]
    if not parsed or parsed[0] is None:
        return None
    of = tuple(parsed[0])
    rows = [None if row is None else [_number(row[key]) if key in row else None for key in of] for row in parsed]
    wrong = next(
        (k for k, row in enumerate(rows) if row is None or None in row or len(parsed[k] or ()) != len(of)), None
    )
    if wrong is not None:
        raise UserError(
            f"{sheet.path}: row {wrong + 1:,} of column {name} holds {str(cells[wrong])[:60]!r}; expected the "
            f"scores of {len(of)} classes ({listed(of)}), as in the first row."
        )
    return of, np.array(rows, dtype=np.float64)


def _as_mapping(cell: Any) -> dict[str, Any] | None:
    """Class key → score; positions are the keys of a list."""
    if isinstance(cell, str):
        cell = _parsed(cell.strip().removeprefix("tensor(").removesuffix(")"))
    if (
        isinstance(cell, list)
        and cell
        and all(isinstance(one, dict) and {"label", "score"} <= set(one) for one in cell)
    ):
        cell = {str(one["label"]): one["score"] for one in cell}  # As transformers' pipeline gives them.
    if isinstance(cell, dict) and cell:
        return {class_key(str(key)): value for key, value in cell.items()}
    return {str(place): value for place, value in enumerate(cell)} if isinstance(cell, list) and cell else None


def _parsed(text: str) -> Any:
    if not text.startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)  # As Python prints lists of mappings, and pandas writes them to CSV.
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
        return re.split(r"[,\s]+", inner.strip()) if inner.strip() else None  # As NumPy prints an array.


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
