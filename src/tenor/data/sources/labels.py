"""Rows → labelled text: maps labels to class indices and refuses faulty rows."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sequences import list_of
from tenor.data.sources.row_files import read_rows
from tenor.data.sources.rows import (
    DECIMAL,
    INTEGER,
    ONE_LABEL,
    Columns,
    GivenNames,
    Role,
    SourceRows,
    as_integer,
    columns_of,
    merged_note,
    near_note,
    nearest,
    own_spellings,
    python_column,
    refuse_faults,
    require_columns,
    shorten,
    tidied,
)
from tenor.errors import UserError, is_command
from tenor.runs.missing import Missing

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


MAX_CHARACTERS: dict[Role, int] = {"text": 10_000_000, "label": 200, "name": 1_000}
"""Far more than any text that is classified as a whole (War and Peace has 3.2 million characters), or any name."""


LIST = re.compile(r"\[.*\]")


@dataclass(frozen=True)
class Classes:
    """How labels are matched to classes.

    `names` None: the distinct labels are the classes, regardless of case and spaces (`rows.own_spellings`). `index`: a
    label is a position in `names`; `name`: it is one of the names; `either`: positions if all labels are integers and
    no class name is, else names.
    """

    names: tuple[str, ...] | None = None
    matched: Literal["index", "name", "either"] = "either"


def label_splits(train: SourceRows, test: SourceRows | Missing, data: Data) -> SourceData:
    """Label both splits; the test split uses the classes of the training split.

    Raises UserError as `label_rows` does.
    """
    columns = columns_of(data)
    labelled = label_rows(train, columns, Classes(data.class_names))
    if isinstance(test, Missing):
        return SourceData(labelled, test)
    # Names derived from the training labels are matched by name only: otherwise an integer label of the test file would
    # be taken for a position in an order that nobody chose.
    classes = Classes(data.class_names) if data.class_names else Classes(labelled.class_names, "name")
    return SourceData(labelled, label_rows(test, columns, classes))


def label_rows(rows: SourceRows, columns: Columns, classes: Classes) -> LabelledText:
    """Give each row its class index.

    Raises UserError for a missing column, no rows, a column of the wrong type and labels that cannot be classes. Rows
    with missing or invalid text or label are reported in one message with the first of them and their count.
    """
    faults = {column: dict(of_column) for column, of_column in rows.faults.items()}
    named = _named_texts(rows, columns, faults)
    labels = _strings(rows, columns.label, "label", faults).combine_chunks()
    indices, meaning = _class_indices(rows, columns.label, labels, classes, faults)
    refuse_faults(rows, faults)
    table = named.add_column(2, "label", pa.array(indices, type=pa.int64()))
    notes = tuple(f"{rows.where}, column {columns.label!r}: {note}." for note in meaning.notes)
    return LabelledText(table, meaning.names, rows.origin, notes=(*rows.notes, *notes))


def rename_classes(labelled: LabelledText, wanted: tuple[str, ...] | None) -> LabelledText:
    """Give the classes of a source the names that the user chose.

    The source's own names (regardless of case) in another order permute the indices; new names replace the source's
    in order. Raises UserError if their count differs, or if only some are the source's names, at other indices.
    """
    own = labelled.class_names
    if wanted is None or wanted == own:
        return labelled
    _require_distinct(wanted)
    index_of = [GivenNames(wanted).index(name) for name in own]
    if len(wanted) == len(own) and (moved := in_classes(labelled, wanted)) is not None:
        return moved
    if len(wanted) != len(own):
        raise UserError(
            f"data.class_names has {len(wanted)} names, but {labelled.origin} has {len(own)} classes "
            f"({', '.join(own)}). Give one name per class, in this order, or leave data.class_names out."
        )
    if any(index is not None and index != at for at, index in enumerate(index_of)):
        raise UserError(
            f"data.class_names is {', '.join(wanted)}, but the classes of {labelled.origin} are {', '.join(own)}, in "
            "this order: one of these names would be given to another class. Use these names, in any order, or new "
            "ones."
        )
    return replace(labelled, class_names=wanted)


def in_classes(labelled: LabelledText, names: tuple[str, ...]) -> LabelledText | None:
    """The rows with the class indices of `names`, matched by name regardless of case; None if a class has no match, or
    two classes have the same."""
    own = labelled.class_names
    given = GivenNames(names)
    known = [index for name in own if (index := given.index(name)) is not None]
    if not len(set(known)) == len(known) == len(own):
        return None
    column = labelled.table.column_names.index("label")
    moved = np.array(known, dtype=np.int64)[labelled.table["label"].to_numpy()]
    table = labelled.table.set_column(column, "label", pa.array(moved))
    return replace(labelled, table=table, class_names=names)


def _named_texts(rows: SourceRows, columns: Columns, faults: dict[str, dict[int, str]]) -> pa.Table:
    require_columns(rows.table.column_names, columns, rows.where)
    if rows.table.num_rows == 0:
        raise UserError(f"{rows.where}: no rows, expected one text per row.")
    if columns.id is None:
        names = pa.array(np.arange(1, rows.table.num_rows + 1)).cast(pa.string())
    else:
        names = _strings(rows, columns.id, "name", faults).cast(pa.string())
    table = {"id": names, "text": _strings(rows, columns.text, "text", faults)}
    if columns.group is not None:
        table["group"] = _strings(rows, columns.group, "name", faults).cast(pa.string())
    return pa.table(table)


def _as_integers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Booleans become the strings True and False, whole numbers integers, and NaN missing; other values stay as they
    are."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.if_else(values, pa.scalar("True", pa.large_string()), pa.scalar("False", pa.large_string()))
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return values
    try:
        return (pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(kind) else values).cast(pa.int64())
    except pa.ArrowException:  # A fraction, or too many digits.
        return values


def _strings(rows: SourceRows, column: str, role: Role, faults: dict[str, dict[int, str]]) -> pa.ChunkedArray:
    """One column as large_string, without joining its chunks; missing values are added to the faults."""
    values = rows.table[column]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if role == "label":
        values = _as_integers(values)
    missing = np.flatnonzero(values.is_null().to_numpy())
    of_column = faults.setdefault(column, {})
    for row in missing.tolist():
        of_column.setdefault(row, f"{column} is missing")
    kind = values.type
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_number = pa.types.is_integer(kind) or (role == "name" and pa.types.is_floating(kind))
    if pa.types.is_null(kind) or is_string or (role != "text" and is_number):
        strings = values.cast(pa.large_string())
        lengths = pc.utf8_length(strings).fill_null(0).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(lengths > MAX_CHARACTERS[role]).tolist():
            length, most = lengths[row], MAX_CHARACTERS[role]
            of_column.setdefault(row, f"{column} has {length:,} characters, expected at most {most:,}")
        return strings
    expected = {"text": "strings", "label": "integers or strings", "name": "strings or numbers"}[role]
    share = f" ({len(missing):,} of its {len(values):,} values are missing)" if len(missing) else ""
    fix = f"Convert the column. {ONE_LABEL}" if role == "label" and pa.types.is_nested(kind) else "Convert the column."
    raise UserError(f"{rows.where}: column {column!r} has the type {kind}{share}, expected {expected}. {fix}")


@dataclass(frozen=True)
class _Meaning:
    """The class of each distinct label of a column."""

    names: tuple[str, ...]
    """The class names, by index."""
    index_of: dict[str, int]
    """The class of each valid label."""
    wrong: str
    """The fault of all other labels."""
    notes: tuple[str, ...] = ()
    given: GivenNames | None = None

    def fault(self, label: str) -> str:
        """The fault of a label that is not valid."""
        if self.given is not None and (alike := self.given.alike(label)):
            return f"{shorten(label)}, which matches several class names except for case: {', '.join(alike)}"
        return f"{shorten(label)}, {self.wrong}"


def _class_indices(
    rows: SourceRows, column: str, labels: pa.Array, classes: Classes, faults: dict[str, dict[int, str]]
) -> tuple[np.ndarray, _Meaning]:
    """Class index per row, int64, shape (rows,), -1 for a faulty row; and the meaning of the labels."""
    of_column = faults.setdefault(column, {})
    faulty = np.zeros(len(labels), dtype=bool)
    faulty[list(of_column)] = True
    good = np.flatnonzero(~faulty)
    encoded = labels.take(pa.array(good)).dictionary_encode()
    distinct: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows_of = np.bincount(codes, minlength=len(distinct)).tolist()
    counts = Counter({label: count for label, count in zip(distinct, rows_of, strict=True) if tidied(label)})
    meaning = _meaning(counts, classes, rows.where, column)
    _require_printable(meaning.names, rows.where)
    indices = np.full(len(labels), -1, dtype=np.int64)
    indices[good] = np.array([meaning.index_of.get(label, -1) for label in distinct], dtype=np.int64)[codes]
    for row, code in zip(good[indices[good] < 0].tolist(), codes[indices[good] < 0].tolist(), strict=True):
        of_column[row] = f"{column} is {meaning.fault(distinct[code]) if distinct[code] in counts else 'missing'}"
    return indices, meaning


def _meaning(counts: Counter[str], classes: Classes, where: str, column: str) -> _Meaning:
    _refuse_lists(counts, where, column)
    if classes.names is None:
        return _own_meaning(counts, where, column)
    names = classes.names
    _require_distinct(names)
    integers_only = all(INTEGER.fullmatch(as_integer(tidied(label))) for label in counts)
    names_have_integers = any(INTEGER.fullmatch(name) for name in names)
    if classes.matched == "index" or (classes.matched == "either" and integers_only and not names_have_integers):
        listed = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        written = {label: as_integer(tidied(label)) for label in counts}
        index_of = {label: int(one) for label, one in written.items() if one in map(str, range(len(names)))}
        return _Meaning(names, index_of, f"expected one of {listed}")
    given = GivenNames(names)
    index_of = {label: index for label in counts if (index := given.index(label)) is not None}
    strangers = [label for label in counts if label not in index_of]
    hint = nearest(strangers[0], names) if strangers else ""
    merged = merged_note(counts, {label: names[index] for label, index in index_of.items()})
    notes = () if merged is None else (merged,)
    return _Meaning(names, index_of, f"expected one of {', '.join(names)}{hint}", notes, given)


def _refuse_lists(counts: Counter[str], where: str, column: str) -> None:
    lists = {label: count for label, count in counts.items() if LIST.fullmatch(tidied(label))}
    if 2 * sum(lists.values()) > counts.total():
        raise UserError(
            f"{where}: column {column!r} has lists such as {shorten(next(iter(lists)))} in {sum(lists.values()):,} "
            f"of {counts.total():,} rows, expected one label per row. {ONE_LABEL}"
        )


def _own_meaning(counts: Counter[str], where: str, column: str) -> _Meaning:
    spellings = own_spellings(counts)
    classes = _own_classes(spellings.counts, where, column)
    index_of = {label: classes.index_of[name] for label, name in spellings.name_of.items() if name in classes.index_of}
    merged = merged_note(counts, spellings.name_of)
    near = near_note(Counter({name: spellings.counts[name] for name in classes.names}))
    if merged is not None and len(counts) > len(spellings.counts):
        merged += ". Spellings that data.class_names lists separately stay separate classes"
    return replace(classes, index_of=index_of, notes=tuple(note for note in (merged, near) if note is not None))


def _own_classes(counts: Counter[str], where: str, column: str) -> _Meaning:
    """The classes that these names form."""
    integers = [label for label in counts if INTEGER.fullmatch(label)]
    if not integers:
        if counts and all(DECIMAL.fullmatch(label) for label in counts):
            raise UserError(
                f"{where}: column {column!r} contains decimal numbers such as {next(iter(counts))!r}, expected class "
                "names or the integers 0 … K-1. Write whole numbers without a decimal point."
            )
        names = tuple(sorted(counts))
        return _Meaning(names, {name: index for index, name in enumerate(names)}, "")
    if len(integers) < len(counts):
        in_minority = sum(counts[label] for label in integers) * 2 < counts.total()
        kept = [label for label in counts if (label in integers) != in_minority]
        other = "a name" if in_minority else "an integer"
        wrong = (
            f"expected {other} as in the other rows; if it is a separate class, list all classes in data.class_names"
        )
        return _Meaning(tuple(kept), {label: index for index, label in enumerate(kept)}, wrong)
    numbers = sorted(int(label) for label in integers)
    if numbers != list(range(len(numbers))):
        raise _gap(numbers, where, column)
    return _Meaning(tuple(map(str, numbers)), {str(number): number for number in numbers}, "")


def _gap(numbers: list[int], where: str, column: str) -> UserError:
    shown = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
    as_names = json.dumps([str(number) for number in numbers[:10]])
    as_names = as_names if len(numbers) <= 10 else as_names.replace("]", ", …]")
    unlabelled = " (-1 often marks unlabelled rows: remove them)" if -1 in numbers else ""
    return UserError(
        f"{where}: the labels in column {column!r} are {shown}{unlabelled}, expected the integers 0 … K-1 without "
        f"gaps. Renumber them from 0, or keep them as names: 'data.class_names={as_names}'"
    )


def _require_printable(names: tuple[str, ...], where: str) -> None:
    """Class names are printed to terminals, which would execute control characters."""
    for name in names:
        if any(map(is_command, name)):
            raise UserError(
                f"{where}: the class name {shorten(name)} contains a control character. Remove it, or name the "
                "classes with data.class_names."
            )


def _require_distinct(names: tuple[str, ...]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"data.class_names contains {repeated[0]!r} more than once. Give each class a different name.")


def file_source(data: Data) -> SourceData:
    """Read `data.path` and `data.test_path`. Raises UserError for files that cannot be read or understood."""
    if data.path is None:
        raise UserError("data.source=file requires data.path, the file to train on.")
    columns = columns_of(data)
    train = read_rows(data.path, columns)
    if data.test_path is None:
        return label_splits(train, Missing("data.test_path is not set"), data)
    return label_splits(train, train if data.test_path == data.path else read_rows(data.test_path, columns), data)


def read_table(
    path: str | Path,
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
) -> LabelledText:
    """One file of labelled text: CSV, TSV, JSON Lines or Parquet, by its suffix.

    Labels are strings, integers or booleans; "1" in a string column is an integer, and so is 1.0. Labels that differ
    only in case, spaces or Unicode normalization are one class; `notes` says which spellings were merged. Without
    `class_names`, the sorted distinct labels are the classes, and integers must be 0 … K-1; with `class_names`, a label
    is one of the names or, if no name is an integer, a position among them. Without `id_column`, ids are row numbers:
    "1", "2", ….
    Raises UserError for a file that cannot be read or understood.
    """
    columns = Columns(text_column, label_column, id_column, group_column)
    return label_rows(read_rows(path, columns), columns, Classes(class_names))


def from_dataframe(
    frame: "pandas.DataFrame",
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    origin: str = "data frame",
) -> LabelledText:
    """Labelled text from a pandas data frame, as `read_table` reads a file. Rows count from 1, whatever the index.

    Raises UserError for columns or values that cannot be used.
    """
    _require_frame(frame, origin)
    columns = Columns(text_column, label_column, id_column, group_column)
    class_names = None if class_names is None else tuple(list_of(class_names, "class_names"))
    names = [str(name) for name in frame.columns]  # A frame without a header has integers.
    require_columns(names, columns, origin)
    arrays, faults = {}, {}
    for name, role in columns.roles().items():
        arrays[name], faults[name] = python_column(_values(frame.iloc[:, names.index(name)]), name, role)
    return label_rows(SourceRows(pa.table(arrays), origin, origin, faults), columns, Classes(class_names))


def _require_frame(frame: object, origin: str) -> None:
    if not hasattr(type(frame), "iloc") or not hasattr(type(frame), "columns"):
        how = "frame.to_pandas()" if hasattr(type(frame), "to_pandas") else "pandas.DataFrame(…)"
        raise UserError(f"{origin}: is a {type(frame).__name__}, expected a pandas DataFrame. Convert it: {how}")


def _values(series: "pandas.Series") -> list[object]:
    values = list_of(series, str(series.name))
    if getattr(series.dtype, "kind", "") == "f" and None in values:
        # pandas converts an integer column to float as soon as a value is missing.
        return [int(value) if value is not None and value.is_integer() else value for value in values]
    return values
