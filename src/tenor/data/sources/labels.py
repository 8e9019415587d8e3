"""Rows → labelled text: maps labels to class indices and refuses faulty rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.files.nested import advice_on_fields
from tenor.data.files.stream import NULL
from tenor.data.sequences import list_of
from tenor.data.sources.label_advice import (
    rows_text,
)
from tenor.data.sources.label_classes import LEFT_OUT, Classes, FaultyRows, class_indices, require_distinct
from tenor.data.sources.other_tables import refuse_file_names
from tenor.data.sources.row_files import read_rows
from tenor.data.sources.rows import (
    MAX_CHARACTERS,
    SHOWN_PLACES,
    Columns,
    Role,
    SourceRows,
    all_missing,
    columns_of,
    faults_by_row,
    kinds_in_line,
    list_rows,
    python_column,
    refuse_faults,
    require_columns,
)
from tenor.data.sources.spellings import (
    GivenNames,
)
from tenor.errors import UserError
from tenor.runs.missing import Missing

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


SAMPLED = 1000
"""Rows by which texts are recognized as names of files."""


def classes_of(data: Data, names: tuple[str, ...] | None) -> Classes:
    return Classes(names, relabel=data.relabel, faulty_rows=data.faulty_rows)


def label_splits(train: SourceRows, test: SourceRows | Missing, data: Data) -> SourceData:
    """Label both splits; the test split uses the classes of the training split.

    Class names that a file itself stores are those of its labels' indices; `data.class_names` renames or reorders them.
    Raises UserError as `label_rows` does.
    """
    columns = columns_of(data)
    labelled = label_file(train, columns, classes_of(data, data.class_names))
    if isinstance(test, Missing):
        return SourceData(labelled, test)
    return SourceData(labelled, _label_test(test, columns, data, train, labelled.class_names))


def label_file(rows: SourceRows, columns: Columns, classes: Classes) -> LabelledText:
    """`label_rows`, by the class names that the file itself stores, if it does; `classes.names` renames or reorders
    them. Raises UserError as `label_rows` and `rename_classes` do."""
    if rows.class_names is None:
        return label_rows(rows, columns, classes)
    own = replace(classes, names=rows.class_names, matched="index")
    return rename_classes(label_rows(rows, columns, own), classes.names)


def _label_test(
    test: SourceRows, columns: Columns, data: Data, train: SourceRows, names: tuple[str, ...]
) -> LabelledText:
    classes = replace(classes_of(data, names), of_other_file=test is not train)
    if test.class_names is not None:
        own = label_rows(test, columns, replace(classes, names=test.class_names, matched="index"))
        own = rename_classes(own, data.class_names) if test.class_names == train.class_names else own
        if (matched := in_classes(own, names)) is None:
            raise UserError(
                f"{test.where}: stores the class names {', '.join(test.class_names)}, expected {', '.join(names)} as "
                "in the training file. Give both files the same class names."
            )
        return matched
    # Names derived from the training labels are matched by name only: otherwise an integer label of the test file would
    # be taken for a position in an order that nobody chose.
    if not (data.class_names or train.class_names):
        classes = replace(classes, matched="name")
    return label_rows(test, columns, classes)


def label_rows(rows: SourceRows, columns: Columns, classes: Classes) -> LabelledText:
    """Give each row its class index.

    Raises UserError for a missing column, no rows, a column of the wrong type and labels that cannot be classes. Rows
    with missing or invalid text or label are reported in one message with their count, or left out if `classes` says
    so.
    """
    faults = {column: dict(of_column) for column, of_column in rows.faults.items()}
    named = _named_texts(rows, columns, faults)
    refuse_file_names(named["text"][:SAMPLED].to_pylist(), rows.where, columns.text)
    labels = _strings(rows, columns.label, "label", faults).combine_chunks()
    if classes.faulty_rows == "leave_out":
        _refuse_unreadable(rows)
        _add_blank(named["text"], columns.text, faults)
    for of_column in faults.values():
        for row in of_column.keys() & rows.left_out.keys():
            del of_column[row]
    indices, meaning = class_indices(rows, columns, labels, classes, faults)
    used = indices != LEFT_OUT
    notes = [*rows.notes, *(f"{rows.where}, column {columns.label!r}: {note}." for note in meaning.notes)]
    if rows.left_out:
        reasons = Counter(rows.left_out.values())
        counted = ", ".join(f"{rows_text(count)}: {reason}" for reason, count in reasons.most_common())
        notes.insert(len(rows.notes), f"{rows.where}: left out, and not used: {counted}.")
    if classes.faulty_rows == "leave_out" and (by_row := faults_by_row(faults)):
        notes.append(
            f"{rows.where}: data.faulty_rows=leave_out: {len(by_row):,} of {len(labels):,} rows are left out "
            f"({kinds_in_line(by_row)}). {list_rows(rows, by_row)}"
        )
        used[list(by_row)] = False
    else:
        blank = _blank_note(rows, named["text"], columns.text)
        refuse_faults(
            rows, faults, " ".join([*filter(None, [meaning.advice_on(faults, columns), rows.advice]), *blank])
        )
        notes += blank
    if not used.any():
        raise UserError(f"{rows.where}: no rows are left: {' '.join(notes)}")
    table = named.add_column(2, "label", pa.array(indices, type=pa.int64()))
    positions = None if used.all() else np.flatnonzero(used)
    return LabelledText(table, meaning.names, rows.origin, positions, notes=tuple(notes))


def _refuse_unreadable(rows: SourceRows) -> None:
    """Raises UserError if more than half of the rows are malformed, which is no fault of single rows but of the file.
    Rows without a text or a label may be as many as they are."""
    malformed = set.intersection(*map(set, rows.faults.values())) if rows.faults else set()
    if 2 * len(malformed) > rows.table.num_rows:
        faults = {column: {row: of[row] for row in malformed} for column, of in rows.faults.items()}
        refuse_faults(rows, faults, "Most rows cannot be read, so data.faulty_rows=leave_out is refused. Fix the file.")


def rename_classes(labelled: LabelledText, wanted: tuple[str, ...] | None) -> LabelledText:
    """Give the classes of a source the names that the user chose.

    The source's own names (regardless of case) in another order permute the indices; new names replace the source's
    in order. Raises UserError if their count differs, or if only some are the source's names, at other indices.
    """
    own = labelled.class_names
    if wanted is None or wanted == own:
        return labelled
    require_distinct(wanted)
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


def _plain_labels(values: pa.ChunkedArray, column: str, faults: dict[int, str]) -> pa.ChunkedArray:
    """Labels of any Arrow type as strings, as `python_column` reads them: True, 5 for 5.0, NaN missing; a list with one
    element as this element."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.if_else(values, pa.scalar("True", pa.large_string()), pa.scalar("False", pa.large_string()))
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_nested(kind)):
        return values
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        try:
            finite = pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(kind) else values
            return finite.cast(pa.int64())
        except pa.ArrowException:  # A fraction, or too many digits.
            pass
    chunks, first = [], 0
    for chunk in values.chunks:
        strings, of_chunk = python_column(chunk.to_pylist(), column, "label")
        chunks.append(strings)
        faults.update({first + row: fault for row, fault in of_chunk.items()})
        first += len(chunk)
    return pa.chunked_array(chunks, pa.large_string())


def _strings(rows: SourceRows, column: str, role: Role, faults: dict[str, dict[int, str]]) -> pa.ChunkedArray:
    """One column as large_string, without joining its chunks; missing values are added to the faults."""
    values = rows.table[column]
    of_column = faults.setdefault(column, {})
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        values = _decoded(values, rows.where, column)
    if role == "label":
        values = _plain_labels(values, column, of_column)
    kind = values.type
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    absent = values.is_null()
    if is_string and role != "label":  # Labels are matched to `data.relabel` first.
        absent = pc.or_(absent, pc.equal(values, NULL).fill_null(False))
    missing = np.flatnonzero(absent.to_numpy())
    if len(missing) == len(values) and not rows.left_out:
        raise all_missing(rows.where, column, len(values), role)
    for row in missing.tolist():
        of_column.setdefault(row, f"{column} is missing")
    is_number = pa.types.is_integer(kind) or (role == "name" and pa.types.is_floating(kind))
    if pa.types.is_null(kind) or is_string or (role != "text" and is_number):
        strings = values.cast(pa.large_string())
        _add_long(rows, strings, column, role, of_column)
        return strings
    expected = {"text": "strings", "label": "integers or strings", "name": "strings or numbers"}[role]
    share = f" ({len(missing):,} of its {len(values):,} values are missing)" if len(missing) else ""
    option = f"data.{'id' if role == 'name' else role}_column={{}}"
    advice = advice_on_fields(pa.field(column, kind), role, option) or "Convert the column."
    raise UserError(f"{rows.where}: column {column!r} has the type {kind}{share}, expected {expected}. {advice}")


def _blank_rows(texts: pa.ChunkedArray) -> list[int]:
    """The rows whose text is blank; they are refused by no reader, because a rule judges them."""
    # Trimmed copies of the texts may not fit into memory.
    blank = pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0)).fill_null(False)
    return np.flatnonzero(blank.to_numpy()).tolist()


def _blank_note(rows: SourceRows, texts: pa.ChunkedArray, column: str) -> list[str]:
    """Where the blank texts are that `blank_texts` (DAT016) counts; empty if there are none."""
    if not (blank := _blank_rows(texts)):
        return []
    places = "; ".join(map(rows.place, blank[:SHOWN_PLACES])) + ("; …" if len(blank) > SHOWN_PLACES else "")
    return [f"{rows.where}, column {column!r}: {rows_text(len(blank))} without a text ({places})."]


def _add_blank(texts: pa.ChunkedArray, column: str, faults: dict[str, dict[int, str]]) -> None:
    """Add the rows whose text is blank to those that are left out."""
    for row in _blank_rows(texts):
        faults.setdefault(column, {}).setdefault(row, f"{column} is blank")


def _add_long(rows: SourceRows, strings: pa.ChunkedArray, column: str, role: Role, of_column: dict[int, str]) -> None:
    lengths = pc.utf8_length(strings).fill_null(0).to_numpy(zero_copy_only=False)
    too_long = np.flatnonzero(lengths > MAX_CHARACTERS[role])
    if role == "label" and 5 * len(too_long) > len(lengths):
        raise UserError(
            f"{rows.where}: column {column!r} has up to {lengths.max():,} characters per row, expected a class name of "
            f"at most {MAX_CHARACTERS[role]:,}. It seems to contain texts. Set data.label_column to the column with "
            "the class."
        )
    for row in too_long.tolist():
        length, most = lengths[row], MAX_CHARACTERS[role]
        of_column.setdefault(row, f"{column} has {length:,} characters, expected at most {most:,}")


def _decoded(values: pa.ChunkedArray, where: str, column: str) -> pa.ChunkedArray:
    """A binary column as strings. Raises UserError unless it is UTF-8."""
    try:
        return values.cast(pa.large_string())
    except pa.ArrowException as error:
        raise UserError(
            f"{where}: column {column!r} has the type {values.type}, and its bytes are not UTF-8. Convert the column."
        ) from error


def file_source(data: Data) -> SourceData:
    """Read `data.path` and `data.test_path`. Raises UserError for files that cannot be read or understood."""
    if data.path is None:
        raise UserError("data.source=file requires data.path, the file to train on.")
    columns = columns_of(data)
    train = read_rows(data.path, columns)
    if data.test_path is None:
        return label_splits(train, Missing("data.test_path is not set"), data)
    return label_splits(
        train, train if data.test_path == data.path else read_rows(data.test_path, columns, is_test=True), data
    )


def read_table(
    path: str | Path,
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    relabel: Mapping[str, str | None] | None = None,
    faulty_rows: FaultyRows = "refuse",
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
    classes = Classes(class_names, relabel=dict(relabel or {}), faulty_rows=faulty_rows)
    return label_file(read_rows(path, columns), columns, classes)


def from_dataframe(
    frame: "pandas.DataFrame",
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    relabel: Mapping[str, str | None] | None = None,
    faulty_rows: FaultyRows = "refuse",
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
    classes = Classes(class_names, relabel=dict(relabel or {}), faulty_rows=faulty_rows)
    return label_rows(SourceRows(pa.table(arrays), origin, origin, faults), columns, classes)


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
