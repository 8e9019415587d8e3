"""CSV, TSV, JSON Lines and Parquet files as rows."""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tenor.data.sources.rows import Columns, Rows, python_column, require_columns
from tenor.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
ACCEPTED = (*DELIMITERS, *JSON_LINES, ".parquet")


def read_rows(path: str | Path, columns: Columns) -> Rows:
    """The wanted columns of a file; its suffix decides how it is read.

    In CSV and TSV every value is a string as written ("NA" and "" are no missing values), a field may hold line breaks
    within double quotes, and a double quote within them is doubled. Raises UserError for a file that cannot be read or
    has not the wanted columns.
    """
    file = Path(expanduser(path))
    suffix = file.suffix.lower()
    _require_file(file, suffix)
    try:
        if suffix == ".parquet":
            return _read_parquet(file, columns)
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}.") from error
    _require_utf8(file, content)
    return _read_delimited(file, content, columns) if suffix in DELIMITERS else _read_json(file, content, columns)


def read_parquet_files(paths: list[Path], columns: Columns, origin: str) -> Rows:
    """The wanted columns of several Parquet files with the same columns, one after the other.

    Raises UserError as `read_rows` does, and where a column's type differs between the files.
    """
    tables = [_parquet_table(path, columns) for path in paths]
    try:
        return Rows(pa.concat_tables(tables), str(paths[0].parent / origin), origin)
    except pa.ArrowInvalid as error:
        raise UserError(f"{paths[0].parent}: the columns of {origin} differ between its files: {error}") from error


def _require_file(file: Path, suffix: str) -> None:
    if file.is_dir():
        raise UserError(f"{file}: is a folder, expected a file ({', '.join(ACCEPTED)}). Name the file within it.")
    if not file.exists():
        raise UserError(f"{file}: there is no such file. Check data.path and data.test_path.")
    if suffix not in ACCEPTED:
        raise UserError(f"{file}: unknown suffix {suffix!r}, expected one of {', '.join(ACCEPTED)}.")
    if not file.is_file():
        raise UserError(f"{file}: is not a regular file; write the rows to one first.")
    if file.stat().st_size == 0:
        raise UserError(f"{file}: is empty, expected one labelled text per row.")


def _require_utf8(file: Path, content: bytes) -> None:
    mend = "Save it as UTF-8, for instance: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{file}: is written in UTF-16, expected UTF-8. {mend.replace('WINDOWS-1252', 'UTF-16')}")
    nul = content.find(b"\0")
    if nul >= 0:
        line = content.count(b"\n", 0, nul) + 1
        raise UserError(f"{file}: byte {nul:,} (line {line:,}) is NUL, which no text file holds. Is it a text file?")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte {error.start:,} (line {line:,}) is 0x{content[error.start]:02X}"
        raise UserError(f"{file}: is not UTF-8: {found}, {error.reason}. {mend}") from error


def _read_delimited(file: Path, content: bytes, columns: Columns) -> Rows:
    delimiter = DELIMITERS[file.suffix.lower()]
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    # Strict: a lenient reader joins rows silently where a text begins with a quote that was not doubled.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    with fields_up_to(len(content)):
        try:
            header = next((record for record in reader if record), [])
            _require_header(file, header, delimiter, columns)
            records = [record for record in reader if record]
        except csv.Error as error:
            raise UserError(
                f"{file}: line {reader.line_num:,} is malformed: {error}. A field with a quote, a line break or a "
                "delimiter stands within double quotes, and a quote within them is doubled. The file may be cut off."
            ) from error
    whole = f"the header has {len(header)} fields; put a text that holds the delimiter within double quotes"
    odd = {
        row: f"has {len(record)} fields, {whole}" for row, record in enumerate(records) if len(record) != len(header)
    }
    arrays, faults = {}, {}
    for name in columns.roles():
        at = header.index(name)
        values = ["" if row in odd else record[at] for row, record in enumerate(records)]
        arrays[name] = pa.array(values, type=pa.large_string())
        faults[name] = odd
    return Rows(pa.table(arrays), str(file), file.name, faults, lambda row: f"row {row + 1} (not counting the header)")


def _require_header(file: Path, header: list[str], delimiter: str, columns: Columns) -> None:
    for other in {",", ";", "\t"} - {delimiter}:
        if len(header) == 1 and other in header[0]:
            raise UserError(
                f"{file}: the header {header[0][:80]!r} has a single column; it seems to be separated by {other!r}, "
                f"expected {delimiter!r}. Save it so, or use the suffix .tsv for tabs and .csv for commas."
            )
    require_columns(header, columns, str(file))


@contextmanager
def fields_up_to(size: int) -> Iterator[None]:
    """Lets the csv module read fields of up to `size` characters; its own limit is 131,072."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, size))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_json(file: Path, content: bytes, columns: Columns) -> Rows:
    wanted = columns.roles()
    values: dict[str, list[object]] = {name: [] for name in wanted}
    keys: dict[str, None] = {}
    line_numbers: list[int] = []
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _json_object(file, number, line)
        keys.update(dict.fromkeys(record))
        line_numbers.append(number)
        for name in wanted:
            values[name].append(record.get(name))
    if line_numbers:
        require_columns(list(keys), columns, str(file))
    arrays, faults = {}, {}
    for name, role in wanted.items():
        arrays[name], faults[name] = python_column(values[name], name, role)
    table = pa.table(arrays)
    return Rows(table, str(file), file.name, faults, lambda row: f"line {line_numbers[row]} (row {row + 1})")


def _json_object(file: Path, number: int, line: str) -> dict[str, object]:
    expected = 'expected one object per line, such as {"text": "A fine film.", "label": 1}'
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: line {number:,} is not JSON ({error}); {expected}. The file may be cut off, or hold one JSON "
            "value over several lines."
        ) from error
    if not isinstance(record, dict):
        raise UserError(f"{file}: line {number:,} holds a {type(record).__name__}; {expected}.")
    return record


def _read_parquet(file: Path, columns: Columns) -> Rows:
    return Rows(_parquet_table(file, columns), str(file), file.name)


def _parquet_table(file: Path, columns: Columns) -> pa.Table:
    try:
        with pq.ParquetFile(file) as parquet:
            require_columns(parquet.schema_arrow.names, columns, str(file))
            table = parquet.read(columns=list(columns.roles()))
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is not a sound Parquet file: {error}. It may be cut off; write it again.") from error
    return table
