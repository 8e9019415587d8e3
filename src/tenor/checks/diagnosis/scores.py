"""Columns of scores: find them, determine the class of each, and convert them to probabilities."""

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
"""Word in a column's name → unit of its values; a score is read as a probability if all its values allow it, else as a
logit."""
OF_PREDICTED = "confidence"
"""A column of this name contains the probability of the predicted class."""
WORDS = "|".join(sorted(UNITS, key=len, reverse=True))
BEFORE = re.compile(
    rf"(?:(?:y_pred|y|pred|predicted|prediction|model)[ _.-])?(?P<word>{WORDS})"
    rf"(?:(?:[ _.:/]+|-)(?P<of>.+)|(?P<number>\d+)|[(\[](?P<within>.+)[)\]])?"
)
AFTER = re.compile(rf"(?P<of>.+?)[ _.:/-]+(?P<word>{WORDS})")
PERCENT = 100.0
SUM_TOLERANCE = 0.01
"""Difference from a sum of 1: scores of ten classes, rounded to two decimals, may differ by this much."""


@dataclass(frozen=True, eq=False)
class ScoreSet:
    """Columns that belong together: one per class, or a single one."""

    word: str
    """The word in their names, a key of `UNITS`, or "" for columns named after a class only."""
    of: tuple[str, ...]
    """Keys of the classes in their names; "" for a column without one, "0", "1", … for positions in a list."""
    columns: tuple[str, ...]
    """Their names in the file."""
    values: np.ndarray
    """Shape (n, columns), float64, as in the file."""

    @property
    def unit(self) -> Unit:
        return UNITS.get(self.word, "score")

    def only(self, places: Sequence[int]) -> "ScoreSet":
        """Some of the columns, in the given order."""
        chosen = list(places)
        of, columns = tuple(self.of[k] for k in chosen), tuple(self.columns[k] for k in chosen)
        return ScoreSet(self.word, of, columns, self.values[:, chosen])


def score_sets(sheet: Sheet, taken: Sequence[str], classes: Sequence[str]) -> tuple[list[ScoreSet], list[str]]:
    """The sets of score columns in a file, the likeliest first, and the columns named like scores that contain none.

    `taken` are columns with another meaning, `classes` the keys of the classes in labels and predictions.
    Raises UserError for a cell that is not a number in a column named after a class.
    """
    by_word: dict[str, list[tuple[str, str]]] = {}
    for name in (name for name in sheet.names if name not in taken):
        word, of = _meaning(name, classes)
        if word is not None:
            by_word.setdefault(word, []).append((of, name))
    sets, ignored = [], []
    for word, columns in sorted(by_word.items(), key=lambda item: _rank(item[0])):
        named = [column for column in columns if column[0]]
        for group in [named, [column for column in columns if not column[0]]]:
            scores = _score_set(sheet, word, group, classes) if group else None
            if scores is not None:
                sets.append(scores)
            else:
                ignored += [name for _, name in group]
    return sorted(sets, key=lambda scores: not set(scores.of) & set(classes)), ignored


def probabilities_of(scores: ScoreSet) -> tuple[np.ndarray, str]:
    """Probabilities, shape (n, K) or (n, 1), and the conversion as text.

    Values that are called probabilities but are out of range stay unchanged: rule EVL014 reports them.
    """
    from scipy.special import expit, softmax

    values, unit = scores.values, scores.unit
    finite = values[np.isfinite(values).all(axis=1)]
    outside = bool(((finite < 0) | (finite > 1)).any())
    if unit in ("probability", "score") and outside and _is_percent(finite):
        return values / PERCENT, "percent"
    if unit == "logit" or unit == "log probability" or (unit == "score" and outside):
        if values.shape[1] == 1:
            with np.errstate(over="ignore"):
                return (np.exp(values) if unit == "log probability" else expit(values)), f"from {unit}s"
        with np.errstate(invalid="ignore"):
            return softmax(values, axis=1), "logits" if unit == "score" else f"from {unit}s"
    return values, "probabilities"


def sums_to_one(values: np.ndarray) -> bool:
    """Whether every row without NaN sums to 1, up to rounding."""
    sums = values[np.isfinite(values).all(axis=1)].sum(axis=1)
    return bool(len(sums)) and bool((np.abs(sums - 1) <= SUM_TOLERANCE).all())


def _is_percent(values: np.ndarray) -> bool:
    """Whether rows of several scores sum to 100, or single scores are within 0 … 100."""
    if not len(values) or values.min() < 0 or values.max() > PERCENT * (1 + SUM_TOLERANCE):
        return False
    return values.shape[1] == 1 or sums_to_one(values / PERCENT)


def _meaning(name: str, classes: Sequence[str]) -> tuple[str | None, str]:
    """The word for scores in a column's name and the key of the class in it; (None, "") if it contains no scores."""
    plain = " ".join(name.split()).casefold()
    if class_key(plain) in classes:
        return "", class_key(plain)
    if match := BEFORE.fullmatch(plain):
        return match["word"], class_key(match["of"] or match["number"] or match["within"] or "")
    if (match := AFTER.fullmatch(plain)) and class_key(match["of"]) in classes:
        return match["word"], class_key(match["of"])
    return None, ""


def _rank(word: str) -> int:
    """Probabilities before what must be converted to them."""
    order: tuple[Unit, ...] = ("probability", "score", "log probability", "logit")
    return order.index(UNITS.get(word, "score"))


def _score_set(sheet: Sheet, word: str, group: list[tuple[str, str]], classes: Sequence[str]) -> ScoreSet | None:
    """The columns as numbers; None if a column is not numeric and no class name says that it should be."""
    cells = [sheet.read(name) for _, name in group]
    if len(group) == 1 and (lists := _lists(cells[0], group[0][1], sheet)) is not None:
        of, values = lists
        return ScoreSet(word, of, tuple(f"{group[0][1]}[{key}]" for key in of), values)
    numbers = []
    for (key, name), column in zip(group, cells, strict=True):
        parsed = [_number(cell) for cell in column]
        wrong = next((row for row, value in enumerate(parsed) if value is None), None)
        if wrong is not None and (key in classes or any(value == value for value in parsed if value is not None)):
            raise UserError(
                f"{sheet.path}: row {wrong + 1:,} of column {name} is {str(column[wrong])[:40]!r}; expected a "
                f"number with a decimal point. Correct it, or rename the column if it does not contain scores."
            )
        if wrong is not None:
            return None
        numbers.append(parsed)
    values = np.array(numbers, dtype=np.float64).T
    if _all_end_in_percent(cells):
        values = values / PERCENT
    return ScoreSet(word, tuple(of for of, _ in group), tuple(name for _, name in group), values)


def _number(cell: Any) -> float | None:
    """NaN for a missing cell, which EVL014 reports; None for a value that is not a number."""
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
    """Scores of all classes in each cell: a list or a mapping, as a value or as text; None for anything else."""
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
            f"{sheet.path}: row {wrong + 1:,} of column {name} is {str(cells[wrong])[:60]!r}; expected the "
            f"scores of {len(of)} classes ({listed(of)}), as in the first row."
        )
    return of, np.array(rows, dtype=np.float64)


def _as_mapping(cell: Any) -> dict[str, Any] | None:
    """Class key → score; the keys of a list are its positions."""
    if isinstance(cell, str):
        cell = parsed_cell(cell.strip().removeprefix("tensor(").removesuffix(")"))
    if (
        isinstance(cell, list)
        and cell
        and all(isinstance(entry, dict) and {"label", "score"} <= set(entry) for entry in cell)
    ):
        cell = {str(entry["label"]): entry["score"] for entry in cell}  # The output of transformers' pipeline.
    if isinstance(cell, dict) and cell:
        return {class_key(str(key)): value for key, value in cell.items()}
    return {str(place): value for place, value in enumerate(cell)} if isinstance(cell, list) and cell else None


def parsed_cell(text: str) -> Any:
    """The list or mapping that a cell of text writes, as JSON, Python or NumPy; None for other text."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)  # Python's repr, which pandas writes to CSV.
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
        return re.split(r"[,\s]+", inner.strip()) if inner.strip() else None  # A printed NumPy array.


CONFIDENT = 0.5
"""With two classes, the probability of the predicted class is at least this."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Probabilities and their classes."""

    classes: list[str]
    """One for each column of `values`."""
    values: np.ndarray | None
    """Shape (n, K); None if only the predicted class of more than two has a probability."""
    note: str


class UnresolvedError(Exception):
    """The classes of the scores cannot be determined; the message says why."""


def scored_rows(rows: ClassifiedRows, sets: Sequence[ScoreSet], where: str) -> tuple[Scored | None, list[str]]:
    """The first set of scores whose classes are known, if any, and the columns whose classes are not.

    Raises UserError if scores belong to classes and nothing determines to which.
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
    if reasons and (rows.predicted is None or any(_should_have_classes(scores, rows) for scores in sets)):
        raise UserError(f"{where}: {reasons[0]}")
    return None, unused


def _should_have_classes(scores: ScoreSet, rows: ClassifiedRows) -> bool:
    """Whether unresolved scores belong to classes, unlike p_value, or score_bleu with score_rouge."""
    named = any(not key or rows.as_label(key) in rows.classes for key in scores.of)
    return named or (len(scores.of) > 1 and _are_of_classes(scores))


def _are_of_classes(scores: ScoreSet) -> bool:
    """Whether several scores look like those of mutually exclusive classes."""
    if scores.unit == "probability" or scores.unit == "score":
        negative = scores.unit == "score" and bool((scores.values < 0).any())
        return negative or sums_to_one(scores.values) or sums_to_one(scores.values / PERCENT)
    return True


def _of_several(scores: ScoreSet, rows: ClassifiedRows) -> Scored:
    values, how = probabilities_of(scores)
    names, classes = [rows.as_label(key) for key in scores.of], rows.classes
    matched = [place for place, name in enumerate(names) if name in classes]
    if set(classes) <= set(names) and len(set(names)) == len(names):
        others = len(matched) < len(names)
        if others and len(matched) > 1 and not sums_to_one(values) and sums_to_one(values[:, matched]):
            left_out = [name for place, name in enumerate(scores.columns) if place not in matched]
            names, values, scores = [names[k] for k in matched], values[:, matched], scores.only(matched)
            how = f"{how}; {listed(left_out)} left out, as the others sum to 1"
        order = [names.index(key) for key in _columns_in_order(names)]
        return Scored([names[k] for k in order], values[:, order], _described(scores.only(order), how))
    placed = place_columns(classes, names, values, rows.predicted_classes) if _are_of_classes(scores) else None
    if placed is None:
        missing = [rows.shown(key) for key in classes if key not in names]
        raise UnresolvedError(
            f"{len(classes)} classes ({listed(map(rows.shown, classes))}), but scores of {len(names)}: "
            f"{listed(scores.columns)}. No column is named after {listed(missing)}, and its column is ambiguous. "
            f"Name one column after each class, such as prob_{missing[0] if missing else 'CLASS'}."
        )
    columns, why = placed
    key_of = {place: key for key, place in columns.items()}
    keys = [key_of.get(place, f"of {name}") for place, name in enumerate(scores.columns)]
    order = [keys.index(key) for key in classes] + [place for place in range(len(keys)) if place not in key_of]
    return Scored([keys[k] for k in order], values[:, order], f"{_described(scores.only(order), how)}, {why}")


def _columns_in_order(names: list[str]) -> list[str]:
    """Numbers and names with a usual order sorted, other names in the order of the file."""
    has_order = are_numbers(names) or set(usual_order(names, len(names))) == set(names)
    return in_order(names) if has_order else names


def _of_one(scores: ScoreSet, rows: ClassifiedRows) -> Scored:
    """One score per row: of the class in the column's name, of the usual positive class, or of the predicted class."""
    values, how = probabilities_of(scores)
    name, classes = scores.columns[0], rows.classes
    named = rows.as_label(scores.of[0])
    if len(classes) > 2 or (scores.word == OF_PREDICTED and not scores.of[0]):
        return _of_predicted(scores, rows, values[:, 0])
    positive, why = (_class_named(named, classes), "") if named else _positive_class(values[:, 0], rows, scores)
    if positive is None:
        raise UnresolvedError(
            f"column {name} is named after none of the classes {listed(map(rows.shown, classes))}. Name it after the "
            f"class of its scores, such as prob_{rows.shown(classes[-1])}."
        )
    if positive == "":
        return _of_predicted(scores, rows, values[:, 0])
    both = _with_other(positive, classes)
    place = both.index(positive)
    two = np.concatenate([1 - values, values] if place else [values, 1 - values], axis=1)
    return Scored(both, two, f"{name} ({how}) of class {rows.shown(positive)}{why}")


def _class_named(key: str, classes: list[str]) -> str | None:
    """The class in a score column's name, or the class at the same position of the usual order."""
    if key in classes or len(classes) < 2:
        return key
    usual, own = usual_order(classes, 2), usual_order([key], 2)
    return usual[own.index(key)] if usual and own else None


def _positive_class(values: np.ndarray, rows: ClassifiedRows, scores: ScoreSet) -> tuple[str | None, str]:
    """The class whose probability a column without a class name contains, and why; "" for the predicted class."""
    classes, name = rows.classes, scores.columns[0]
    usual = usual_order(classes, 2)
    all_confident = bool((values[np.isfinite(values)] >= CONFIDENT).all())
    if rows.predicted_classes is None:
        if usual and not (all_confident and len(classes) == 2 and scores.word == "score" and not are_numbers(classes)):
            return usual[1], ", as the usual positive class"
        raise UnresolvedError(
            f"column {name} is named after no class, and there is no column of predicted classes: it may belong to "
            f"any of {listed(map(rows.shown, classes))}. Name it after its class, such as "
            f"prob_{rows.shown(classes[-1])}; if "
            f"{rows.label.name} is what was predicted, name that column prediction and add the true class as label."
        )
    predicted = np.array(rows.predicted_classes)
    agreement = {key: float(((predicted == key) == (values >= CONFIDENT)).mean()) for key in (*classes, *usual)}
    # If all scores are at least 0.5 and some prediction is negative, only scores of the predicted class agree with all
    # rows.
    if usual and agreement[usual[1]] >= (1 if all_confident else AGREES):
        return usual[1], ", as the usual positive class"
    if all_confident:
        return "", ""
    if usual:
        return usual[1], ", as the usual positive class"
    best = max(classes, key=lambda key: agreement[key])
    if agreement[best] >= AGREES:
        return best, ", as the predicted classes show"
    raise UnresolvedError(
        f"column {name} is named after no class, and the predicted classes do not determine its class. Name it after "
        f"its class, such as prob_{rows.shown(classes[-1])}."
    )


def _of_predicted(scores: ScoreSet, rows: ClassifiedRows, values: np.ndarray) -> Scored:
    """The probability of the predicted class: with two classes, it determines the other probability too."""
    name, classes = scores.columns[0], rows.classes
    if rows.predicted_classes is None or (scores.of[0] and rows.as_label(scores.of[0]) in classes):
        raise UnresolvedError(
            f"{len(classes)} classes ({listed(map(rows.shown, classes))}), but scores of one: {name}. Add a column of "
            f"scores for each class, such as prob_{rows.shown(classes[0])}, or one of predicted classes."
        )
    if scores.of[0]:
        raise UnresolvedError(f"column {name} is named after none of the classes")
    note = f"{name} of the predicted class"
    if len(classes) > 2:
        return Scored(classes, None, f"{note}, not used because the other probabilities are unknown")
    both = _with_other(classes[0], classes)
    of_second = np.where(np.array(rows.predicted_classes) == both[1], values, 1 - values)
    return Scored(both, np.stack([1 - of_second, of_second], axis=1), note)


def _with_other(key: str, classes: list[str]) -> list[str]:
    """Two classes in order: `key` and the other one, which may not occur in the rows."""
    others = [name for name in classes if name != key] or [name for name in usual_order([key], 2) if name != key]
    return in_order([key, *(others or [f"not {key}"])])


def _described(scores: ScoreSet, how: str) -> str:
    return f"{listed(scores.columns)} ({how})"
