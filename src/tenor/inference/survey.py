"""One pass over a file before it is predicted: what is in it, and whether all of it can be read and written."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tenor.inference.inputs import JSON_LINES, Chunk, no_column, read_chunks, told
from tenor.inference.records import RECORD, parse_record
from tenor.inference.texts import text_fault


@dataclass
class Survey:
    """What one pass over the whole file found."""

    sha256: str = ""
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    """Names, in order of appearance."""
    faults: int = 0
    """Rows that can't be predicted or written, as far as can be told without a tokenizer."""
    first_fault: str = ""


def survey(path: Path, text_column: str, as_text: bool = False) -> Survey:
    """Read a file once from end to end; `as_text` is whether its rows are to be written as anything but Parquet.

    Raises:
        UserError: a file that can't be read, a text column that isn't there, or a column that can't be written.
    """
    found = Survey()
    from_records = path.suffix.lower() in JSON_LINES
    for chunk in read_chunks(path, text_column, as_text):
        found.rows += len(chunk.texts)
        found.columns.update(dict.fromkeys(_record_names(chunk) if from_records else chunk.kept.column_names))
        for position, text in enumerate(chunk.texts):
            fault = text_fault(text)
            if fault is not None or position in chunk.faults:
                found.faults += 1
                found.first_fault = found.first_fault or told(path, chunk, position, fault or "")
    if from_records and found.rows and text_column not in found.columns:
        raise no_column(path, text_column, list(found.columns))
    with open(path, "rb") as file:
        found.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _record_names(chunk: Chunk) -> Iterator[str]:
    for line in chunk.kept[RECORD].to_pylist():
        yield from parse_record(line)[0]
