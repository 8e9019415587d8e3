"""Parquet, Arrow and Feather files, and the folders that `datasets` writes with `save_to_disk`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.files.commands import unused_split
from tenor.data.files.opening import open_bytes, plain_file
from tenor.data.files.stream import Block, FileRows, Limits
from tenor.errors import UserError

FILE_MAGIC = b"ARROW1"
STATE, SPLITS = "state.json", "dataset_dict.json"


def arrow_rows(paths: Sequence[Path], where: str, origin: str) -> FileRows:
    """Parquet or Arrow files with the same columns as rows; the schema is that of the first, with types that hold the
    integers or the strings of all.

    Raises UserError for a file that cannot be read.
    """
    schema = common_schema([_schema(path) for path in paths])

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        names = schema.names if choose is None else list(choose)
        wanted = pa.schema([schema.field(name) for name in names], schema.metadata)
        for path in paths:
            yield from _blocks(path, wanted, limits, path.name if len(paths) > 1 else "")

    return FileRows(where, origin, "row", "arrow", tuple(schema.names), read, tuple(paths), schema=schema)


def _blocks(path: Path, wanted: pa.Schema, limits: Limits, file: str) -> Iterator[Block]:
    own = _schema(path)
    missing = [name for name in wanted.names if name not in own.names]
    chosen = None if missing else pa.schema([own.field(name) for name in wanted.names])
    if chosen is None or not holds(wanted, chosen):
        raise UserError(
            f"{path}: its columns are {_types(chosen or own)}, expected {_types(wanted)} as in the files before it. "
            "Write all files with the same types."
        )
    portion: list[pa.RecordBatch] = []
    first, is_first = 1, True
    with _errors(path):
        for batch in _batches(path, wanted.names, min(limits.rows, limits.arrow_rows)):
            portion.append(batch.select(wanted.names))
            rows = sum(one.num_rows for one in portion)
            if rows >= limits.rows or sum(one.nbytes for one in portion) >= limits.characters:
                yield _block(portion, chosen, wanted, first, file)
                portion, first, is_first = [], first + rows, False
        if portion or is_first:
            yield _block(portion, chosen, wanted, first, file)


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The first schema, with types that hold the integers or the strings of all; where there is none, with its own."""
    fields = []
    for field in schemas[0]:
        for other in schemas[1:]:
            if other.get_field_index(field.name) >= 0:
                added = other.field(field.name)
                kind = _common(field.type, added.type) or field.type
                field = field.with_type(kind).with_nullable(field.nullable or added.nullable)
        fields.append(field)
    return pa.schema(fields, schemas[0].metadata)


def holds(schema: pa.Schema, other: pa.Schema) -> bool:
    """Whether the types of a schema hold the values of the other's columns of the same names."""
    return all(_common(field.type, other.field(field.name).type) == field.type for field in schema)


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """A type that holds the integers or the strings of both; None if there is none."""
    if one.equals(other):
        return one
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        are_unsigned = pa.types.is_unsigned_integer(one) and pa.types.is_unsigned_integer(other)
        return pa.uint64() if are_unsigned else pa.int64()
    return pa.large_string() if _is_string(one) and _is_string(other) else None


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def in_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the types of a schema. Raises ArrowInvalid for an integer beyond its type."""
    for at, name in enumerate(table.column_names):
        column, wanted = table.column(at), schema.field(name)
        if column.type.equals(wanted.type):
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        table = table.set_column(at, wanted.with_metadata(None), column.cast(wanted.type))
    return table


def _block(portion: list[pa.RecordBatch], own: pa.Schema, wanted: pa.Schema, first: int, file: str) -> Block:
    fields = pa.schema([one.with_metadata(None) for one in own])
    batches = [pa.RecordBatch.from_arrays(one.columns, schema=fields) for one in portion]
    table = in_types(pa.Table.from_batches(batches, fields), wanted)
    table = pa.Table.from_arrays(table.columns, schema=pa.schema([one.with_metadata(None) for one in wanted]))
    return Block(table.replace_schema_metadata(wanted.metadata), range(first, first + table.num_rows), file=file)


def is_parquet(path: Path) -> bool:
    with open_bytes(path) as content:
        return content.read(4) == b"PAR1"


def _schema(path: Path) -> pa.Schema:
    with _errors(path), plain_file(path) as source:
        if _suffix(path) in (".parquet", ".pq"):
            with pq.ParquetFile(source) as parquet:
                return parquet.schema_arrow
        with _ipc(source) as reader:
            return reader.schema


def _batches(path: Path, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Small batches, so that memory does not depend on how the file was written."""
    with plain_file(path) as source:
        if _suffix(path) in (".parquet", ".pq"):
            # Memory-mapped: otherwise Arrow reads whole row groups, and a file may consist of a single one.
            with pq.ParquetFile(source, memory_map=isinstance(source, Path)) as parquet:
                yield from parquet.iter_batches(rows, columns=list(names))
            return
        with _ipc(source) as reader:
            is_file = isinstance(reader, pa.ipc.RecordBatchFileReader)
            batches = (reader.get_batch(at) for at in range(reader.num_record_batches)) if is_file else iter(reader)
            for batch in batches:
                _require_sound(batch)
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)


def _require_sound(batch: pa.RecordBatch) -> None:
    """Raises ArrowInvalid for an inconsistent batch, which Arrow maps without examining it. A string that is not UTF-8
    is a fault of its row, which the caller finds."""
    batch.validate()
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            # The offsets of a string column are checked before its characters.
            is_string = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            if not (is_string and "UTF8" in str(error)):
                raise


@contextmanager
def _ipc(source: Any) -> Iterator[Any]:
    """A reader of Arrow's file or stream format, memory-mapped if possible."""
    with pa.memory_map(str(source)) if isinstance(source, Path) else pa.PythonFile(source, mode="r") as content:
        magic = content.read(len(FILE_MAGIC))
        content.seek(0)
        with pa.ipc.open_file(content) if magic == FILE_MAGIC else pa.ipc.open_stream(content) as reader:
            yield reader


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix in SUFFIXES), ".parquet")


SUFFIXES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:  # Arrow's own is an ArrowException too.
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        kind = "Parquet" if _suffix(path) in (".parquet", ".pq") else "Arrow"
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: is not a valid {kind} file: {reason}. It may be incomplete; write it again."
        ) from error


def is_saved_dataset(folder: Path) -> bool:
    """Whether `datasets` wrote a folder with `save_to_disk`."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def saved_dataset_rows(folder: Path) -> FileRows:
    """The rows of a `datasets.Dataset` in a folder of `save_to_disk`. Raises UserError for a folder of several splits,
    and for one that is damaged."""
    if (folder / SPLITS).is_file():
        splits = _json(folder / SPLITS).get("splits")
        names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        test = f" data.test_path={folder / 'test'} data.test_size=null" if "test" in names else ""
        first = "train" if "train" in names else (names or ["train"])[0]
        raise UserError(
            f"{folder}: has the splits {', '.join(names) or 'of no name'}. Give the folder of one: "
            f"data.path={folder / first}{test} (tenor predict: --input {folder / first}).{unused_split(names)}"
        )
    listed = _json(folder / STATE).get("_data_files")
    entries = listed if isinstance(listed, list) else []
    names = [
        entry["filename"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("filename"), str)
    ]
    paths = [folder / Path(name).name for name in names]
    if not paths or any(not path.is_file() for path in paths):
        missing = next((path.name for path in paths if not path.is_file()), "its data files")
        raise UserError(f"{folder}: {missing} is missing. Save the dataset again with save_to_disk.")
    return arrow_rows(paths, str(folder), folder.name)


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(2**24))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Save the dataset again with save_to_disk.") from error
    return content if isinstance(content, dict) else {}
