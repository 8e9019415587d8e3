"""The output of transformers' `pipeline` in the cells of a column: a label and its score, or those of every class."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tenor.checks.diagnosis.columns import Sheet
from tenor.checks.diagnosis.scores import parsed_cell
from tenor.errors import UserError

SCORES = "scores"
KEYS = {"label", "score"}


def with_pipeline_output(sheet: Sheet, predicted: Collection[str]) -> Sheet:
    """A sheet in which such a column has two: the class with the largest score, and the scores of every class if the
    cells have them (`top_k=None`). `predicted` are the usual names of predictions: a column with one of these is taken
    before others, and one with another name only if there is none of these. Unchanged without such a column.

    Raises UserError for a row without scores in it.
    """
    plain = {name: re.sub(r"[\s_-]+", "_", name.strip().lower()) for name in sheet.names}
    named = [name for name in sheet.names if plain[name] in predicted]
    for name in named[:1] or sheet.names:
        first = next((cell for cell in sheet.read(name)[:1]), None) if sheet.rows else None
        if _scores(first) is not None:
            break
    else:
        return sheet
    rows = [_scores(cell) for cell in sheet.read(name)]
    wrong = next((k for k, row in enumerate(rows, start=1) if row is None), None)
    if wrong is not None:
        raise UserError(
            f"{sheet.path}: row {wrong:,} of column {name} has no label with a score, as the first row has."
        )
    known: list[Mapping[str, float]] = [row for row in rows if row is not None]
    classes = [max(row, key=lambda one: row[one]) for row in known]
    of_classes = name if named else "prediction"
    names = [of_classes if one == name else one for one in sheet.names]
    has_all = min(map(len, known)) > 1 and SCORES not in sheet.names
    cells: dict[str, list[Any]] = {of_classes: list(classes)}
    cells |= {SCORES: [dict(row) for row in known]} if has_all else {}
    note = f"predicted class: the largest score in {name}"
    return replace(
        sheet,
        names=(*names, *([SCORES] if has_all else [])),
        read=lambda one: cells[one] if one in cells else sheet.read(one),
        notes=(*sheet.notes, note),
    )


def has_pipeline_output(record: Mapping[str, Any]) -> bool:
    """Whether a row has such a cell."""
    return any(_scores(cell) is not None for cell in record.values())


def _scores(cell: Any) -> Mapping[str, float] | None:
    """Class → score; None for a cell that is no output of a pipeline."""
    if isinstance(cell, str):
        cell = parsed_cell(cell.strip()) if cell.lstrip().startswith(("[{", "{")) else None
    entries = [cell] if isinstance(cell, Mapping) else cell
    if not isinstance(entries, list) or not entries:
        return None
    if not all(isinstance(one, Mapping) and set(one) == KEYS for one in entries):
        return None
    try:
        return {str(one["label"]): float(one["score"]) for one in entries}
    except (TypeError, ValueError):
        return None
