"""CSV and TSV files, read in the same way for training and for prediction."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenor.data.sources.dialect import Dialect, fields_up_to, open_delimited
from tenor.data.sources.quoting import detect_quoting, read_header, skipped_spaces
from tenor.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OTHER_DELIMITERS = (",", ";", "\t", "|")
PART_BYTES = 2**20


@dataclass(frozen=True)
class Delimited:
    """A file of which is known how it is written."""

    path: Path
    header: list[str]
    dialect: Dialect
    notes: tuple[str, ...] = ()
    """What a person should know of how it is read; none for a file that is written as RFC 4180 has it."""

    def records(self) -> Iterator[list[str]]:
        """The fields of each record below the header, without blank lines.

        Raises UserError for a field that is too long, and where the file was changed after `examine` read it.
        """
        with open_delimited(self.path) as lines, fields_up_to(self.path.stat().st_size):
            try:
                self.dialect.header(lines)
                yield from filter(None, self.dialect.reader(lines))
            except csv.Error as error:
                raise UserError(
                    f"{self.path}: is malformed: {error}; a field may have {csv.field_size_limit():,} characters. "
                    "Shorten it; if there is none as long, the file was changed while it was read."
                ) from error


def examine(path: Path, require: Callable[[list[str]], None], delimiter: str | None = None) -> Delimited:
    """How a file is written. `require` gets its header and raises UserError for one that will not do. Without a
    `delimiter` the suffix decides.

    A file with a double quote is read whole: where a quote opens that is a letter, all lines up to the next one would
    become one record.

    Raises:
        UserError: a header that will not do, or a malformed line; the message names the line where its quote opens.
    """
    dialect = Dialect(delimiter or DELIMITERS[path.suffix.lower()])
    with fields_up_to(path.stat().st_size):
        header = read_header(path, dialect)
        notes: tuple[str, ...] = ()
        if len(header) > 1 and all(name.startswith(" ") for name in header[1:]):
            dialect = Dialect(dialect.delimiter, skip_spaces=True)
            header, notes = read_header(path, dialect), (skipped_spaces(dialect),)
        require(header)
        if _has_quote(path):
            settled = detect_quoting(path, len(header), dialect)
            dialect, notes = settled.dialect, (*notes, *settled.notes)
    return Delimited(path, header, dialect, tuple(f"{path}: {note}." for note in notes))


def require_header(path: Path, header: Sequence[str], wanted: Iterable[str]) -> None:
    """Raises UserError for a header without a wanted column that is a comment, or that seems to be separated by another
    delimiter than that of the file's suffix."""
    if not header or set(wanted) <= set(header):
        return
    delimiter = DELIMITERS[path.suffix.lower()]
    for other in OTHER_DELIMITERS:
        if other != delimiter and len(header) == 1 and other in header[0]:
            raise UserError(
                f"{path}: the header {header[0][:80]!r} has a single column; it seems to be separated by {other!r}, "
                f"expected {delimiter!r}. Save it so, or use the suffix .tsv for tabs and .csv for commas."
            )
    if header[0].startswith("#") and set(wanted).isdisjoint(name.strip("# ") for name in header):
        raise UserError(
            f"{path}: begins with the comment {header[0][:80]!r}, expected the header with the names of the columns. "
            "Remove the lines before the header, and other comments."
        )


def _has_quote(path: Path) -> bool:
    with open(path, "rb") as file:
        while part := file.read(PART_BYTES):
            if b'"' in part:
                return True
    return False
