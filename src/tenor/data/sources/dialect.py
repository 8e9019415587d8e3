"""How the fields of a CSV or TSV file are parted, and which lines make a record."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from tenor.runs.process_state import OverlappingChange

MOST_CHARACTERS = 2**27
"""In a field or a line: a quote that never closes would take the rest of the file into memory."""
_FIELD_LIMIT = OverlappingChange(read=csv.field_size_limit, write=csv.field_size_limit)


@dataclass(frozen=True)
class Dialect:
    """How fields are parted."""

    delimiter: str
    quotes_enclose: bool = True
    """Whether double quotes enclose fields (RFC 4180); otherwise they are letters, and every line is a record."""
    skip_spaces: bool = False
    """Whether spaces after a delimiter belong to it."""

    def reader(self, lines: Iterable[str]) -> Any:
        """The records of lines, as lists of strings."""
        return csv.reader(lines, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Of the csv module's readers. Strict: a lenient one joins rows silently where a text begins with a quote that
        was not doubled."""
        quoting = csv.QUOTE_MINIMAL if self.quotes_enclose else csv.QUOTE_NONE
        return {"delimiter": self.delimiter, "quoting": quoting, "skipinitialspace": self.skip_spaces, "strict": True}

    def header(self, lines: Iterable[str]) -> list[str]:
        """The first record that is not blank, or none. A header's quotes enclose, whatever those of the rows do."""
        return next((record for record in replace(self, quotes_enclose=True).reader(lines) if record), [])

    def plain_fields(self, line: str) -> list[str]:
        """The fields of a line whose quotes are letters; none for a blank line."""
        line = line.rstrip("\r\n")
        fields = line.split(self.delimiter) if line else []
        return [field.lstrip(" ") for field in fields] if self.skip_spaces else fields

    def fields_alone(self, line: str) -> list[str]:
        """The fields of a line that is a record by itself; none where it is blank or malformed."""
        try:
            return next(self.reader([line]), [])
        except csv.Error:
            return []


@dataclass(frozen=True)
class Span:
    """The lines that are read as one record."""

    first: int
    """Number of its first line, counted from 1."""
    lines: list[str]
    record: list[str]
    """Its fields; none where the line is blank or the record malformed."""
    fault: str
    """What the csv module finds wrong; empty where nothing is."""

    @property
    def last(self) -> int:
        """Number of its last line."""
        return self.first + len(self.lines) - 1


def spans(lines: Iterable[str], dialect: Dialect) -> Iterator[Span]:
    """All lines of a file, record by record. After a malformed record the next line begins a new one."""
    number = 0
    held: list[str] = []

    def counted() -> Iterator[str]:
        nonlocal number
        for line in lines:
            number += 1
            held.append(line)
            yield line

    source = counted()
    reader = dialect.reader(source)
    while True:
        record, fault = [], ""
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reader, fault = dialect.reader(source), str(error)
        yield Span(number - len(held) + 1, held.copy(), record, fault)
        held.clear()


def open_delimited(path: Path) -> TextIO:
    """A byte that is not UTF-8 becomes half of a surrogate pair, so that it spoils its own row alone."""
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


@contextmanager
def fields_up_to(size: int) -> Iterator[None]:
    """Lets the csv module read fields of `size` characters, `MOST_CHARACTERS` at most; its own limit is 131,072."""
    wanted = min(size, MOST_CHARACTERS)
    with _FIELD_LIMIT.made(lambda: csv.field_size_limit(max(csv.field_size_limit(), wanted))):
        yield
