"""Rows with a column that all rows of a part share (folders such as `label=positive/`), and rows chosen by a column
(`reviews.csv#split=train`)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from tenor.data.files.headers import nearest
from tenor.data.files.nested import with_fields
from tenor.data.files.stream import RECORD, Block, FileRows, Limits
from tenor.errors import UserError

PARTITION = re.compile(r"([^=/]+)=(.*)", re.DOTALL)
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
SELECTION = re.compile(r"(.+)#([^#=!]+)(!?=)([^#]*)", re.DOTALL)
SHOWN_VALUES = 10


def partition_folders(folder: Path) -> list[tuple[Path, str, str | None]]:
    """The folders in a folder that Spark, Hive or Arrow wrote by the values of a column, such as `label=positive`, with
    the column and its value (None: missing); none if a folder has another name."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[:1] != ".")
    found = [(path, PARTITION.fullmatch(path.name)) for path in inner]
    named = [(path, match[1], match[2]) for path, match in found if match is not None]
    if len(named) < len(inner) or len({key for _, key, _ in named}) != 1:
        return []
    return [(path, key, None if value == NO_VALUE else unquote(value)) for path, key, value in named]


def with_constant(rows: FileRows, name: str, value: str | None) -> FileRows:
    """The rows with a column that has the same value in each. Raises UserError if they have such a column."""
    if rows.columns is not None and name in rows.columns:
        raise UserError(
            f"{rows.where}: has a column {name!r}, as its folder's name does. Give the path of the files, not of the "
            "folders."
        )

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        own = choose if choose is None or rows.columns is None else [one for one in choose if one != name]
        for block in rows.read(limits, own):
            if block.records is not None:
                yield replace(block, records=[{**record, name: value} for record in block.records])
                continue
            column = pa.array([value] * len(block.numbers), pa.large_string())
            table = block.table.append_column(name, column) if block.table.num_columns else pa.table({name: column})
            yield replace(block, table=table if choose is None else table.select(list(choose)))

    columns = None if rows.columns is None else (*rows.columns, name)
    schema = None if rows.schema is None else rows.schema.append(pa.field(name, pa.large_string()))
    return replace(rows, columns=columns, read=read, schema=schema)


@dataclass(frozen=True)
class RowSelection:
    """Which rows of a file are read: those whose value in a column is `value`, or is not."""

    column: str
    is_equal: bool
    value: str

    @property
    def shown(self) -> str:
        return f"{self.column}{'=' if self.is_equal else '!='}{self.value}"


def selection_of(path: Path) -> tuple[Path, RowSelection | None]:
    """The path without the selection after its #, and the selection; None if the path exists as it is."""
    match = SELECTION.fullmatch(str(path))
    if match is None or path.exists():
        return path, None
    return Path(match[1]), RowSelection(match[2].strip(), match[3] == "=", match[4].strip())


def selected(rows: FileRows, selection: RowSelection) -> FileRows:
    """The rows that a selection names; rows that cannot be read remain, so that they are reported.

    Raises UserError for a column that does not exist and, once all rows are read, for a value that no row has.
    """
    name, place = selection.column, f"{rows.where}#{selection.shown}"
    if rows.columns is not None and name not in rows.columns:
        raise UserError(
            f"{place}: no column {name!r}{nearest(name, rows.columns)}. Available columns: "
            f"{', '.join(map(repr, rows.columns[:30]))}."
        )

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        stored = choose if choose is None or rows.columns is None else list(dict.fromkeys([*choose, name]))
        counts: dict[str, int] = {}
        kept = 0
        for block in rows.read(limits, stored):
            given = (
                block.values(name)
                if block.records is None
                else [with_fields(r, [name]).get(name) for r in block.records]
            )
            values = ["" if value is None else _as_written(value) for value in given]
            chosen = [
                at
                for at, value in enumerate(values)
                if at in block.faults or (value == selection.value) == selection.is_equal
            ]
            for value in values:
                if len(counts) < SHOWN_VALUES or value in counts:
                    counts[value] = counts.get(value, 0) + 1
            kept += len(chosen)
            yield _rows_at(block, chosen, choose)
        if not kept:
            shown = ", ".join(f"{value!r} ({count:,})" for value, count in counts.items())
            raise UserError(f"{place}: selects no row. Values of the column, with rows: {shown}.")

    return replace(
        rows,
        where=place,
        chosen_by=name,
        origin=f"{rows.origin}#{selection.shown}",
        read=read,
        reading={**rows.reading, "rows": selection.shown},
    )


def _as_written(value: object) -> str:
    return str(value).strip()


def _rows_at(block: Block, positions: Sequence[int], choose: Sequence[str] | None) -> Block:
    new: Mapping[int, str] = {to: block.faults[at] for to, at in enumerate(positions) if at in block.faults}
    table = block.table
    if table.num_columns:
        table = table.take(pa.array(positions, pa.int64()))
        table = table if choose is None or table.column_names == [RECORD] else table.select(list(choose))
    records = None if block.records is None else [block.records[at] for at in positions]
    return Block(table, [block.numbers[at] for at in positions], new, records, block.file)
