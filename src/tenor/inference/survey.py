"""One pass over a file before it is predicted: what is in it, and whether all of it can be read and written."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from tenor.data.sources.delimited import Delimited
from tenor.data.sources.dialect import Dialect
from tenor.inference.inputs import JSON_LINES, Chunk, examine_delimited, no_column, read_chunks, told
from tenor.inference.records import RECORD, parse_record
from tenor.inference.texts import text_fault

SAMPLE_ROWS = 512
SAMPLE_CHARACTERS = 20_000
"""Of a sampled text: far more than a model reads at once, and little enough to keep hundreds of."""

Drawn = list[tuple[float, str]]


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
    sample: list[str] = field(default_factory=list)
    """Texts that can be predicted, evenly from the whole file, the same at every reading; long ones cut."""
    delimited: Delimited | None = None
    """How a CSV or TSV file is written; None for another kind of file."""

    @property
    def dialect(self) -> Dialect | None:
        """How the fields of a CSV or TSV file are parted; None where that is as usual."""
        found = self.delimited
        return None if found is None or found.dialect == Dialect(found.dialect.delimiter) else found.dialect

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the file is read."""
        return () if self.delimited is None else self.delimited.notes


def survey(path: Path, text_column: str, as_text: bool = False) -> Survey:
    """Read a file once from end to end; `as_text` is whether its rows are to be written as anything but Parquet.

    Raises:
        UserError: a file that can't be read, a text column that isn't there, or a column that can't be written.
    """
    found = Survey(delimited=examine_delimited(path, text_column))
    from_records = path.suffix.lower() in JSON_LINES
    random, drawn = np.random.default_rng(0), Drawn()
    for chunk in read_chunks(path, text_column, as_text, found.delimited):
        found.rows += len(chunk.texts)
        found.columns.update(dict.fromkeys(_record_names(chunk) if from_records else chunk.kept.column_names))
        sound = []
        for position, text in enumerate(chunk.texts):
            fault = text_fault(text)
            if fault is None and position not in chunk.faults:
                sound.append(str(text))
                continue
            found.faults += 1
            found.first_fault = found.first_fault or told(path, chunk, position, fault or "")
        drawn = _drawn(drawn, sound, random)
    found.sample = [text for _, text in drawn]
    if from_records and found.columns and text_column not in found.columns:
        raise no_column(path, text_column, list(found.columns))
    with open(path, "rb") as file:
        found.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _drawn(drawn: Drawn, texts: list[str], random: np.random.Generator) -> Drawn:
    """Every text gets a random number and the lowest stay, so that each of a file has the same chance, however long."""
    numbers = random.random(len(texts))
    limit = drawn[-1][0] if len(drawn) == SAMPLE_ROWS else 1.0
    lower = [(float(numbers[at]), texts[at][:SAMPLE_CHARACTERS]) for at in np.flatnonzero(numbers < limit)]
    return sorted([*drawn, *lower], key=itemgetter(0))[:SAMPLE_ROWS]


def _record_names(chunk: Chunk) -> Iterator[str]:
    for line in chunk.kept[RECORD].to_pylist():
        yield from parse_record(line)[0]
