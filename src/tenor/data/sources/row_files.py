"""Reads CSV, TSV, JSON Lines and Parquet files into rows, which are kept in memory or in a memory-mapped file."""

import codecs
import errno
import io
import json
import mmap
import tempfile
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from os.path import expanduser
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.sources.delimited import DELIMITERS, examine, require_header
from tenor.data.sources.dialect import MOST_CHARACTERS
from tenor.data.sources.exports import Export, recognize
from tenor.data.sources.rows import Columns, SourceRows, python_column, require_columns, stored_class_names
from tenor.errors import TenorError, UserError
from tenor.runs.files import cache_folder

IN_MEMORY = 2**27  # Bytes: four times IMDb's training reviews, and small compared with what training needs.
BLOCK_ROWS = 2**14
BLOCK_CHARACTERS = 2**22
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def in_blocks(records: Iterable[Sequence[object]]) -> Iterator[list[Sequence[object]]]:
    """Records in order, in blocks of at most `BLOCK_ROWS`; a block ends once its strings reach `BLOCK_CHARACTERS`."""
    block: list[Sequence[object]] = []
    characters = 0
    for record in records:
        block.append(record)
        characters += sum(len(value) for value in record if isinstance(value, str))
        if len(block) == BLOCK_ROWS or characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


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


JSON_LINES = (".jsonl", ".ndjson", ".json")
PART_BYTES = 2**20
FASTTEXT_LINES = 100
"""Count of lines at the beginning of a file that are checked."""
ACCEPTED = (*DELIMITERS, *JSON_LINES, ".parquet")


def read_rows(path: str | Path, columns: Columns) -> SourceRows:
    """Read the required columns of a file; its suffix decides the format.

    In CSV and TSV every value is a string as written ("NA" and "" are not missing). A field in double quotes may
    contain line breaks, and a double quote within it is doubled. If the whole file shows that its quotes are literal,
    each line is a row, and a note says so. Raises UserError for a file that cannot be read or lacks a required column.
    """
    file = Path(expanduser(path))
    suffix = file.suffix.lower()
    _require_file(file, suffix)
    try:
        if suffix == ".parquet":
            names = stored_class_names(_parquet_metadata(file), columns.label)
            return SourceRows(_parquet_table([file], columns), str(file), file.name, class_names=names)
        with file.open("rb") as content:
            _require_utf8(file, content)
            content.seek(0)
            return (_read_delimited if suffix in DELIMITERS else _read_json)(file, content, columns)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}.") from error


def read_parquet_files(paths: list[Path], columns: Columns, origin: str) -> SourceRows:
    """Read the required columns of several Parquet files with the same columns, and concatenate them.

    Raises UserError as `read_rows` does, and if a column's type differs between the files.
    """
    return SourceRows(_parquet_table(paths, columns), str(paths[0].parent / origin), origin)


def _require_file(file: Path, suffix: str) -> None:
    if file.is_dir():
        raise UserError(f"{file}: is a folder, expected a file ({', '.join(ACCEPTED)}). Give the path of a file in it.")
    if not file.exists():
        raise UserError(f"{file}: no such file. Check data.path and data.test_path.")
    if suffix not in ACCEPTED and file.is_file():
        refuse_fasttext(file)
    if suffix not in ACCEPTED:
        raise UserError(f"{file}: unknown suffix {suffix!r}, expected one of {', '.join(ACCEPTED)}.")
    if not file.is_file():
        raise UserError(f"{file}: is not a regular file. Write the rows to a regular file first.")
    if file.stat().st_size == 0:
        raise UserError(f"{file}: is empty, expected one labelled text per row.")


def refuse_fasttext(file: Path) -> None:
    """Raises UserError for a file in fastText's format: lines of `__label__X`, then the text."""
    with file.open("rb") as lines:
        read = islice(iter(lambda: lines.readline(PART_BYTES), b""), FASTTEXT_LINES)
        first = [line for line in read if line.strip()]
    if first and all(line.startswith(b"__label__") for line in first):
        raise UserError(
            f"{file}: its lines begin with __label__, which is fastText's format. Tenor does not read it: the label "
            "would be part of the text. Write label and text as two columns of a .tsv file, below a header with their "
            "names."
        )


def _require_utf8(file: Path, content: BinaryIO) -> None:
    fix = "Save it as UTF-8, for instance: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
    decoder = codecs.getincrementaldecoder("utf-8")()
    start, line = 0, 1
    while True:
        part = content.read(PART_BYTES)
        if start == 0 and part.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{file}: is encoded in UTF-16, expected UTF-8. {fix.replace('WINDOWS-1252', 'UTF-16')}")
        if (nul := part.find(b"\0")) >= 0:
            place = _byte_place(part, nul, start, line)
            raise UserError(f"{file}: {place} is NUL, expected a text file. Is it a binary file?")
        incomplete = decoder.getstate()[0]  # The first bytes of a character that is split between two parts.
        try:
            decoder.decode(part, final=not part)
        except UnicodeDecodeError as error:
            decoded = incomplete + part
            place = _byte_place(decoded, error.start, start - len(incomplete), line)
            byte = f"{place} is 0x{decoded[error.start]:02X}, {error.reason}"
            raise UserError(f"{file}: is not UTF-8: {byte}. {fix}") from error
        if not part:
            return
        start, line = start + len(part), line + part.count(b"\n")


def _byte_place(part: bytes, at: int, start: int, line: int) -> str:
    """The position of a byte of a part in its file; the part begins at byte `start`, in line `line`."""
    lines = line + part.count(b"\n", 0, at)
    return f"byte {start + at:,} (line {lines:,})"


def _read_delimited(file: Path, content: BinaryIO, columns: Columns) -> SourceRows:
    def require(header: list[str]) -> None:
        require_header(file, header, columns.roles())
        require_columns(header, columns, str(file), _hint(recognize(header, [])))

    delimited = examine(file, require)
    malformed: dict[int, str] = {}
    records = _fields(delimited.records(), delimited.header, list(columns.roles()), malformed)
    schema = pa.schema([(name, pa.large_string()) for name in columns.roles()])
    table = gather((_string_batch(block, schema) for block in in_blocks(records)), schema)
    faults = dict.fromkeys(columns.roles(), malformed)
    return SourceRows(
        table, str(file), file.name, faults, lambda row: f"row {row + 1} (not counting the header)", delimited.notes
    )


def _fields(
    records: Iterable[list[str]], header: list[str], required: list[str], malformed: dict[int, str]
) -> Iterator[list[str]]:
    """The required fields of each record; a record with too many or too few fields gets an entry in `malformed`."""
    places = [header.index(name) for name in required]
    expected = f"expected {len(header)} as in the header; enclose a text that contains the delimiter in double quotes"
    for row, record in enumerate(records):
        if len(record) == len(header):
            yield [record[place] for place in places]
        else:
            malformed[row] = f"has {len(record)} fields, {expected}"
            yield [""] * len(places)


def _string_batch(block: Sequence[Sequence[object]], schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array(column, pa.large_string()) for column in zip(*block, strict=True)], schema)


def _read_json(file: Path, content: BinaryIO, columns: Columns) -> SourceRows:
    roles = columns.roles()
    keys: dict[str, None] = {}
    left_out: dict[int, str] = {}
    line_numbers = array("q")
    faults: dict[str, dict[int, str]] = {name: {} for name in roles}
    numbered = _json_records(file, content)
    first_ones = list(islice(numbered, SAMPLED_RECORDS))
    sample = [record for _, record in first_ones]
    export = recognize(list(dict.fromkeys(chain.from_iterable(sample))), sample)

    def records() -> Iterator[list[object]]:
        for number, record in chain(first_ones, numbered):
            if export is not None and columns.label != "answer":
                if (reason := export.left_out(record)) is not None:
                    left_out[len(line_numbers)] = f"{reason} ({export.name})"
                record = dict(export.flat(record))
            keys.update(dict.fromkeys(record))
            line_numbers.append(number)
            yield [record.get(name) for name in roles]

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        for block in in_blocks(records()):
            arrays = []
            for (name, role), values in zip(roles.items(), zip(*block, strict=True), strict=True):
                strings, of_block = python_column(values, name, role)
                arrays.append(strings)
                faults[name].update({first + row: fault for row, fault in of_block.items()})
            first += len(block)
            yield pa.record_batch(arrays, schema)

    schema = pa.schema([(name, pa.large_string()) for name in roles])
    table = gather(batches(), schema)
    if line_numbers:
        require_columns(list(keys), columns, str(file), _hint(export))
    return SourceRows(
        table,
        str(file),
        file.name,
        faults,
        lambda row: f"line {line_numbers[row]} (row {row + 1})",
        left_out=left_out,
    )


SAMPLED_RECORDS = 20


def _hint(export: Export | None) -> str:
    return "" if export is None or not export.options else f"This looks like {export.name}; set: {export.options}"


def _json_records(file: Path, content: BinaryIO) -> Iterator[tuple[int, dict[str, object]]]:
    """Each record with its line number."""
    lines = io.TextIOWrapper(content, encoding="utf-8-sig", newline="\n")
    for number, line in enumerate(iter(lambda: lines.readline(MOST_CHARACTERS), ""), start=1):
        if line.strip():
            yield number, _json_object(file, number, line)


def _json_object(file: Path, number: int, line: str) -> dict[str, object]:
    expected = 'expected one JSON object per line, such as {"text": "A fine film.", "label": 1}'
    if len(line) >= MOST_CHARACTERS:
        raise UserError(f"{file}: line {number:,} has {MOST_CHARACTERS:,} characters or more; {expected}.")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: line {number:,} is not JSON ({error}); {expected}. The file may be incomplete, or a "
            "JSON value may span several lines."
        ) from error
    if not isinstance(record, dict):
        raise UserError(f"{file}: line {number:,} is a JSON {type(record).__name__}; {expected}.")
    return record


def _parquet_table(files: list[Path], columns: Columns) -> pa.Table:
    """The required columns of all files, with the types of the first."""
    schema = _parquet_schema(files[0], columns)
    return gather((batch for file in files for batch in _parquet_batches(file, columns, schema)), schema)


def _parquet_metadata(file: Path) -> pa.Schema:
    with _parquet_errors(file), pq.ParquetFile(file) as parquet:
        return parquet.schema_arrow


def _parquet_schema(file: Path, columns: Columns) -> pa.Schema:
    with _parquet_errors(file), pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
    require_columns(schema.names, columns, str(file), _hint(recognize(schema.names, [])))
    return pa.schema([pa.field(name, schema.field(name).type) for name in columns.roles()])


def _parquet_batches(file: Path, columns: Columns, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    own = _parquet_schema(file, columns)
    if own != schema:
        raise UserError(
            f"{file}: its columns are {_types(own)}, expected {_types(schema)} as in the files before it. "
            "Write all files with the same types."
        )
    # Memory-mapped: otherwise Arrow reads whole row groups, and a file may consist of a single one.
    with _parquet_errors(file), pq.ParquetFile(file, memory_map=True) as parquet:
        for batch in parquet.iter_batches(BLOCK_ROWS, columns=list(columns.roles())):
            batch.validate(full=True)
            yield batch.select(schema.names).cast(schema)


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


@contextmanager
def _parquet_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:  # Arrow's own is an ArrowException too.
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: is not a valid Parquet file: {error}. It may be incomplete; write it again."
        ) from error
