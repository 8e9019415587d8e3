"""What the rows of a CSV file that can be read in one way only show of its columns: which other lines may be rows."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tenor.data.files.dialect import Dialect, Span, spans
from tenor.data.files.opening import open_text

FEW_VALUES = 50
"""Maximum count of distinct values in a column of classes."""
FEWEST_ROWS = 3
"""Minimum count of rows from which a column's values show what is valid in it."""
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")


@dataclass
class ColumnProfile:
    """Values of one column, from unambiguous rows."""

    count: int = 0
    are_numbers: bool = True
    are_filled: bool = True
    distinct: set[str] | None = field(default_factory=set)
    """None once there are more than `FEW_VALUES`."""
    enclosed: int = 0
    """Count of values in quotes."""
    most_words: int = 0
    have_digits: bool = True
    """Whether each value contains a digit, like row numbers and ids."""

    def add(self, value: str) -> None:
        self.count += 1
        self.most_words = max(self.most_words, len(value.split()))
        self.have_digits = self.have_digits and any(map(str.isdigit, value))
        self.are_numbers = self.are_numbers and NUMBER.fullmatch(value) is not None
        self.are_filled = self.are_filled and bool(value.strip())
        if self.distinct is not None:
            self.distinct.add(value)
            if len(self.distinct) > FEW_VALUES:
                self.distinct = None

    @property
    def is_class(self) -> bool:
        """Whether its values repeat, like those of classes."""
        return self.count >= FEWEST_ROWS and self.distinct is not None and 2 * len(self.distinct) <= self.count

    @property
    def tells(self) -> bool:
        """Whether its values show which other values are valid in the column."""
        return self.is_class or (self.count >= FEWEST_ROWS and self.are_numbers)

    def fits(self, value: str) -> bool:
        if self.are_filled and not value.strip():
            return False
        if self.tells and self.enclosed == self.count and not value.startswith('"'):
            return False
        if self.is_class and self.distinct is not None:
            return value in self.distinct
        return not self.tells or NUMBER.fullmatch(value) is not None

    def admits(self, value: str) -> bool:
        """Whether a value is possible in the column, such as a class name that occurs in no other row."""
        if self.count < FEWEST_ROWS or (self.is_class and self.fits(value)):
            return True
        if not value.strip():
            return not self.are_filled
        if self.are_numbers:
            return NUMBER.fullmatch(value) is not None
        has_shape = not value[0].isspace() and len(value.split()) <= 2 * self.most_words
        return has_shape and (not self.have_digits or any(map(str.isdigit, value)))


@dataclass
class RowProfile:
    """Statistics of the unambiguous rows: those on one line that are well-formed with enclosing quotes."""

    dialect: Dialect
    columns: list[ColumnProfile]
    of_all: list[ColumnProfile]
    """The same including the records of several lines: outside the joined text, their values are those of rows."""
    enclosing: int = 0
    """Records whose quotes must enclose: they surround a delimiter, a line break or a doubled quote."""
    bare: int = 0
    """Fields with a literal quote."""

    @property
    def rows(self) -> int:
        return min(column.count for column in self.columns)

    @property
    def tells(self) -> bool:
        return any(column.tells for column in self.columns)

    @property
    def quotes_enclose(self) -> bool:
        always = any(column.count >= FEWEST_ROWS and column.enclosed == column.count for column in self.columns)
        return always or self.enclosing > self.bare

    def fits(self, fields: list[str]) -> bool:
        """Whether a line, read with literal quotes, is a row."""
        same = len(fields) == len(self.columns)
        return same and all(column.fits(value) for column, value in zip(self.columns, fields, strict=True))

    def admits(self, line: str, text_at: int) -> bool:
        """Whether a single line could be a row: with enclosing quotes, or with any text in the column `text_at` between
        values as in the other rows."""
        width = len(self.columns)
        places = [at for at in range(width) if at != text_at]
        for fields in (self.dialect.plain_fields(line), self.dialect.fields_alone(line)):
            values = [*fields[:text_at], *fields[len(fields) - (width - 1 - text_at) :]]
            if len(fields) >= width and all(
                self.of_all[at].admits(value) for at, value in zip(places, values, strict=True)
            ):
                return True
        return False


def row_profile(path: Path, width: int, dialect: Dialect) -> RowProfile:
    profile = RowProfile(dialect, [ColumnProfile() for _ in range(width)], [ColumnProfile() for _ in range(width)])
    for span in data_rows(path, dialect):
        if len(span.record) == width:
            for column, value in zip(profile.of_all, span.record, strict=True):
                column.add(value)
        if len(span.lines) == 1 and len(span.record) == width:
            for column, value in zip(profile.columns, span.record, strict=True):
                column.add(value)
            if '"' in span.lines[0]:
                _add_quotes(profile, span)
    return profile


def _add_quotes(profile: RowProfile, span: Span) -> None:
    line = span.lines[0].rstrip("\r\n")
    fields = profile.dialect.plain_fields(line)
    if len(fields) != len(profile.columns):
        profile.enclosing += 1
        written = ['"' + value.replace('"', '""') + '"' for value in span.record]
        if profile.dialect.delimiter.join(written) == line:
            for column in profile.columns:
                column.enclosed += 1
        return
    for column, value in zip(profile.columns, fields, strict=True):
        is_enclosed = value.startswith('"')
        column.enclosed += is_enclosed
        profile.enclosing += is_enclosed and '""' in value[1:-1]
        profile.bare += not is_enclosed and '"' in value


def data_rows(path: Path, dialect: Dialect) -> Iterator[Span]:
    """The spans below the header."""
    with open_text(path) as lines:
        below: Iterable[Span] = spans(lines, dialect)
        for span in below:
            if span.record:
                break
        yield from below
