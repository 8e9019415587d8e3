"""Files of rows with named columns, read as text; columns of classes, and different names of the same class."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import isnan, lgamma, log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tenor.checks.diagnosis.artifacts import whole_number
from tenor.checks.rules.evl_measures import best_relabelling
from tenor.checks.rules.evl_ranking import ALPHA, GOOD_ACCURACY, RELABELLING_GAIN
from tenor.data.files.delimited import DELIMITERS, examine
from tenor.data.sources.rows import encodable
from tenor.errors import UserError
from tenor.measures.tail_probabilities import binomial_at_most

JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *JSON_LINES, ".parquet")


@dataclass(frozen=True, eq=False)
class Sheet:
    """Columns by name, read when asked for."""

    path: Path
    names: tuple[str, ...]
    rows: int
    read: Callable[[str], list[Any]]
    """A column's cells: text as written in CSV, JSON values, or Parquet's values; None for a missing one."""
    notes: tuple[str, ...] = ()
    """How the file was read, a sentence each."""


def read_sheet(path: Path) -> Sheet:
    """Read a file by its suffix. Raises UserError if it cannot be read or two columns have the same name."""
    suffix = path.suffix.lower()
    try:
        if suffix in JSON_LINES:
            return sheet_of_records(path, _json_lines(path))
        if suffix != ".parquet":
            return _delimited(path, DELIMITERS.get(suffix, ","))
        table = _parquet(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a readable {suffix[1:]} file ({reason}). Write it again.") from error
    return Sheet(path, tuple(table.column_names), table.num_rows, lambda name: table[name].to_pylist())


def sheet_of_records(path: Path, records: Sequence[Mapping[str, Any]]) -> Sheet:
    """A sheet from JSON objects; a key that is missing from an object is a missing cell."""
    names = tuple(dict.fromkeys(name for record in records for name in record))
    return Sheet(path, names, len(records), lambda name: [record.get(name) for record in records])


def sheet_of_columns(path: Path, columns: Mapping[str, Any]) -> Sheet:
    """A sheet from the lists in a JSON object; other values are left out. Raises UserError for unequal lengths."""
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        stated = ", ".join(f"{name} has {length:,}" for name, length in lengths.items())
        raise UserError(f"{path}: the lists have different lengths ({stated}); expected one value per row in each.")
    rows = next(iter(lengths.values()), 0)
    return Sheet(path, tuple(lists), rows, lambda name: [_only(cell) for cell in lists[name]])


def _only(cell: Any) -> Any:
    """The value in a list of one, as NumPy writes a column of shape (n, 1)."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    table.validate(full=True)
    _require_distinct(table.column_names, path)
    return table


def _delimited(path: Path, delimiter: str) -> Sheet:
    """Every cell as text: whether it is a class or a number depends on the meaning of its column."""
    table = examine(path, lambda header: _require_distinct(header, path), delimiter)
    if not table.header:
        raise UserError(f"{path}: the file is empty; expected a header and a row per prediction. Write it again.")
    width = len(table.header)
    columns: list[list[Any]] = [[] for _ in range(width)]
    for row, record in enumerate(table.records(), start=1):
        if len(record) != width:
            raise UserError(
                f"{path}: row {row:,} (not counting the header) has {len(record)} fields, the header has {width}. Put "
                "texts that contain the delimiter in double quotes, and write the file again."
            )
        for column, cell in zip(columns, record, strict=True):
            column.append(cell)
    by_name = dict(zip(table.header, columns, strict=True))

    def read(name: str) -> list[Any]:
        if not all(map(encodable, by_name[name])):
            raise UserError(f"{path}: column {name} is not UTF-8. Save the file as UTF-8.")
        return by_name[name]

    return Sheet(path, tuple(table.header), len(columns[0]), read, table.notes)


def _require_distinct(names: list[str], path: Path) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{path}: {names.count(repeated)} columns are called {repeated!r}; rename all but one.")


def _json_lines(path: Path) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=whole_number)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number:,}: not valid JSON ({error}). Expected an object per line; write the file again."
            ) from error
        if not isinstance(record, dict):
            raise UserError(
                f"{path}, line {number:,}: not a JSON object. Expected one object per line; write the file again."
            )
        records.append(record)
    return records


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
NUMBERED = re.compile(r"(?:label|class)[ _-]?(\d+)")
"""`LABEL_1` is the default name of class 1 in transformers."""
DIGITS = 15
"""A float represents integers of up to 15 digits exactly."""
MISSING_NUMBER = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "nat"})
"""What programs write for a missing number. In a column of names these are names: "none" is a class of stance data."""
MOST_CLASSES = 1000
SHOWN = 8
# From the negative to the positive class: the order in which data sets number them.
ORDERS: tuple[tuple[str, ...], ...] = (
    *(("0", "1"), ("-1", "1"), ("1", "2"), ("-1", "0", "1"), ("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y")),
    *(("neg", "pos"), ("negative", "positive"), ("neg", "neu", "pos"), ("negative", "neutral", "positive")),
)


@dataclass(frozen=True, eq=False)
class ClassColumn:
    """One class per row."""

    name: str
    keys: list[str]
    """Per row: equal for the same class."""
    spellings: dict[str, dict[str, None]]
    """Key → the ways in which it is written, in the order of the file."""

    def shown(self, key: str) -> str:
        """A class as the file writes it the first time."""
        return next(iter(self.spellings[key]), key)


def read_class_column(name: str, cells: Sequence[Any], where: str, classes: Collection[str] = ()) -> ClassColumn:
    """A column's cells as classes; `classes` are keys that are known to be classes.

    Raises UserError for missing cells, fractions, lists, and more different values than a column of classes has.
    """
    texts = [_text(cell, name, where) for cell in cells]
    known: dict[str, str] = {text: class_key(text) for text in dict.fromkeys(texts)}
    numeric = [text for text in known if NUMBER.fullmatch(text)]
    unknown = {text for text, key in known.items() if text.lower() in MISSING_NUMBER and key not in classes}
    has_names = bool(known.keys() - unknown - {"", *numeric})
    missing = {""} if has_names else {"", *unknown}
    if count := sum(text in missing for text in texts):
        raise UserError(
            f"{where}: {count:,} of {len(texts):,} values of {name} are missing. Complete them, or "
            "leave these rows out."
        )
    fractions = [text for text in numeric if not text.lstrip("+-").isdigit() and not _is_whole(text)]
    if fractions and len(numeric) == len(known):
        raise UserError(
            f"{where}: column {name} contains fractions such as {fractions[0]}; expected a class per row. "
            f"Probabilities of a class belong in a column named prob_CLASS."
        )
    spellings: dict[str, dict[str, None]] = {}
    for text, key in known.items():
        spellings.setdefault(key, {})[key if NUMBER.fullmatch(text) and _is_whole(text) else text] = None
    if len(spellings) > MOST_CLASSES:
        raise UserError(
            f"{where}: column {name} contains {len(spellings):,} different values, such as {next(iter(known))[:40]!r}; "
            f"expected at most {MOST_CLASSES:,} classes. Rename the column if it is not the class."
        )
    return ClassColumn(name, [known[text] for text in texts], spellings)


def class_key(text: str) -> str:
    """The common key of all spellings of a class: without case, extra blanks and the zeros of 01 and 1.0."""
    text = " ".join(text.split())
    if NUMBER.fullmatch(text) and _is_whole(text):
        return str(int(text) if re.fullmatch(r"[+-]?\d+", text) else int(float(text)))
    key = text.casefold()
    return str(int(match[1])) if (match := NUMBERED.fullmatch(key)) and len(key) < 2 * DIGITS else key


def are_numbers(keys: Iterable[str]) -> bool:
    """Whether all classes are integers."""
    return all(re.fullmatch(r"-?\d+", key) for key in keys)


def in_order(keys: Iterable[str]) -> list[str]:
    """Classes by number, else from negative to positive if their names say so, else by name."""
    present = set(keys)
    if are_numbers(present):
        return sorted(present, key=int)
    order = usual_order(present)
    return [key for key in order if key in present] if order else sorted(present)


def usual_order(keys: Iterable[str], length: int | None = None) -> tuple[str, ...]:
    """The usual order that contains these classes, the shortest or one of `length`; empty if there is none."""
    present = set(keys)
    orders = (*ORDERS, *((tuple(map(str, range(length))),) if length else ()))
    fitting = [order for order in orders if present <= set(order) and length in (None, len(order))]
    return min(fitting, key=len, default=())


def listed(names: Iterable[str]) -> str:
    """The first names and the number of the others."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _is_whole(text: str) -> bool:
    return len(text) <= DIGITS + 10 and abs(float(text)) < 10**DIGITS and float(text).is_integer()


def _text(cell: Any, name: str, where: str) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case float() | Decimal():
            return "" if isnan(cell) else str(cell)
        case int():
            return str(cell)
        case str():
            return " ".join(cell.split())
        case date():
            return cell.isoformat()
        case bytes():
            return cell.decode("utf-8", "backslashreplace")
    raise UserError(f"{where}: column {name} contains a {type(cell).__name__}; expected a class per row.")


TRUTH = ("false", "true")
AGREES = 0.9
"""Share of the rows whose predicted class is the most probable one, from which on the columns' order is certain. A
decision threshold far from 0.5 gives a smaller share."""


@dataclass(frozen=True)
class ClassMapping:
    """How the classes of the predictions are read as classes of the labels."""

    of: Mapping[str, str]
    """Key of the predictions → key of the labels."""
    how: str
    """The reason, as text."""
    certain: bool = True
    """Whether both names usually mean the same, such as true and 1; otherwise the two columns use different names."""


@dataclass(frozen=True, eq=False)
class ClassifiedRows:
    """Labels and predictions with common names of the classes."""

    label: ClassColumn
    predicted: ClassColumn | None
    mapping: ClassMapping | None = None
    """How predictions are read if labels and predictions have no class name in common."""

    @property
    def predicted_classes(self) -> list[str] | None:
        """The predicted classes per row, as the labels name them."""
        return None if self.predicted is None else [self.as_label(key) for key in self.predicted.keys]

    @property
    def classes(self) -> list[str]:
        """All classes that occur, in order."""
        return in_order({*self.label.keys, *(self.predicted_classes or ())})

    def as_label(self, key: str) -> str:
        """A class of the predictions, or of the scores, as the labels name it."""
        return self.mapping.of.get(key, key) if self.mapping else key

    def shown(self, key: str) -> str:
        """A class as the file writes it."""
        columns = [self.label, *([self.predicted] if self.predicted is not None and self.mapping is None else [])]
        return next((column.shown(key) for column in columns if key in column.spellings), key)


def map_predictions(labels: Sequence[str], predicted: Sequence[str], score_names: Sequence[str]) -> ClassMapping | None:
    """How predictions are read as labels if they have no class name in common; None if nothing determines it.

    `score_names` are the classes in the names of the score columns, in the order of the file.
    """
    own, other = set(labels), set(predicted)
    for booleans, numbers in ((own, other), (other, own)):
        if booleans <= set(TRUTH) and numbers <= {"0", "1"}:
            pairs = dict(zip(TRUTH, ("0", "1"), strict=True))
            pairs = pairs if booleans is other else {number: word for word, number in pairs.items()}
            return ClassMapping(pairs, "false is 0 and true is 1")
    positions = [str(place) for place in range(len(score_names))]
    for numbers, names in ((own, other), (other, own)):
        if numbers <= set(positions) and names <= set(score_names) and not _is_against_usual_order(score_names):
            pairs = dict(zip(score_names, positions, strict=True))
            pairs = pairs if numbers is own else {number: name for name, number in pairs.items()}
            return ClassMapping(pairs, "numbers are the positions of the score columns")
    length = max(len(own), len(other))
    usual = [usual_order(one, k) for k in (length, 3) for one in (own, other)]
    for one, two in (usual[:2], usual[2:]):
        pairs = dict(zip(two, one, strict=False))
        read = {pairs.get(key) for key in other}
        # 1 and 2 alone do not correspond to negative and positive as they do among 0, 1 and 2.
        if len(one) == len(two) > 0 and (read <= own or own <= read):
            return ClassMapping(pairs, "both in the usual order", certain=False)
    return _mapping_by_rows(labels, predicted)


def _mapping_by_rows(labels: Sequence[str], predicted: Sequence[str]) -> ClassMapping | None:
    """The one-to-one mapping with the highest accuracy, if that accuracy is high and significantly above chance."""
    own, other = in_order(labels), in_order(predicted)
    size, n = len(own), len(labels)
    if size < 2 or len(other) > size:
        return None
    counts = _counts(labels, own, predicted, other, size)
    order = best_relabelling(counts)
    paired = counts[order, np.arange(size)]
    majority = counts.sum(axis=1).max() / n
    is_most_frequent = (np.sort(counts, axis=0)[-2] < paired)[: len(other)].all()
    chance = log(max(binomial_at_most(n - int(paired.sum()), n, 1 - majority), 1e-300)) + lgamma(size + 1)
    is_good = paired.sum() >= max(GOOD_ACCURACY, majority + RELABELLING_GAIN) * n
    if not (is_most_frequent and is_good and chance <= log(ALPHA)):
        return None
    pairs = {key: own[order[place]] for place, key in enumerate(other)}
    return ClassMapping(pairs, "with the highest accuracy", certain=False)


def _counts(
    first: Sequence[str], first_keys: Sequence[str], second: Sequence[str], second_keys: Sequence[str], size: int
) -> np.ndarray:
    """How often each key of `first` occurs in the same row as each key of `second`, shape (size, size)."""
    rows, columns = ({key: k for k, key in enumerate(keys)} for keys in (first_keys, second_keys))
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, ([rows[key] for key in first], [columns[key] for key in second]), 1)
    return counts


def place_columns(
    classes: Sequence[str], names: Sequence[str], values: np.ndarray, predicted: Sequence[str] | None
) -> tuple[dict[str, int], str] | None:
    """Class → its score column, if the columns are not named after the classes; None if nothing determines it.

    `names` are the columns' names in the order of the file, `values` their scores (n, columns), `predicted` the
    predicted classes per row. The second value is the reason, as text.
    """
    if len(names) < len(classes):
        return None
    if predicted is not None and (placed := _by_most_probable(classes, values, predicted)):
        return placed, "so that the predicted class has the highest score"
    positions = [str(place) for place in range(len(names))]
    if set(classes) <= set(positions) and not _is_against_usual_order(names) and not set(names) & set(positions):
        return {name: place for place, name in enumerate(positions) if name in classes}, "in the order of the file"
    usual, own = usual_order(classes, len(names)), usual_order(names, len(names))
    # Columns in the order positive, negative may come from a model that numbers its classes in this order.
    is_plain = set(names) == set(TRUTH) or not _is_against_usual_order(names)
    if usual and set(own) == set(names) and is_plain:
        return {key: list(names).index(own[usual.index(key)]) for key in classes}, "in their usual order"
    return None


def _by_most_probable(classes: Sequence[str], values: np.ndarray, predicted: Sequence[str]) -> dict[str, int]:
    finite = np.isfinite(values).all(axis=1)
    if not finite.any():
        return {}
    places = [str(place) for place in range(values.shape[1])]
    highest = [places[place] for place in values[finite].argmax(axis=1)]
    compared = [key for key, is_finite in zip(predicted, finite, strict=True) if is_finite]
    counts = _counts(highest, places, compared, classes, len(places))
    order = best_relabelling(counts)
    if counts[order, np.arange(len(order))].sum() < AGREES * counts.sum():
        return {}
    never = [place for place in range(len(classes)) if not counts[:, place].any()]
    # A class that is never predicted belongs to the remaining column if there is only one, else its column is unknown.
    if never and not (len(never) == 1 and len(classes) == values.shape[1]):
        return {}
    return {key: int(order[place]) for place, key in enumerate(classes)}


def _is_against_usual_order(names: Sequence[str]) -> bool:
    """Whether the columns are not in the usual order of their names: positive before negative."""
    usual = [key for key in usual_order(names, len(names)) if key in names]
    return bool(usual) and usual != list(names)
