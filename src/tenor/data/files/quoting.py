"""Decides from the whole file whether its double quotes enclose fields or are literal characters of the texts.

A reader that takes a literal quote for the beginning of a quoted field joins all lines up to the next quote into one
record, possibly without an error. So lines that form one record, or a malformed one, are also read with literal quotes:
if they then have the header's number of fields, with values as in the other rows, they are rows. If each of them could
be a row but need not be, a note says so.

Written here because the readers of pandas and Arrow take one quoting for given, and join such lines without an error.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from tenor.data.files.dialect import Dialect, Span, spans
from tenor.data.files.opening import open_text
from tenor.data.files.row_profile import FEWEST_ROWS, ColumnProfile, RowProfile, data_rows, row_profile
from tenor.errors import UserError

TOLERATED = 0.1
"""Share of the lines of a TSV file with literal quotes that may have another number of fields: such lines are reported
one by one. Texts contain commas, so in a CSV file every line must have the header's number."""
SHOWN_LINES = 5
SHOWN_CHARACTERS = 60
ROW_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Quoting:
    """The detected dialect."""

    dialect: Dialect
    notes: tuple[str, ...] = ()
    """Messages for the user, without the file's name."""


class MalformedQuotes(UserError):
    """Lines are malformed both with enclosing and with literal quotes."""

    def __init__(self, message: str, header: Sequence[str], dialect: Dialect, count: int) -> None:
        super().__init__(message)
        self.header, self.dialect = header, dialect
        self.count = count
        """Count of the records that are malformed or join rows."""


def detect_quoting(path: Path, header: Sequence[str], dialect: Dialect) -> Quoting:
    """Detect how the quotes of a file are to be read.

    Raises MalformedQuotes for lines that are malformed both with enclosing and with literal quotes; the message names
    the lines of the opening quotes.
    """
    width = len(header)
    scan = _scan(path, width, dialect)
    notes: tuple[str, ...] = ()
    if not dialect.skip_spaces and scan.spaced * 2 >= max(1, scan.rows) and width > 1:
        spaced = replace(dialect, skip_spaces=True)
        if (rescan := _scan(path, width, spaced)).is_clean:
            scan, dialect, notes = rescan, spaced, (skipped_spaces(dialect),)
    if not scan.faults and not scan.joined:
        return Quoting(dialect, notes)
    if scan.escaped and not dialect.backslashes_escape:
        escaped = replace(dialect, backslashes_escape=True)
        rescan = _scan(path, width, escaped)
        if rescan.is_clean and (scan.faults or rescan.joined < scan.joined):
            found = detect_quoting(path, header, escaped)
            note = f"quotes in quoted fields are escaped by backslashes (first in line {scan.escaped:,}), and read so"
            return replace(found, notes=(*notes, note, *found.notes))
    profile = row_profile(path, width, dialect)
    doubts = _doubts(path, profile)
    if doubts.wrong.count and _are_literal(scan, profile, doubts):
        note = _literal_note(scan, width, doubts.wrong.first[0].line)
        return Quoting(replace(dialect, quotes_enclose=False), (*notes, note))
    if doubts.wrong.count:
        message = f"{path}: {_refusal(scan, profile, doubts.wrong)}"
        raise MalformedQuotes(message, header, dialect, doubts.wrong.count)
    if doubts.possible.count:
        notes = (*notes, _joined_note(doubts.possible))
    return Quoting(dialect, notes)


def read_header(path: Path, dialect: Dialect) -> list[str]:
    """The first record that is not blank, or an empty list. Raises UserError if it is malformed; the message names the
    line of the opening quote."""
    with open_text(path) as lines:
        first = next((span for span in spans(lines, dialect) if span.record or span.fault), None)
    if first is not None and first.fault:
        doubt = _opening(first, dialect)
        raise UserError(
            f"{path}: line {doubt.line:,}, the header, is malformed: {doubt.fault}: {_excerpt(doubt.text)}."
        )
    return [] if first is None else first.record


def skipped_spaces(dialect: Dialect) -> str:
    return f"the spaces after each {dialect.delimiter!r} are skipped"


@dataclass
class _Scan:
    """Counts from one pass over the rows."""

    rows: int = 0
    lines: int = 0
    """Count of lines that are not blank."""
    odd: int = 0
    """Lines that have another number of fields than the header if quotes are literal."""
    first_odd: int = 0
    unequal: int = 0
    """Records that have another number of fields if quotes enclose."""
    joined: int = 0
    """Records that span several lines."""
    faults: int = 0
    """Records that are malformed if quotes enclose."""
    spaced: int = 0
    """Records with a field that begins with a space and a quote, where quotes do not enclose."""

    escaped: int = 0
    """The first line with a quote after a backslash; 0 if there is none."""

    @property
    def is_clean(self) -> bool:
        return not self.faults and not self.unequal


def _scan(path: Path, width: int, dialect: Dialect) -> _Scan:
    scan = _Scan()
    mark = f'{dialect.delimiter} "'
    for span in data_rows(path, dialect):
        for at, line in enumerate(span.lines):
            if not scan.escaped and '\\"' in line:
                scan.escaped = span.first + at
            if line not in ("\n", "\r\n", "\r"):
                scan.lines += 1
                if line.count(dialect.delimiter) + 1 != width:
                    scan.odd += 1
                    scan.first_odd = scan.first_odd or span.first + at
        scan.rows += bool(span.record)
        scan.unequal += bool(span.record) and len(span.record) != width
        scan.joined += len(span.lines) > 1 and not span.fault
        scan.faults += bool(span.fault)
        if mark in span.lines[0]:
            scan.spaced += any(value.startswith(' "') for value in span.record[1:])
    return scan


@dataclass(frozen=True)
class _Doubt:
    """Lines that form one record, or a malformed one, if quotes enclose."""

    line: int
    """The line of the opening quote."""
    last: int
    text: str
    """The beginning of the text from the quote on."""
    fault: str
    """The fault, for messages."""
    is_escaped: bool = False
    """Whether the closing quote follows a backslash."""


@dataclass
class _Places:
    """Count of doubtful places, and the first of them."""

    count: int = 0
    first: list[_Doubt] = field(default_factory=list)

    def add(self, span: Span, dialect: Dialect) -> None:
        self.count += 1
        if len(self.first) <= SHOWN_LINES:
            self.first.append(_opening(span, dialect))

    def __add__(self, other: "_Places") -> "_Places":
        first = sorted([*self.first, *other.first], key=lambda doubt: doubt.line)
        return _Places(self.count + other.count, first[: SHOWN_LINES + 1])


@dataclass(frozen=True)
class _Doubts:
    wrong: _Places
    """Malformed records, and records whose lines are rows if quotes are literal."""
    possible: _Places
    """Records whose lines may be rows."""
    all_fit: bool
    """Whether all these lines are rows if quotes are literal."""


def _doubts(path: Path, profile: RowProfile) -> _Doubts:
    places = {kind: _Places() for kind in ("malformed", "rows", "numbered rows", "either")}
    all_fit = True
    for span in data_rows(path, profile.dialect):
        if not span.fault and len(span.lines) == 1:
            continue
        rows = _plain(span, profile.dialect)
        fitting = [fields for fields in rows if profile.fits(fields)]
        all_fit = all_fit and len(fitting) == len(rows)
        kind = "malformed" if span.fault else _kind(rows, fitting, profile, _joined_at(span))
        if kind == "text" and _could_be_rows(span, profile):
            kind = "either"
        if kind == "text":
            profile.enclosing += len(profile.columns) > 1
        else:
            places[kind].add(span, profile.dialect)
    wrong, possible = places["malformed"] + places["rows"], places["either"]
    if profile.quotes_enclose:
        return _Doubts(wrong, possible + places["numbered rows"], all_fit)
    return _Doubts(wrong + places["numbered rows"], possible, all_fit)


def _kind(rows: list[list[str]], fitting: list[list[str]], profile: RowProfile, at: int) -> str:
    """What the lines of one well-formed record are: a `text`, `rows`, `numbered rows` (which may be a text with a
    numbered list) or `either`. `fitting` are the lines that are rows if quotes are literal; `at` is the joined column.

    A text may by chance contain a line that looks like a row, but most of its lines do not, and its first line does
    not end like a row.
    """
    all_fit = len(fitting) == len(rows)
    if len(profile.columns) == 1:
        return "either" if all_fit and profile.bare and not profile.enclosing else "text"
    by_tabs = profile.dialect.delimiter == "\t"
    later = profile.columns[at + 1 :]
    after = any(column.tells for column in later)
    if after and profile.fits(rows[0]):
        return "rows"
    if profile.tells and len(fitting) >= 2 and 2 * len(fitting) >= len(rows):
        named = any(column.tells and not column.are_numbers for column in profile.columns[:at])
        counted = any(_is_counted(fitting, place, profile) for place in range(at))
        return "rows" if by_tabs or after or named or counted else "numbered rows"
    ends = rows[0][at + 1 :][-len(later) :]
    if after and len(ends) == len(later) and all(map(ColumnProfile.fits, later, ends)):
        return "either"
    if profile.tells or not all_fit:
        return "text"
    return "rows" if by_tabs and profile.rows >= FEWEST_ROWS and len(rows) > 2 else "either"


def _could_be_rows(span: Span, profile: RowProfile) -> bool:
    """Whether each line of a well-formed record could be a row. With a single column any line could, unless other rows
    show that quotes enclose. A text beyond the header's last column is a separate error."""
    if len(profile.columns) == 1:
        return not profile.quotes_enclose and all(profile.dialect.delimiter not in line for line in span.lines)
    text_at = _joined_at(span)
    lines = [line for line in span.lines if line.strip("\r\n")]
    return text_at < len(profile.columns) and all(profile.admits(line, text_at) for line in lines)


def _joined_at(span: Span) -> int:
    """The first column whose value has several lines."""
    return next((at for at, value in enumerate(span.record) if "\n" in value or "\r" in value), 0)


def _is_counted(fitting: list[list[str]], at: int, profile: RowProfile) -> bool:
    """Whether a column contains consecutive row numbers."""
    values = [fields[at] for fields in fitting]
    if profile.columns[at].is_class or not all(ROW_NUMBER.fullmatch(value) for value in values):
        return False
    return all(int(one) + 1 == int(other) for one, other in pairwise(values))


def _are_literal(scan: _Scan, profile: RowProfile, doubts: _Doubts) -> bool:
    if len(profile.columns) < 2 or profile.quotes_enclose:
        return False
    if profile.dialect.delimiter == "\t":
        return scan.odd <= TOLERATED * scan.lines
    return scan.odd == 0 and profile.tells and doubts.all_fit


def _literal_note(scan: _Scan, width: int, line: int) -> str:
    each = f"{scan.lines - scan.odd:,} of {scan.lines:,} lines have" if scan.odd else f"all {scan.lines:,} lines have"
    return (
        f"double quotes are read as part of the texts: they do not enclose fields (first in line {line:,}), and "
        f"{each} the header's {width} fields if they are literal"
    )


def _joined_note(possible: _Places) -> str:
    first = possible.first[0]
    more = f", and {possible.count - 1:,} more like it" if possible.count > 1 else ""
    return (
        f"the quoted field that begins in line {first.line:,} is read as one text that spans the lines "
        f"{first.line:,} to {first.last:,}{more}. If these lines are separate rows, double each quote in the texts and "
        "enclose these texts in double quotes"
    )


def _refusal(scan: _Scan, profile: RowProfile, wrong: _Places) -> str:
    first, rest = wrong.first[0], wrong.first[1:]
    message = f"line {first.line:,} is malformed: {first.fault}: {_excerpt(first.text)}."
    if rest:
        shown = ", ".join(f"{doubt.line:,}" for doubt in rest) + (", …" if wrong.count - 1 > len(rest) else "")
        others = "line" if len(rest) == 1 else f"{wrong.count - 1:,} lines,"
        message += f" Malformed in the same way: {others} {shown}."
    if first.is_escaped:
        return f"{message} A quote in a quoted field is escaped by another quote, not by a backslash: double it."
    message += (
        " Enclose a text that contains a double quote, a delimiter or a line break in double quotes, and double each "
        "double quote in it."
    )
    if len(profile.columns) == 1:
        return f"{message} If each line is a text, use the suffix .txt: tenor predict reads such a file line by line."
    if not profile.quotes_enclose and 0 < scan.odd <= scan.lines / 2:
        message += (
            f" If the quotes are literal, each line needs the header's {len(profile.columns)} fields: "
            f"{scan.odd:,} of {scan.lines:,} lines have another number, first in line {scan.first_odd:,}."
        )
    return message


def _excerpt(text: str) -> str:
    return repr(text if len(text) < SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…")


def _opening(span: Span, dialect: Dialect) -> _Doubt:
    """The opening quote that joins the lines of a span or makes it malformed."""
    opened, text, is_inside = span.first, span.lines[0][:SHOWN_CHARACTERS], False
    for number, whole in enumerate(span.lines, span.first):
        line = whole.rstrip("\r\n")
        at: int | None = 0
        while at is not None:
            if not is_inside:
                at = _quoted_field(line, at, dialect)
                if at is None:
                    break
                opened, text, is_inside = number, line[at - 1 : at + SHOWN_CHARACTERS], True
            end = _closing_quote(line, at)
            if end is None:
                if not span.fault:
                    return _Doubt(opened, span.last, text, _swallows(opened, span.last))
                break
            is_inside, rest = False, line[end + 1 :]
            if rest and not rest.startswith(dialect.delimiter):
                return _Doubt(opened, number, text, _closed(opened, number, rest, dialect), line[:end].endswith("\\"))
            at = end + 2 if rest else None
    if "limit" in span.fault:
        fault = (
            f"the field that begins there is longer than {csv.field_size_limit():,} characters, the most that is read"
        )
        return _Doubt(opened, span.last, text, f"{fault}; a double quote that is never closed may be the cause")
    return _Doubt(opened, span.last, text, "the double quote that opens there is never closed")


def _quoted_field(line: str, at: int, dialect: Dialect) -> int | None:
    """The position after the opening quote of the next quoted field, from the beginning of a field on; None if there is
    none."""
    while True:
        while dialect.skip_spaces and line.startswith(" ", at):
            at += 1
        if line.startswith('"', at):
            return at + 1
        at = line.find(dialect.delimiter, at) + 1
        if at == 0:
            return None


def _closing_quote(line: str, at: int) -> int | None:
    """The position of the next quote that is not doubled."""
    while (at := line.find('"', at)) >= 0:
        if not line.startswith('"', at + 1):
            return at
        at += 2
    return None


def _closed(opened: int, closed: int, rest: str, dialect: Dialect) -> str:
    where = "" if opened == closed else f"in line {closed:,} "
    return (
        f"the double quote that opens there is closed {where}before {_excerpt(rest)}, expected {dialect.delimiter!r} "
        "or the end of the line after it"
    )


def _swallows(first: int, last: int) -> str:
    return f"the double quote that opens there joins the lines {first:,} to {last:,}, which are rows, into one field"


def _plain(span: Span, dialect: Dialect) -> list[list[str]]:
    """The lines of a span that are not blank, read with literal quotes."""
    return [fields for line in span.lines if (fields := dialect.plain_fields(line))]
