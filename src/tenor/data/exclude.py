"""`data.exclude`: training rows that a file takes out, such as the one that `tenor audit` writes."""

import csv
from os.path import expanduser
from pathlib import Path

import numpy as np

from tenor.data.dataset import LabelledText, repeated_ids
from tenor.data.sources.delimited import examine
from tenor.errors import UserError

SHOWN_IDS = 5


def read_excluded(path: str) -> frozenset[str]:
    """The ids that a CSV file takes out: all in its column `id` or, where it has a column `exclude`, those with `yes`.

    Raises UserError for a file that can't be read, has no such column, or says neither yes nor no.
    """

    def require(columns: list[str]) -> None:
        if "id" not in columns:
            raise UserError(f"{path}: there is no column 'id'; columns found: {', '.join(columns)}.")

    try:
        found = examine(Path(expanduser(path)), require, ",")
        with open(found.path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, found.header, **found.dialect.options)
            next(reader)  # The header.
            return frozenset(row["id"] for row in reader if _is_out(row, reader.line_num, path))
    except UserError as error:
        raise UserError(f"data.exclude {str(error).removeprefix('data.exclude ')}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"data.exclude {path}: is no CSV file in UTF-8 ({error}).") from error
    except (OSError, ValueError) as error:  # The second: NUL in the path.
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"data.exclude {path}: cannot be read ({reason}); `tenor audit` writes one.") from error


def rows_left(rows: LabelledText, positions: np.ndarray, path: str) -> np.ndarray:
    """Those of `positions`, in their order, whose row of `rows` the file does not take out.

    Raises UserError as `read_excluded` does, for ids that `rows` does not have or has on several rows, and where none
    is left.
    """
    excluded, ids = read_excluded(path), rows.ids
    if unknown := sorted(excluded.difference(ids)):
        shown = ", ".join(map(repr, unknown[:SHOWN_IDS])) + (", …" if len(unknown) > SHOWN_IDS else "")
        raise UserError(
            f"data.exclude {path}: {len(unknown):,} of {len(excluded):,} ids are no rows to train on of {rows.origin}: "
            f"{shown}. Its ids are such as {ids[0]!r}; was the file made for other data?"
        )
    # Looked for among all rows, not `positions` alone: with another seed the other row would be the one to go.
    repeated = repeated_ids(rows)
    if unclear := sorted(excluded.intersection(repeated)):
        raise UserError(
            f"data.exclude {path}: {unclear[0]!r} stands on {repeated[unclear[0]]:,} rows of {rows.origin}, and which "
            "is meant can't be told. Leave data.id_column out, so that ids are row numbers, and write the file anew"
        )
    kept = np.array([row for row in positions.tolist() if ids[row] not in excluded], dtype=positions.dtype)
    if not len(kept):
        raise UserError(f"data.exclude {path} takes out all {len(positions):,} training rows; leave some")
    return kept


def _is_out(row: dict[str, str], line: int, path: str) -> bool:
    if not row["id"]:
        raise UserError(f"data.exclude {path}, line {line}: the id is missing.")
    said = row.get("exclude", "yes")
    if said is None or said.strip().lower() not in ("yes", "no"):
        raise UserError(f"data.exclude {path}, line {line}: exclude is {said!r}, expected yes or no.")
    return said.strip().lower() == "yes"
