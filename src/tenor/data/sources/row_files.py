"""Reads the rows of files for training, in memory or into a memory-mapped file."""

import errno
import mmap
import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from tenor.data.files.arrow_files import arrow_rows
from tenor.data.files.folders import conversion_in_place
from tenor.data.files.json_records import EXPECTED
from tenor.data.files.labelled_lines import conversion
from tenor.data.files.nested import available_names, names_of
from tenor.data.files.paired_files import how_to_paste, pairs_of
from tenor.data.files.plain_lines import TEXT as PLAIN_TEXT
from tenor.data.files.reading import open_rows
from tenor.data.files.stream import NOT_UTF8, Block, FileRows, Limits
from tenor.data.sources.exports import Export, recognize
from tenor.data.sources.other_tables import number_of, refuse_chats, refuse_class_columns
from tenor.data.sources.rows import Columns, SourceRows, python_column, require_columns, stored_class_names
from tenor.data.sources.watched import Watched, rejected
from tenor.errors import TenorError, UserError
from tenor.runs.files import cache_folder

IN_MEMORY = 2**27  # Bytes: four times IMDb's training reviews, and small compared with what training needs.
BLOCK_ROWS = 2**14
BLOCK_CHARACTERS = 2**22
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def gather(blocks: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """One table of all blocks.

    Above `IN_MEMORY` bytes they are written to an unnamed file in the cache folder, which is memory-mapped. The file
    disappears with the table, even if the process is killed.
    """
    pending: deque[pa.RecordBatch] = deque()
    size = 0
    for block in blocks:
        pending.append(block)
        size += block.nbytes
        if size > IN_MEMORY:
            return _mapped(chain(_released(pending), blocks), schema)
    return pa.Table.from_batches(pending, schema)


def _released(pending: deque[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The blocks in order; each is dropped here as it is yielded, so that its memory can be freed."""
    while pending:
        yield pending.popleft()


def _mapped(blocks: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    try:
        folder = cache_folder("rows")
        kept = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `with` below)
    except OSError as error:
        raise TenorError(
            f"{error.filename}: cannot write the rows, which are too many for memory, to this folder: "
            f"{error.strerror}. Set TENOR_CACHE to a writable folder."
        ) from error
    try:
        with kept as file:
            with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), schema) as writer:
                for block in blocks:
                    writer.write_batch(block)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno not in DISK_FULL:  # Errors of the input file are reported where it is read.
            raise
        raise TenorError(
            f"{folder}: cannot write the rows, which are too many for memory, to this folder: {error.strerror}. "
            "Free some disk space, or set TENOR_CACHE to a folder that has enough."
        ) from error
    return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()


SAMPLED = Limits(20, 2**20, 20)
"""How many records an export is recognized by."""


def read_rows(path: str | Path, columns: Columns, is_test: bool = False) -> SourceRows:
    """Read the required columns of a file, a folder or a glob (`data/files/reading.py`).

    In CSV, TSV and Excel every value is a string as written ("NA" and "" are not missing). Raises UserError for a file
    that cannot be read or lacks a required column.
    """
    return source_rows(open_rows(path, list(columns.roles()), strict_text=True), columns, is_test)


def read_parquet_files(paths: list[Path], columns: Columns, origin: str) -> SourceRows:
    """Read the required columns of several Parquet files with the same columns, and concatenate them.

    Raises UserError as `read_rows` does, and if a column's type differs between the files.
    """
    return source_rows(arrow_rows(paths, str(paths[0].parent / origin), origin), columns)


def source_rows(rows: FileRows, columns: Columns, is_test: bool = False) -> SourceRows:
    """The required columns of a file's rows, in memory or memory-mapped. Raises UserError as `read_rows` does."""
    export = None if rows.columns is None else _export_of(rows, list(rows.columns))
    nested = rows.kind == "arrow" and export is not None and export.needs_records and columns.label != ANSWER
    if rows.columns is not None and not nested:
        _require_labels(rows, columns)
        available = available_names(rows, columns.roles())
        if not {columns.text, columns.label} <= set(available):
            _refuse_other_tables(rows, columns)
        require_columns(
            available,
            columns,
            rows.where,
            _hint(export, columns, available) or _hint_of_test(available, columns, is_test),
        )
    reader = _Reader(rows, columns, export, nested)
    schema = pa.schema([(name, pa.large_string()) for name in columns.roles()])
    if rows.schema is not None and not nested:
        schema = pa.schema([rows.schema.field(name) for name in columns.roles()], rows.schema.metadata)
    try:
        table = gather(reader.batches(schema), schema)
    except OSError as error:
        raise UserError(f"{error.filename or rows.where}: cannot be read: {error.strerror or error}.") from error
    if rows.columns is not None and _are_fractions(table[columns.label][: SAMPLED.rows].to_pylist()):
        _refuse_other_tables(rows, columns)
    reader.watched.refuse_splits()
    if reader.keys:
        found = list(reader.keys)
        hint = _hint(reader.export, columns, found) or _hint_of_test(found, columns, is_test)
        require_columns(found, columns, rows.where, hint)
    names = None if rows.schema is None else stored_class_names(rows.schema, columns.label)
    return SourceRows(
        *(table, rows.where, rows.origin, reader.faults, reader.place, rows.notes),
        class_names=names,
        left_out=reader.left_out,
        has_fields=reader.has_objects or pa.types.is_nested(schema.field(columns.label).type),
        advice=reader.advice(),
    )


ANSWER = "answer"
"""Prodigy's column of answers, which may be the labels that the user wants."""


def _export_of(rows: FileRows, columns: Sequence[str]) -> Export | None:
    """The export that a table is, recognized by its columns and its first rows."""
    schema = rows.schema or pa.schema([])
    lists = [one.name for one in schema if one.name in ("label", "labels") and pa.types.is_list(one.type)]
    if recognize(columns, []) is None and not lists:
        return None
    export = recognize(columns, _checked(rows, next(rows.read(SAMPLED, None)).table).to_pylist())
    # In tables of strings, lists and dictionaries are texts.
    return None if export is not None and export.is_nested and rows.kind == "strings" else export


def _checked(rows: FileRows, table: pa.Table) -> pa.Table:
    """The table. Raises UserError if it is of an Arrow file and has invalid values, such as bytes that are no text."""
    try:
        table.validate(full=rows.kind == "arrow")
    except pa.ArrowException as error:
        raise UserError(
            f"{rows.where}: is not a valid Parquet file: {error}. It may be incomplete; write it again."
        ) from error
    return table


def _hint(export: Export | None, columns: Columns, available: Sequence[str]) -> str:
    """What to set for an export; also the default names, if the user has given others that do not exist."""
    if export is None:
        return ""
    given = {"text": columns.text, "label": columns.label}
    words = [
        f"data.{role}_column={role}"
        for role, name in given.items()
        if name not in available and role in available and f"data.{role}_column=" not in export.options
    ]
    options = " ".join([*words, *([export.options] if export.options else [])])
    return f"This looks like {export.name}. Set {options}." if options else ""


def _refuse_other_tables(rows: FileRows, columns: Columns) -> None:
    """Raises UserError for a table with one column per class in place of the labels, and for chats."""
    sample = _checked(rows, next(rows.read(SAMPLED, None)).table).to_pylist()
    about = (sample, rows.files, rows.where, columns.text, columns.label)
    refuse_chats(*about)
    refuse_class_columns(*about)


def _are_fractions(values: Sequence[object]) -> bool:
    """Whether these are numbers, and not only whole ones."""
    numbers = [one for value in values if (one := number_of(value)) is not None]
    return 0 < len(numbers) == len(values) and not all(number.is_integer() for number in numbers)


def _hint_of_test(available: Sequence[str], columns: Columns, is_test: bool) -> str:
    """What to do about a test file that lacks nothing but the labels, as in competitions."""
    missing = [name for name in columns.roles() if name not in available]
    if not is_test or missing != [columns.label]:
        return ""
    return (
        "A test result needs labels: add this column, or leave data.test_path out and predict these rows with "
        "tenor predict."
    )


def _require_labels(rows: FileRows, columns: Columns) -> None:
    if rows.columns == (PLAIN_TEXT,) and rows.unit == "line":
        for path in rows.files if len(rows.files) == 1 else ():
            if pairs := pairs_of(path):
                raise UserError(f"{rows.where}: {how_to_paste(pairs)}")
            if told := conversion(path, columns.text, columns.label):
                raise UserError(f"{rows.where}: has no column of labels. {told}")
        raise UserError(
            f"{rows.where}: has one text per line and no labels. Expected a column {columns.label!r}, for instance in "
            "a .csv file, fastText's lines (__label__X, then the text), or one folder of .txt files per class."
        )


class _Reader:
    """Reads the required columns block by block; what belongs to rows is kept by their position."""

    def __init__(self, rows: FileRows, columns: Columns, export: Export | None, nested: bool) -> None:
        self.rows, self.columns, self.roles = rows, columns, columns.roles()
        self.export, self.nested = export, nested
        self.faults: dict[str, dict[int, str]] = {name: {} for name in self.roles}
        self.keys: dict[str, None] = {}
        """All keys of a JSON file, in order of appearance."""
        self.has_objects = False
        """Whether labels of a JSON file are objects or lists, not texts of them."""
        self.left_out: dict[int, str] = {}
        """Rows that are not taught, with the reason."""
        self.count = 0
        self.watched = Watched(rows, list(self.roles))
        self.runs: list[tuple[int, int, str]] = []
        """The position and the number of each row that does not follow the one before it, and its file."""

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        watched = [] if self.rows.columns is None else self.watched.names(self.rows.columns)
        reads = () if self.export is None or self.columns.label == ANSWER else self.export.reads
        chosen = None if self.nested else list(dict.fromkeys([*self.roles, *watched, *reads]))
        for block in self.rows.read(Limits(BLOCK_ROWS, BLOCK_CHARACTERS), chosen):
            if block.records is not None or self.nested:
                records = block.records or _checked(self.rows, block.table).to_pylist()
                yield self._of_records(block, records, schema)
                continue
            for at, fault in block.faults.items():
                for of_column in self.faults.values():
                    of_column[self.count + at] = fault
            table = _checked(self.rows, block.table)
            for name in watched:
                self.watched.add(name, [value for at, value in enumerate(block.values(name)) if at not in block.faults])
            columns = {name: block.values(name) for name in reads}
            found = rejected(self.export, columns, len(block.numbers)) if reads else {}
            self.left_out.update({self.count + at: reason for at, reason in found.items()})
            self._number(block.numbers, block.file)
            yield from table.select(list(self.roles)).to_batches()

    def _of_records(self, block: Block, records: list[dict[str, object]], schema: pa.Schema) -> pa.RecordBatch:
        for at, fault in block.faults.items():
            where = self.rows.where if not block.file else block.file
            expected = f"; {EXPECTED}. The file may be incomplete, or a JSON value may span several lines"
            raise UserError(
                f"{where}: {self.rows.place(block.numbers[at])} {fault}{expected if self.rows.unit == 'line' else ''}."
            )
        if self.export is None and not self.count:
            sample = records[: SAMPLED.rows]
            self.export = recognize(list(dict.fromkeys(key for record in sample for key in record)), sample)
            if self.export is None:
                about = (sample, self.rows.files, self.rows.where, self.columns.text, self.columns.label)
                refuse_chats(*about)
                refuse_class_columns(*about)
        if self.export is not None and self.columns.label != ANSWER:
            records = [self._used(at, record, self.export) for at, record in enumerate(records)]
        for name in self.watched.names(list(dict.fromkeys(key for record in records for key in record))):
            self.watched.add(name, [record[name] for record in records if name in record])
        for record in records:
            for name, value in self.watched.fields(record).items():
                self.watched.add(name, [value])
        self.has_objects |= any(isinstance(record.get(self.columns.label), dict | list) for record in records)
        for record in records:
            self.keys.update(dict.fromkeys((*names_of(record), *(name for name in self.roles if name in record))))
        arrays = []
        for name, role in self.roles.items():
            strings, of_block = python_column([record.get(name) for record in records], name, role)
            arrays.append(strings)
            self.faults[name].update({self.count + row: fault for row, fault in of_block.items()})
        self._number(block.numbers, block.file)
        return pa.record_batch(arrays, schema)

    def _used(self, at: int, record: dict[str, object], export: Export) -> dict[str, object]:
        """The record at this position of the block, flat; the reason why it must not be taught is kept, if any."""
        if (reason := export.left_out(record)) is not None:
            self.left_out[self.count + at] = f"{reason} ({export.name})"
        return dict(export.flat(record))

    def _number(self, numbers: Sequence[int], file: str) -> None:
        expected, last = self.count + 1, ""
        if self.runs:
            position, first, last = self.runs[-1]
            expected = first + self.count - position
        for number in numbers:
            if number != expected or file != last:
                self.runs.append((self.count, number, file))
            expected, last = number + 1, file
            self.count += 1

    def advice(self) -> str:
        """What to do about files that are one text each and not UTF-8."""
        of_text = self.faults[self.columns.text]
        spoiled = [row for row, fault in of_text.items() if fault == NOT_UTF8 and self.rows.unit == "file"]
        return conversion_in_place([Path(self.place(row)) for row in spoiled]) if spoiled else ""

    def place(self, row: int) -> str:
        """The place of a row (0-based) for messages."""
        at = bisect_right(self.runs, row, key=itemgetter(0)) - 1
        position, first, file = self.runs[at] if at >= 0 else (0, 1, "")
        place = self.rows.place(first + row - position, file)
        if self.rows.unit == "line":
            return f"{place} (row {row + 1})"
        return f"{place} (not counting the header)" if self.rows.below_header else place
