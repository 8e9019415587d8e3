"""Files and data frames of your own."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tenor.config.schema import Data
from tenor.data.dataset import Absent, LabelledText, SourceData
from tenor.data.sequences import list_of
from tenor.data.sources.files import read_rows
from tenor.data.sources.labels import Classes, label_rows, label_splits
from tenor.data.sources.rows import Columns, Rows, columns_of, python_column, require_columns
from tenor.errors import UserError

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


def file_source(data: Data) -> SourceData:
    """`data.path` and `data.test_path`. Raises UserError for what cannot be read or understood."""
    if data.path is None:
        raise UserError("data.source 'file' needs data.path, the file to train on.")
    columns = columns_of(data)
    train = read_rows(data.path, columns)
    if data.test_path is None:
        return label_splits(train, Absent("no data.test_path was given"), data)
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

    Labels are strings, integers or truth values; "1" in a string column is an integer, and so is 1.0. Labels that
    differ in case, blanks or Unicode's normal form only are one class; `notes` says which spellings were merged.
    Without `class_names` the distinct labels, sorted, are the classes, and integers must be 0 … K-1; with them a label
    is one of the names or, where no name is an integer, its position. Without `id_column` the rows are named "1", "2",
    ….
    Raises UserError for what cannot be read or understood.
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
    """The rows of a pandas data frame, as `read_table` reads a file. Rows count from 1, whatever the index.

    Raises UserError for what cannot be understood.
    """
    _require_frame(frame, origin)
    columns = Columns(text_column, label_column, id_column, group_column)
    class_names = None if class_names is None else tuple(list_of(class_names, "class_names"))
    names = [str(name) for name in frame.columns]  # A frame without a header has integers.
    require_columns(names, columns, origin)
    arrays, faults = {}, {}
    for name, role in columns.roles().items():
        arrays[name], faults[name] = python_column(_values(frame.iloc[:, names.index(name)]), name, role)
    return label_rows(Rows(pa.table(arrays), origin, origin, faults), columns, Classes(class_names))


def _require_frame(frame: object, origin: str) -> None:
    if not hasattr(type(frame), "iloc") or not hasattr(type(frame), "columns"):
        how = "frame.to_pandas()" if hasattr(type(frame), "to_pandas") else "pandas.DataFrame(…)"
        raise UserError(f"{origin}: found a {type(frame).__name__}, expected a pandas DataFrame; make one: {how}")


def _values(series: "pandas.Series") -> list[object]:
    values = list_of(series, str(series.name))
    if getattr(series.dtype, "kind", "") == "f" and None in values:
        # pandas turns a column of integers into decimals as soon as one is missing.
        return [int(value) if value is not None and value.is_integer() else value for value in values]
    return values
