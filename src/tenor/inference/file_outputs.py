"""Writes the output of a prediction job: one file per finished chunk, so that an interrupted job can be resumed, then
the joined output."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from tenor.data.files.folders import format_suffix
from tenor.data.files.json_records import json_text, parse_record
from tenor.data.files.opening import compression_of
from tenor.data.files.stream import RECORD, encodable
from tenor.errors import TenorError, UserError
from tenor.runs.files import (
    atomic_path,
    read_json,
    remove_leftovers,
    remove_temporaries_of,
    remove_whole,
    write_json,
)

JOB = "job.json"


@dataclass(frozen=True)
class Parts:
    """The finished chunks of one job."""

    folder: Path

    @property
    def count(self) -> int:
        """Count of finished chunks, from the first on without gaps."""
        count = 0
        while self._part(count).exists():
            count += 1
        return count

    @property
    def rows(self) -> int:
        """Count of their rows. Raises UserError for a damaged part."""
        try:
            return sum(pq.read_metadata(self._part(number)).num_rows for number in range(self.count))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.folder} is damaged ({error}). Start again with --restart") from error

    @property
    def job(self) -> dict[str, Any] | None:
        """The identity of the job, or None if none was started. Raises UserError for an invalid file."""
        path = self.folder / JOB
        if not path.exists():
            return None
        job = read_json(path)
        if not isinstance(job, dict):
            raise UserError(f"{path}: is not the description of a job. Start again with --restart")
        return job

    def write(self, number: int, table: pa.Table) -> None:
        """Store the result of a chunk, atomically."""
        with atomic_path(self._part(number)) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def tables(self, rows: Sequence[int]) -> Iterator[pa.Table]:
        """The results in order, one chunk at a time; `rows` has the count of rows per chunk.

        Raises TenorError if the parts are not exactly these chunks.
        """
        for number, expected in enumerate(rows):
            try:
                table = pq.read_table(self._part(number))
            except (pa.ArrowException, OSError) as error:
                raise self._spoiled(number, f"cannot be read: {error}") from error
            if table.num_rows != expected:
                raise self._spoiled(number, f"has {table.num_rows:,} rows, expected {expected:,}")
            yield table
        if self._part(len(rows)).exists():
            raise self._spoiled(len(rows), "exists, but the input has fewer chunks")

    def remove(self) -> None:
        """Remove all parts; if the process is killed meanwhile, the remains are not taken for a job."""
        remove_whole(self.folder)

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _spoiled(self, number: int, fault: str) -> TenorError:
        return TenorError(
            f"{self._part(number)} {fault}. Something else changed the parts of this job, so no output was written. "
            "Start again with --restart"
        )


def parts_of(output: Path) -> Parts:
    """The parts of the job that writes `output`."""
    return Parts(output.with_name(f"{output.name}.parts"))


def refuse_existing(output: Path) -> None:
    """Raises UserError for an output that exists and does not belong to an interrupted job."""
    if output.exists() and parts_of(output).job is None:
        raise UserError(f"{output} already exists. Set another output, or overwrite it with --restart")


@contextmanager
def locked_output(output: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing `output`; its folder is created.

    Raises UserError if another process still writes it after `wait_seconds`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise UserError(f"{output}: another process is writing it. Wait for it, or set another output") from error
    try:
        remove_temporaries_of(output)
        yield
    finally:
        # Removed while it is still locked. A process that opened it before and locks it afterwards has a lock on a
        # removed file, which FileLock does not accept. Windows cannot remove an open file; FileLock removes it there.
        if os.name != "nt":
            path.unlink(missing_ok=True)
        lock.release()


def claim_parts(output: Path, job: Mapping[str, Any], restart: bool, discard_other: bool = False) -> Parts:
    """The parts of the job that writes the locked `output`: new ones, or those of an interrupted call.

    With `restart` the output and all parts are removed first; with `discard_other`, the parts of another job.

    Raises UserError: the output exists, or the parts belong to another input or model.
    """
    parts = parts_of(output)
    if restart:
        parts.remove()
        output.unlink(missing_ok=True)
    previous = parts.job
    if previous is not None and discard_other and differences(previous, job):
        parts.remove()
        output.unlink(missing_ok=True)  # Written from these parts, if it exists.
        previous = None
    if previous is None:
        refuse_existing(output)
        write_json(parts.folder / JOB, dict(job))
        return parts
    remove_leftovers(parts.folder)
    if changes := differences(previous, job):
        raise UserError(
            f"{parts.folder} contains an interrupted job with other settings: {changes}. Resume it with its own "
            "command, set another output, or start again with --restart"
        )
    return parts


def differences(previous: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    """What differs between the descriptions of two jobs, for messages; empty if they are the same."""
    differing = [name for name in sorted({*previous, *job}) if previous.get(name) != job.get(name)]
    return ", ".join(f"{name} {_short(previous.get(name))}, now {_short(job.get(name))}" for name in differing)


def _short(value: Any) -> str:
    return f"{str(value)[:16]}…" if len(str(value)) > 32 else str(value)


DELIMITERS = {".csv": ",", ".tsv": "\t"}
ACCEPTED_OUTPUTS = (*DELIMITERS, ".jsonl", ".ndjson", ".parquet")
COMPRESSED_OUTPUTS = (".gz", ".zst", ".bz2")
"""Compressions of the text formats."""
Tables = Callable[[], Iterator[pa.Table]]
"""Returns the finished chunks in order, from the first on, at each call."""
DECIMALS = 6
"""Decimals of a probability in text files; Parquet stores all digits."""


Kind = Literal["true or false", "integer", "large integer", "number", "text"]
"""The type of a JSON value in a column."""
EXACT = 2**53
"""Integers up to this are exact as float64."""


def require_output(path: Path) -> None:
    """Raises UserError for a path or a suffix that cannot be written."""
    if (fault := suffix_fault(path)) is not None:
        raise UserError(f"{path}: {fault}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file to write. Set another output")
    if not (above := next(folder for folder in path.absolute().parents if folder.exists())).is_dir():
        raise UserError(f"{path}: {above} is not a folder. Set another output")


def suffix_fault(path: Path) -> str | None:
    """Why a file of this suffix cannot be written; None if it can."""
    suffix, compression = format_suffix(path), path.suffix.lower()
    if compression_of(path) is None or suffix not in ACCEPTED_OUTPUTS:
        known, observed = suffix in ACCEPTED_OUTPUTS, path.suffix
    else:
        known = compression in COMPRESSED_OUTPUTS and suffix != ".parquet" and path.stem.lower().endswith(suffix)
        observed = "".join(path.suffixes[-2:])
    if known:
        return None
    return (
        f"unknown suffix {observed!r}, expected one of {', '.join(ACCEPTED_OUTPUTS)}; the text formats also with one "
        f"of {', '.join(COMPRESSED_OUTPUTS)}"
    )


def is_text(path: Path) -> bool:
    """Whether an output format stores values as text; Parquet does not."""
    return format_suffix(path) != ".parquet"


def write_output(path: Path, tables: Tables, columns: list[str], added: list[str], from_records: bool) -> None:
    """Write the chunks to `path`, atomically: the input's `columns`, then those `added`.

    With `from_records` the input's columns are keys of JSON objects, each stored as a line of text.
    """
    suffix = format_suffix(path)
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(temporary, tables, columns, added, from_records)
        elif suffix in DELIMITERS:
            rows = _rows(tables, columns, added, from_records)
            _write_delimited(temporary, DELIMITERS[suffix], rows, [*columns, *added])
        else:
            _write_json_lines(temporary, _rows(tables, columns, added, from_records))


def _rows(tables: Tables, columns: list[str], added: list[str], from_records: bool) -> Iterator[dict[str, Any]]:
    for table in tables():
        kept = [RECORD] if from_records else columns
        for row in table.select([*kept, *added]).to_pylist():
            found = {name: _rounded(row[name]) for name in added}
            before = parse_record(row[RECORD])[0] if from_records else {name: row[name] for name in columns}
            yield {**before, **found}


def _rounded(value: Any) -> Any:
    return round(value, DECIMALS) if isinstance(value, float) else value


def _write_delimited(path: Path, delimiter: str, rows: Iterator[dict[str, Any]], names: list[str]) -> None:
    with _open_text(path, "replace", "") as file:
        plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for cells in chain([names], ([_cell(row.get(name)) for name in names] for row in rows)):
            # The csv module does not quote a carriage return on writing, but requires quotes on reading.
            (quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain).writerow(cells)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_text(value) if isinstance(value, dict | list) else value


def _write_json_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with _open_text(path, "strict", "\n") as file:
        for row in rows:
            file.write(json_text(row) + "\n")


@contextmanager
def _open_text(path: Path, errors: str, newline: str) -> Iterator[TextIO]:
    """A text file to write, compressed as its last suffix says, without a time or a name in its bytes."""
    kind = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(path.suffix.lower())
    if kind is None:
        with open(path, "w", encoding="utf-8", errors=errors, newline=newline) as file:
            yield file
        return
    with (
        pa.OSFile(str(path), "wb") as plain,
        pa.CompressedOutputStream(plain, kind) as packed,
        io.TextIOWrapper(packed, "utf-8", errors, newline, write_through=False) as file,
    ):
        yield file


def _write_parquet(path: Path, tables: Tables, columns: list[str], added: list[str], from_records: bool) -> None:
    types = _record_types(tables, columns) if from_records else {}
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables():
            whole = _from_records(table, types, added) if from_records else table.select([*columns, *added])
            writer = writer or pq.ParquetWriter(path, whole.schema, compression="zstd")
            writer.write_table(whole)
    finally:
        if writer is not None:
            writer.close()


def _record_types(tables: Tables, columns: list[str]) -> dict[str, pa.DataType]:
    """One type per key: one that represents all its values exactly, else text."""
    kinds: dict[str, set[Kind]] = {name: set() for name in columns}
    for table in tables():
        for line in table[RECORD].to_pylist():
            for name, value in parse_record(line)[0].items():
                if value is not None:
                    kinds[name].add(_kind_of(value))
    return {name: _common(found) for name, found in kinds.items()}


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "integer" if abs(value) <= EXACT else "large integer"
    return "number" if isinstance(value, float) else "text"


def _common(found: set[Kind]) -> pa.DataType:
    if found == {"true or false"}:
        return pa.bool_()
    if found and found <= {"integer", "large integer"}:
        return pa.int64()
    return pa.float64() if found and found <= {"integer", "number"} else pa.large_string()


def _from_records(table: pa.Table, types: dict[str, pa.DataType], added: list[str]) -> pa.Table:
    records = [parse_record(line)[0] for line in table[RECORD].to_pylist()]
    columns = {
        name: pa.array([_as(record.get(name), kind) for record in records], kind) for name, kind in types.items()
    }
    return pa.table({**columns, **{name: table[name] for name in added}})


def _as(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind != pa.large_string():
        return value
    text = value if isinstance(value, str) else json_text(value)
    return text if encodable(text) else text.encode("utf-8", "replace").decode()
