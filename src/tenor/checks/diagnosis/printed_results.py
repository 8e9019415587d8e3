"""Results as programs print them: classification reports and confusion matrices, as text or as CSV."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import ACCEPTED
from tenor.data.files.delimited import DELIMITERS
from tenor.errors import UserError

NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|nan|inf)"
SCIKIT_LEARN = ("precision", "recall", "f1-score", "support")
IMBALANCED_LEARN = ("pre", "rec", "spe", "f1", "geo", "iba", "sup")
MATRIX = re.compile(r"\[\s*\[[^\[\]]*\](?:[\s,]*\[[^\[\]]*\])*\s*\]")
METRIC = re.compile(
    r"^\W*(?P<name>(?:[\w-]+ ){0,2}(?:accuracy|acc|loss|macro[ _-]f1|f1[ _-]macro))\b[^\d:=]{0,20}[:=]"
    rf"\s*(?P<value>{NUMBER})\s*(?P<percent>%?)",
    re.IGNORECASE | re.MULTILINE,
)
MARGINS = frozenset({"all", "total", "sum"})
MAX_BYTES = 2**20
"""A larger file is a log or contains rows."""
MOST_CLASSES = 200


def printed_results(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Heading and content of each report or matrix in a text, in the form of an evaluation in JSON."""
    reports = list(_reports(text))
    matrices = [matrix for part in MATRIX.findall(text) if (matrix := _bracketed(part)) is not None]
    metrics = {_key(m["name"]): float(m["value"]) / (100 if m["percent"] else 1) for m in METRIC.finditer(text)}
    if not reports and not matrices and (table := _table(text)) is not None:
        matrices = [table]
    if len(reports) <= 1 and len(matrices) <= 1:
        heading, report = reports[0] if reports else ("", None)
        value: dict[str, Any] = {} if report is None else {"report": report}
        value |= {"confusion_matrix": matrices[0]} if matrices else {}
        return [(heading, metrics | value)] if value else []
    if len(reports) == len(matrices):
        pairs = zip(reports, matrices, strict=True)
        return [(heading, {"report": report, "confusion_matrix": matrix}) for (heading, report), matrix in pairs]
    return [(heading, {"report": report}) for heading, report in reports] or [
        ("", {"confusion_matrix": matrix}) for matrix in matrices
    ]


def matrix_or_report_of_cells(path: Path) -> dict[str, Any] | None:
    """A CSV or TSV file that is a confusion matrix or a report, in the form of an evaluation; None for other files."""
    if path.stat().st_size > MAX_BYTES:
        return None
    delimiter = DELIMITERS.get(path.suffix.lower(), ",")
    try:
        lines = csv.reader(text_of(path).splitlines(), delimiter=delimiter)
        rows = [row for row in lines if any(cell.strip() for cell in row)]
    except (csv.Error, UserError):
        return None  # The reader of predictions says what is wrong with it.
    if not 2 <= len(rows) <= MOST_CLASSES + 2 or max(map(len, rows)) > MOST_CLASSES + 2:
        return None
    cells = [[cell.strip() for cell in row] for row in rows]
    if set(SCIKIT_LEARN) <= set(cells[0]):
        header = cells[0][1:]
        report = {row[0]: dict(zip(header, map(_value, row[1:]), strict=False)) for row in cells[1:]}
        return {"report": with_report_columns(report)}
    return _labelled_matrix(cells)


def _labelled_matrix(cells: list[list[str]]) -> dict[str, Any] | None:
    """A square table of counts with or without names of the classes, and with or without totals; else None."""
    header = None if all(map(_is_number, cells[0])) and len(cells) == len(cells[0]) else cells[0]
    body = cells if header is None else cells[1:]
    body = body if header is None else _with_never_predicted(header, body)
    header = header if header is None or len(body[-1]) <= len(header) else [header[0], *(row[0] for row in body)]
    has_names = header is not None and len(body[-1]) == len(body) + 1
    names = [_class_in(row[0]) for row in body] if has_names else list(map(_class_in, header or ()))
    counts = [row[1:] if has_names else row for row in body]
    if has_names and header is not None and list(map(_class_in, header[-len(names) :])) != names:
        return None  # Rows and columns of a confusion matrix have the same classes.
    if names and names[-1].lower() in MARGINS:
        names, counts = names[:-1], [row[:-1] for row in counts[:-1]]
    size = len(counts)
    if size < 2 or any(len(row) != size or not all(map(_is_number, row)) for row in counts):
        return None
    if not has_names and any(name.lower() in NOT_CLASSES for name in names):
        return None
    matrix = [[_value(cell) for cell in row] for row in counts]
    if has_names and header is not None and ("pred" in header[0].lower() or body[0][0].lower().startswith("pred")):
        matrix = [list(column) for column in zip(*matrix, strict=True)]  # Its rows are the predicted classes.
    return {"confusion_matrix": matrix, **({"class_names": names} if names else {})}


def _with_never_predicted(header: list[str], body: list[list[str]]) -> list[list[str]]:
    """The rows with a column for each class: `pandas.crosstab` leaves out the classes that are never predicted."""
    columns, rows = ([_class_in(name) for name in names] for names in (header[1:], [row[0] for row in body]))
    is_counts = all(len(row) == len(header) and all(cell.isdecimal() for cell in row[1:]) for row in body)
    is_smaller = 0 < len(columns) < len(rows) == len(set(rows)) and set(columns) <= set(rows)
    if not is_counts or not is_smaller:
        return body
    return [[row[0], *(row[1 + columns.index(one)] if one in columns else "0" for one in rows)] for row in body]


def _class_in(name: str) -> str:
    """The class in the name of a row or column, such as "true: positive"."""
    return re.sub(r"^(true|actual|gold|pred|predicted)\s*[:_ -]\s*", "", name, flags=re.IGNORECASE)


NOT_CLASSES = frozenset(
    {"label", "prediction", "predicted", "pred", "true", "y_true", "y_pred", "id", "target", "gold", "actual"}
)
"""Names of columns of a file of predictions, which may have as many rows as columns."""


def text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: more than {MAX_BYTES:,} bytes, which no report has. Accepted: {ACCEPTED}.")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a path that exists.") from error
    try:
        utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # PowerShell's `>` writes it.
        return content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; expected text. Accepted: {ACCEPTED}.") from error


def _reports(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Heading and content of each printed report."""
    heading, lines = "", text.splitlines()
    for position, line in enumerate(lines):
        columns = tuple(line.split())
        if columns in (SCIKIT_LEARN, IMBALANCED_LEARN):
            report = dict(_rows_of_report(lines[position + 1 :], columns))
            if report:
                yield heading, with_report_columns(report)
            heading = ""
        elif line.strip() and not re.search(r"\s\d\.\d+\s", line):
            heading = line.strip()


def _rows_of_report(lines: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The rows below a header, up to the next line that is none."""
    row = re.compile(rf"\s*(?P<name>.*?)\s+(?P<numbers>{NUMBER}(?:\s+{NUMBER}){{{len(columns) - 1}}})\s*")
    accuracy = re.compile(rf"\s*accuracy\s+(?P<value>{NUMBER})\s+\d+\s*")
    for line in lines:
        if not line.strip():
            continue
        if match := accuracy.fullmatch(line):
            yield "accuracy", float(match["value"])
        elif match := row.fullmatch(line):
            yield match["name"], dict(zip(columns, map(float, match["numbers"].split()), strict=True))
        else:
            return


def _bracketed(text: str) -> list[list[float]] | None:
    """A matrix printed by NumPy, or a list of lists; None for other brackets."""
    rows = [re.findall(NUMBER, row) for row in re.findall(r"\[([^\[\]]*)\]", text)]
    is_square = len(rows) > 1 and all(len(row) == len(rows) for row in rows)
    return without_totals([[float(cell) for cell in row] for row in rows]) if is_square else None


def _table(text: str) -> list[list[float]] | None:
    """The largest matrix printed as lines of counts, as by `numpy.savetxt` or pandas, with or without names."""
    blocks: list[list[list[str]]] = []
    for line in text.splitlines():
        cells = line.replace(",", " ").split()
        counts = list(takewhile(_is_number, reversed(cells)))[::-1]
        if cells and cells[0].lower() in MARGINS and blocks and blocks[-1]:
            counts = ["0", *counts][-len(blocks[-1][0]) :]  # The other rows may have numbers as names.
        if blocks and blocks[-1] and len(counts) == len(blocks[-1][0]):
            blocks[-1].append(counts)
        else:
            blocks.append([counts] if len(counts) > 1 else [])
    # The first line may be the names of the columns, and the first number of a line the name of its row.
    candidates = [rows for block in blocks for rows in (block, block[1:]) if len(rows) > 1]
    for rows in sorted(candidates, key=len, reverse=True):
        if len(rows[0]) in (len(rows), len(rows) + 1):
            return without_totals([[float(cell) for cell in row[-len(rows) :]] for row in rows])
    return None


def without_totals(matrix: list[list[float]]) -> list[list[float]]:
    """The matrix without a last row and a last column that are the sums of the others."""
    inner = [row[:-1] for row in matrix[:-1]]
    are_sums = len(inner) > 1 and matrix[-1][:-1] == [sum(column) for column in zip(*inner, strict=True)]
    return inner if are_sums and all(row[-1] == sum(row[:-1]) for row in matrix) else matrix


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(NUMBER, cell.strip()))


def _value(cell: str) -> float | str:
    return float(cell) if _is_number(cell) else cell


def _key(name: str) -> str:
    """The key under which JSON has this metric: "Test accuracy" is "test_accuracy", "Macro F1" is "macro_f1"."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    if {"macro", "f1"} <= set(words):
        return "macro_f1"
    return next(word for word in ("accuracy", "acc", "loss") if word in words)


def parsed_report(value: Any) -> Mapping[str, Any] | None:
    """A report that was stored as printed text, or as JSON in a string; None for other values."""
    if not isinstance(value, str):
        return value if isinstance(value, Mapping) else None
    if value.lstrip().startswith("{"):
        try:
            loaded = json.loads(value)
        except (ValueError, RecursionError):
            return None
        return loaded if isinstance(loaded, Mapping) else None
    return next((report for _, report in _reports(value)), None)


_IMBALANCED_NAMES = {"pre": "precision", "rec": "recall", "f1": "f1-score", "sup": "support"}
_AVERAGES = {f"avg_{short}": name for short, name in _IMBALANCED_NAMES.items()}


def with_report_columns(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """A report in scikit-learn's form, from imbalanced-learn's and from a pandas table of either orientation."""
    if set(SCIKIT_LEARN) <= set(report) and all(isinstance(report[name], Mapping) for name in SCIKIT_LEARN):
        rows = list(report["support"])
        report = {row: {name: report[name].get(row) for name in SCIKIT_LEARN} for row in rows}
    entries = {key: _renamed(value) for key, value in report.items() if key not in _AVERAGES}
    if "total_support" in entries:
        averages = {name: report.get(short) for short, name in _AVERAGES.items() if short != "avg_sup"}
        entries["weighted avg"] = {**averages, "support": entries.pop("total_support")}
        entries = {key: value for key, value in entries.items() if not key.startswith("avg_")}
    if "avg / total" in entries:
        entries["weighted avg"] = entries.pop("avg / total")
    accuracy = entries.get("accuracy")
    if isinstance(accuracy, Mapping):  # A pandas table repeats it in every column.
        entries["accuracy"] = accuracy.get("f1-score", accuracy.get("recall"))
    return entries


def _renamed(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or not {"pre", "rec", "sup"} <= set(entry):
        return entry
    return {_IMBALANCED_NAMES.get(key, key): value for key, value in entry.items()}
