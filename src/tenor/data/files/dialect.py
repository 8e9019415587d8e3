"""The dialect of a CSV or TSV file (delimiter, quoting, spaces), and which lines form a record."""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tenor.runs.process_state import OverlappingChange

MOST_CHARACTERS = 2**27
"""Limit for a field or a line: a quote that is never closed would load the rest of the file into memory."""
_FIELD_LIMIT = OverlappingChange(read=csv.field_size_limit, write=csv.field_size_limit)


@dataclass(frozen=True)
class Dialect:
    """How fields are separated and quoted."""

    delimiter: str
    quotes_enclose: bool = True
    """Whether double quotes enclose fields (RFC 4180); otherwise they are literal, and every line is a record."""
    skip_spaces: bool = False
    """Whether spaces after a delimiter are skipped."""
    backslashes_escape: bool = False
    """Whether a quote in a quoted field is escaped by a backslash, as Spark, MySQL and R write it; other backslashes
    are part of the texts."""

    def reader(self, lines: Iterable[str]) -> Any:
        """The records of lines, as lists of strings."""
        return csv.reader(map(_doubled, lines) if self.backslashes_escape else lines, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Options for the csv module's readers. Strict, because a lenient reader silently joins rows if a text begins
        with a quote that is not doubled."""
        quoting = csv.QUOTE_MINIMAL if self.quotes_enclose else csv.QUOTE_NONE
        return {"delimiter": self.delimiter, "quoting": quoting, "skipinitialspace": self.skip_spaces, "strict": True}

    def header(self, lines: Iterable[str]) -> list[str]:
        """The first record that is not blank, or an empty list. Quotes enclose in a header, even if literal in the
        rows."""
        return next((record for record in replace(self, quotes_enclose=True).reader(lines) if record), [])

    def plain_fields(self, line: str) -> list[str]:
        """The fields of a line whose quotes are literal; none for a blank line."""
        line = line.rstrip("\r\n")
        fields = line.split(self.delimiter) if line else []
        return [field.lstrip(" ") for field in fields] if self.skip_spaces else fields

    def fields_alone(self, line: str) -> list[str]:
        """The fields of a line read as a complete record; none if it is blank or malformed."""
        try:
            return next(self.reader([line]), [])
        except csv.Error:
            return []


def _doubled(line: str) -> str:
    """A line with escaped quotes doubled; a backslash that is escaped itself does not escape the quote after it."""
    return _ESCAPED.sub(lambda found: '""' if found[1] == '"' else found[0], line) if '\\"' in line else line


_ESCAPED = re.compile(r'\\([\\"])')


@dataclass(frozen=True)
class Span:
    """Consecutive lines that are read as one record."""

    first: int
    """Number of its first line, counted from 1."""
    lines: list[str]
    record: list[str]
    """Its fields; empty if the line is blank or the record is malformed."""
    fault: str
    """The csv module's error message; empty if there is none."""

    @property
    def last(self) -> int:
        """Number of its last line."""
        return self.first + len(self.lines) - 1


def spans(lines: Iterable[str], dialect: Dialect) -> Iterator[Span]:
    """All lines of a file, record by record. After a malformed record the next line begins a new one."""
    number = 0
    pending: list[str] = []

    def counted() -> Iterator[str]:
        nonlocal number
        for line in lines:
            number += 1
            pending.append(line)
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
        yield Span(number - len(pending) + 1, pending.copy(), record, fault)
        pending.clear()


@contextmanager
def fields_up_to(size: int) -> Iterator[None]:
    """Let the csv module read fields of `size` characters, at most `MOST_CHARACTERS`; its default limit is 131,072."""
    limit = min(size, MOST_CHARACTERS)
    with _FIELD_LIMIT.made(lambda: csv.field_size_limit(max(csv.field_size_limit(), limit))):
        yield
