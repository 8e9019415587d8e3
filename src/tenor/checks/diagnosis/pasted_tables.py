"""Tables of a training within other text, as copied from a notebook or a terminal: fastai, Trainer, spaCy and others.

Such a text also has lines of code, and several tables one after the other: fastai's `fine_tune` prints one of the
frozen encoder and one of all layers.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tenor.checks.diagnosis.history import is_metric, logged_number
from tenor.checks.diagnosis.history_files import EPOCH_NAMES, STEP_NAMES

Split = Callable[[str], list[str]]
SEPARATORS: tuple[Split, ...] = (
    lambda line: [cell.strip() for cell in line.split("\t")],
    lambda line: [cell.strip() for cell in line.strip().strip("|").split("|")],
    lambda line: re.split(r"\s{2,}", line.strip()),
    lambda line: line.split(),
)
RULER = re.compile(r"[\s|:+=-]*")
"""A line between the header and the rows."""

Row = dict[str, str]


@dataclass(frozen=True)
class PastedTable:
    """One table."""

    axis: str
    """The column of steps or epochs."""
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.rows[0])


def pasted_records(text: str) -> tuple[list[Row], str]:
    """The rows of the last table and of those before it with the same columns, and how they were read, as text.

    The steps or epochs of a later table are counted on from those of the one before. Empty without a table.
    """
    tables = list(pasted_tables(text))
    if not tables:
        return [], ""
    same = [table for table in tables if table.columns == tables[-1].columns]
    last, rows = 0.0, list[Row]()
    for table in same:
        numbers = [number for row in table.rows if (number := logged_number(row[table.axis])) is not None]
        goes_back = bool(rows) and numbers[0] <= last
        offset = last + (numbers[0] == 0) if goes_back else 0.0
        rows += [{**row, table.axis: f"{float(row[table.axis]) + offset:g}"} for row in table.rows]
        last = offset + numbers[-1]
    notes = [f"{len(same)} tables, read as one training"] if len(same) > 1 else []
    notes += [f"{len(tables) - len(same)} with other columns not read"] if len(same) < len(tables) else []
    return rows, "; ".join(notes)


def pasted_tables(text: str) -> Iterator[PastedTable]:
    """Each block of lines that has a header with a step or an epoch and a metric, and rows of as many cells."""
    lines = text.replace("\r\n", "\n").split("\n")
    position = 0
    while position < len(lines):
        found = _table_at(lines, position)
        if found is None:
            position += 1
        else:
            table, position = found
            yield table


def _table_at(lines: list[str], start: int) -> tuple[PastedTable, int] | None:
    """The table whose header is this line, and the line after it."""
    for split in SEPARATORS:
        header = split(lines[start])
        axis = next((name for name in header if _plain(name) in (*STEP_NAMES, *EPOCH_NAMES)), None)
        if axis is None or len(header) < 2 or len(set(header)) < len(header) or not any(map(is_metric, header)):
            continue
        rows, end = list[Row](), start + 1
        while end < len(lines) and (not rows or lines[end].strip()):
            cells = split(lines[end])
            row = dict(zip(header, cells, strict=False)) if len(cells) == len(header) else {}
            if row and logged_number(row[axis]) is not None and float(row[axis]) >= 0:
                rows.append(row)
            elif rows or not RULER.fullmatch(lines[end]):
                break
            end += 1
        if rows:
            return PastedTable(axis, tuple(rows)), end
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s/-]+", "_", name.strip().lower())
