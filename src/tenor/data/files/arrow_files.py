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
    """Parquet or Arrow files with the same columns as rows; the schema is that of the first.

    Raises UserError for a file that cannot be read.
    """
    schema = _schema(paths[0])

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
    if chosen is None or not chosen.equals(wanted):
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
                yield _block(portion, wanted, first, file)
                portion, first, is_first = [], first + rows, False
        if portion or is_first:
            yield _block(portion, wanted, first, file)


def _block(portion: list[pa.RecordBatch], schema: pa.Schema, first: int, file: str) -> Block:
    fields = [one.with_metadata(None) for one in schema]
    batches = [pa.RecordBatch.from_arrays(one.columns, schema=pa.schema(fields)) for one in portion]
    table = pa.Table.from_batches(batches, pa.schema(fields)).replace_schema_metadata(schema.metadata)
    return Block(table, range(first, first + table.num_rows), file=file)


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
