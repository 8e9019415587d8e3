"""CSV and TSV files, read in the same way for training and for prediction."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenor.data.files.dialect import Dialect, fields_up_to, open_delimited
from tenor.data.files.quoting import detect_quoting, read_header, skipped_spaces
from tenor.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OTHER_DELIMITERS = (",", ";", "\t", "|")
PART_BYTES = 2**20


@dataclass(frozen=True)
class Delimited:
    """A CSV or TSV file whose delimiter and quoting are known."""

    path: Path
    header: list[str]
    dialect: Dialect
    notes: tuple[str, ...] = ()
    """Messages for the user about how it is read; none for a file that follows RFC 4180."""

    def records(self) -> Iterator[list[str]]:
        """The fields of each record below the header, without blank lines.

        Raises UserError for a field that is too long, and if the file changed after `examine` read it.
        """
        with open_delimited(self.path) as lines, fields_up_to(self.path.stat().st_size):
            try:
                self.dialect.header(lines)
                yield from filter(None, self.dialect.reader(lines))
            except csv.Error as error:
                raise UserError(
                    f"{self.path}: malformed: {error}; at most {csv.field_size_limit():,} characters per field are "
                    "read. Shorten the field; if no field is that long, the file changed while it was read: run again."
                ) from error


def examine(path: Path, require: Callable[[list[str]], None], delimiter: str | None = None) -> Delimited:
    """Detect the delimiter and the quoting of a file. `require` receives the header and raises UserError if it is
    unsuitable. Without a `delimiter` the suffix decides.

    A file that contains a double quote is read completely: a literal quote that is taken for an opening one would
    join all lines up to the next quote into one record.

    Raises:
        UserError: an unsuitable header, or a malformed line; the message names the line of the opening quote.
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
            quoting = detect_quoting(path, len(header), dialect)
            dialect, notes = quoting.dialect, (*notes, *quoting.notes)
    return Delimited(path, header, dialect, tuple(f"{path}: {note}." for note in notes))


def require_header(path: Path, header: Sequence[str], required: Iterable[str]) -> None:
    """Raises UserError for a header that lacks a required column and is a comment, or that seems to use another
    delimiter than the file's suffix implies."""
    if not header or set(required) <= set(header):
        return
    delimiter = DELIMITERS[path.suffix.lower()]
    for other in OTHER_DELIMITERS:
        if other != delimiter and len(header) == 1 and other in header[0]:
            raise UserError(
                f"{path}: the header {header[0][:80]!r} has a single column; it seems to be separated by {other!r}, "
                f"expected {delimiter!r}. Save it with {delimiter!r}, or use the suffix .tsv for tabs and .csv for "
                "commas."
            )
    if header[0].startswith("#") and set(required).isdisjoint(name.strip("# ") for name in header):
        raise UserError(
            f"{path}: begins with the comment {header[0][:80]!r}, expected a header with the column names. "
            "Remove the lines before the header, and any other comments."
        )


def _has_quote(path: Path) -> bool:
    with open(path, "rb") as file:
        while part := file.read(PART_BYTES):
            if b'"' in part:
                return True
    return False
