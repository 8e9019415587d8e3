"""CSV and TSV files: the dialect is recognized from the whole file, and the same for training and for prediction."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path, PurePath
from shlex import quote
from typing import IO

from tenor.data.files.commands import content_of, new_name
from tenor.data.files.dialect import Dialect, fields_up_to, spans
from tenor.data.files.headerless import READ_NOTE
from tenor.data.files.headers import (
    MOST_WORDS_OF_A_NAME,
    SAMPLE_ROWS,
    classes_setting,
    described,
    describing_rows,
    likely_settings,
    lost_first_row,
    row_with_names,
    tidied_names,
    unknown_columns,
)
from tenor.data.files.odd_rows import line_records, several_header_rows, unquoted_delimiters
from tenor.data.files.opening import (
    NotUtf8,
    encoding_fix,
    inner_name,
    is_known_without_header,
    most_bytes,
    open_bytes,
    open_text,
    set_path,
)
from tenor.data.files.quoting import MalformedQuotes, detect_quoting, read_header, skipped_spaces
from tenor.data.files.stream import Block, FileRow, FileRows, Limits, in_blocks
from tenor.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
OTHER_DELIMITERS = (",", ";", "\t", "|")
PART_BYTES = 2**20
MOST_UNEQUAL = 0.1
"""Share of the records that may have another number of fields than the header with a delimiter that the suffix does not
imply; such rows are reported one by one."""


@dataclass(frozen=True)
class Delimited:
    """A CSV or TSV file whose delimiter and quoting are known."""

    path: Path
    header: list[str]
    """The names of the columns, without blanks around them; a column without a name has one."""
    dialect: Dialect
    notes: tuple[str, ...] = ()
    """Messages for the user about how it is read; none for a file that follows RFC 4180."""

    def records(self) -> Iterator[list[str]]:
        """The fields of each record below the header, without blank lines.

        Raises UserError for a field that is too long, and if the file changed after `examine` read it.
        """
        with open_text(self.path) as lines, fields_up_to(most_bytes(self.path)):
            try:
                self.dialect.header(lines)
                yield from filter(None, self.dialect.reader(lines))
            except csv.Error as error:
                raise UserError(
                    f"{self.path}: malformed: {error}; at most {csv.field_size_limit():,} characters per field are "
                    "read. Shorten the field; if no field is that long, the file changed while it was read: run again."
                ) from error


def delimited_rows(path: Path, required: Sequence[str], others: Sequence[Path] = ()) -> FileRows:
    """A CSV or TSV file as rows. Raises UserError as `examine` does, and if the first row was taken for the header;
    `required` are the columns that the caller needs, which may be missing; `others` are files that are read with it."""
    _refuse_excel_line(path, required)
    try:
        found = examine(path, lambda header: require_header(path, header, required))
    except MalformedQuotes as error:
        records = line_records(path, len(error.header), error.dialect.delimiter)
        if told := unquoted_delimiters(path, error.header, records, required, error.dialect, error.count):
            raise UserError(told) from error
        raise
    sample = list(islice(found.records(), SAMPLE_ROWS))
    describing = describing_rows(sample)
    sample = sample[describing:]
    if not set(required) <= set(found.header) and (below := row_with_names(sample, required)) is not None:
        new, below = new_name(path, "_header_first"), below + describing
        raise UserError(
            f"{path}: the names of the columns are in row {below + 1:,} below the first one. Remove the rows above and "
            f"{set_path(new)}. If each row is one line: {content_of(path, f'tail -n +{below + 2}')} > {quote(str(new))}"
        )

    if told := several_header_rows(path, found.header, sample, required, found.dialect):
        raise UserError(told)
    if any(len(record) > len(found.header) for record in sample) and (
        told := unquoted_delimiters(path, found.header, found.records(), required, found.dialect)
    ):
        raise UserError(told)

    def values(at: int) -> Iterator[str]:
        return (record[at] for record in found.records() if len(record) > at)

    if not is_known_without_header(path) and (
        lost := lost_first_row([path, *others], found.header, sample, required, found.dialect.delimiter, values)
    ):
        raise UserError(lost)
    usual = Dialect(delimiter_of(path))
    reading = {} if found.dialect == usual else {"dialect": asdict(found.dialect)}

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        return in_blocks(_rows(found, describing), found.header, limits, choose)

    return FileRows(
        *(str(path), path.name, "row", "strings", tuple(found.header), read, (path,)),
        notes=(*found.notes, *(f"{path}: {note}." for note in described(describing))),
        reading=reading,
        below_header=True,
    )


def with_other_faults(error: NotUtf8, path: Path, required: Sequence[str]) -> UserError:
    """The error for a file that is not UTF-8, with what else its rows need as far as they can be read: a header, names
    of columns, and class names."""
    encoding = error.encoding
    if encoding is None:
        return error
    try:
        _refuse_excel_line(path, required, error)
    except UserError as of_line:
        return of_line
    with io.TextIOWrapper(open_bytes(path), encoding, "replace", "") as lines:
        line = lines.readline(PART_BYTES)
    delimiter = max((delimiter_of(path), *OTHER_DELIMITERS), key=line.count)
    delimiter = delimiter_of(path) if delimiter_of(path) in line else delimiter

    def records() -> Iterator[list[str]]:
        with io.TextIOWrapper(open_bytes(path), encoding, "replace", "") as lines, fields_up_to(most_bytes(path)):
            yield from filter(None, Dialect(delimiter).reader(lines))

    def values(at: int) -> Iterator[str]:
        return (record[at] for record in islice(records(), 1, None) if len(record) > at)

    try:
        first = list(islice(records(), SAMPLE_ROWS + 1))
        header = tidied_names(first[0])[0]
        if lost := lost_first_row([path], header, first[1:], required, delimiter, values, encoding):
            return UserError(f"{error.head} It looks like {encoding}. And {lost.removeprefix(f'{path}: ')}")
        options, columns = _settings(records(), required)
    except (csv.Error, IndexError):  # What else is wrong will be reported when the file is UTF-8.
        return error
    return UserError(f"{error.head} {columns}{encoding_fix(path, more=options)}") if options else error


def _rows(found: Delimited, describing: int) -> Iterator[FileRow]:
    """The rows below those that describe the columns, which are counted in the numbers."""
    width = len(found.header)
    expected = f"expected {width} as in the header; enclose a text that contains the delimiter in double quotes"
    for number, record in islice(enumerate(found.records(), start=1), describing, None):
        if len(record) != width:
            cells = (*record[:width], *[None] * (width - len(record)))
            yield FileRow(cells, number, f"has {len(record)} fields, {expected}")
        elif width > 1 and record == found.header:
            yield FileRow(record, number, "repeats the header; were files joined? Remove this line")
        else:
            yield FileRow(record, number)


def delimiter_of(path: Path) -> str:
    """The delimiter that the suffix implies."""
    return DELIMITERS[PurePath(inner_name(path)).suffix.lower()]


def examine(path: Path, require: Callable[[list[str]], None], delimiter: str | None = None) -> Delimited:
    """Detect the delimiter and the quoting of a file. `require` receives the header and raises UserError if it is
    unsuitable.

    Without a `delimiter` the suffix decides, unless another one separates the header and nearly all records into the
    same number of fields, and the suffix's does not: then a note says so.

    A file that contains a double quote is read completely: a literal quote that is taken for an opening one would
    join all lines up to the next quote into one record.

    Raises:
        UserError: an unsuitable header, or a malformed line; the message names the line of the opening quote.
    """
    notes: list[str] = []
    with fields_up_to(most_bytes(path)):
        _refuse_excel_line(path)
        dialect = Dialect(delimiter or delimiter_of(path))
        if delimiter is None and (other := _other_delimiter(path, dialect)) is not None:
            notes.append(f"is separated by {other!r}, not by {dialect.delimiter!r} as its suffix implies, and read so")
            dialect = Dialect(other)
        header = read_header(path, dialect)
        if len(header) > 1 and all(name.startswith(" ") for name in header[1:]):
            spaced = Dialect(dialect.delimiter, skip_spaces=True)
            if any(name.lstrip(" ").startswith('"') for name in header) or _rows_have_spaces(path, dialect):
                header = read_header(path, spaced)
            if _rows_have_spaces(path, dialect):
                dialect = spaced
                notes.append(skipped_spaces(dialect))
        if (whole := _whole_header(path, header, dialect)) is not None:
            header, note = whole
            notes.append(note)
        if is_known_without_header(path):
            notes.append(READ_NOTE)
        header, of_names = tidied_names(header)
        require(header)
        if _has_quote(path):
            quoting = detect_quoting(path, header, dialect)
            dialect = quoting.dialect
            notes += quoting.notes
    return Delimited(path, header, dialect, tuple(f"{path}: {note}." for note in (*notes, *of_names)))


def _rows_have_spaces(path: Path, dialect: Dialect) -> bool:
    """Whether a delimiter is followed by a space and a quote in the first rows, or each one of a row by a space."""
    with open_text(path) as lines:
        for line in islice(lines, 1, SAMPLE_ROWS + 1):
            fields = dialect.plain_fields(line)[1:]
            if f'{dialect.delimiter} "' in line or (fields and all(field.startswith(" ") for field in fields)):
                return True
    return False


def _whole_header(path: Path, header: list[str], dialect: Dialect) -> tuple[list[str], str] | None:
    """The header with the name that it lacks, and a note, if each row has one field more: row names in front, as R's
    `write.table` writes them, or an empty field after a delimiter at the end of each row. None for another header.

    A text with a comma in each row has one field more, too. So row names are expected in quotes, or before a tab.
    """
    with open_text(path) as lines:
        found = spans(lines, replace(dialect, backslashes_escape=True))
        sample = [span for span in islice(found, SAMPLE_ROWS) if span.record or span.fault]
    below = sample[1:]
    if len(below) < FEWEST_ROWS or any(len(row.record) != len(header) + 1 for row in below):
        return None
    if not any(row.record[-1].strip() for row in below):
        return [*header, ""], "each row ends with a delimiter, unlike the header: the empty field after it is not used"
    are_quoted = all(row.lines[0].startswith('"') for row in sample)
    if not are_quoted and dialect.delimiter != "\t":
        return None
    names = {row.record[0] for row in below}
    if len(names) < len(below) or any(len(name.split()) > MOST_WORDS_OF_A_NAME for name in names):
        return None
    return ["", *header], (
        "each row has one field more than the header: the first is the name of the row, as R writes it, and is called "
        "'Unnamed: 0'"
    )


FEWEST_ROWS = 2


def _refuse_excel_line(path: Path, required: Sequence[str] = (), error: NotUtf8 | None = None) -> None:
    """Raises UserError for a first line that only tells Excel the separator, such as `sep=;`: with the settings for
    the columns, and with the conversion of a file that is not UTF-8, of which `error` says so."""
    encoding = None if error is None else error.encoding
    with _lines(path, encoding) as lines, fields_up_to(most_bytes(path)):
        first = lines.readline(PART_BYTES).strip()
        if not first.lower().startswith("sep=") or len(first) > len("sep=x"):
            return
        named = first[len("sep=") :]
        rows = Dialect(named if named in (",", *OTHER_DELIMITERS) else delimiter_of(path)).reader(lines)
        try:
            options, columns = _settings(filter(None, rows), required)
        except csv.Error:  # What else is wrong will be reported without this line.
            options = columns = ""
    new, what = new_name(path, "_without_sep"), f"its first line, {first!r}, is for Excel and is not a header"
    if error is None or encoding is None:
        head, read = f"{path}: {what}. {columns}Remove it", content_of(path, "tail -n +2")
    else:
        head = f"{error.head} It looks like {encoding}. And {what}. {columns}Save it as UTF-8 without this line"
        read = f"{content_of(path)} | iconv -f {encoding} -t UTF-8 | tail -n +2"
    raise UserError(f"{head} and {set_path(new, options)}, for instance: {read} > {quote(str(new))}")


def _lines(path: Path, encoding: str | None) -> IO[str]:
    return open_text(path) if encoding is None else io.TextIOWrapper(open_bytes(path), encoding, "replace", "")


def _settings(records: Iterator[list[str]], required: Sequence[str]) -> tuple[str, str]:
    """The settings for the columns of a header and the classes in the rows below; a sentence with the names of the
    columns, if those of text and label cannot be known."""
    header = tidied_names(next(records, []))[0]
    if not header:
        return "", ""
    options, label = likely_settings(header, required)
    if label is not None and len(required) > 1:
        at = header.index(label)
        options += classes_setting(record[at] for record in records if len(record) > at)
    unknown, columns = unknown_columns(header, required)
    return options + unknown, columns


def _other_delimiter(path: Path, dialect: Dialect) -> str | None:
    """A delimiter that separates the whole file, where the suffix's does not; None if there is no such delimiter, or
    more than one."""
    with open_text(path) as lines:
        first = next((line for line in lines if line.strip("\r\n")), "")
    candidates = [one for one in OTHER_DELIMITERS if one != dialect.delimiter and one in first]
    if not candidates or _share_unequal(path, dialect) == 0:
        return None
    found = [one for one in candidates if _share_unequal(path, Dialect(one)) <= MOST_UNEQUAL]
    return found[0] if len(found) == 1 else None


def _share_unequal(path: Path, dialect: Dialect) -> float:
    """The share of the lines that have another number of fields than the header, with enclosing or literal quotes; 1
    for a header with a single field. All lines may have one field more (`_whole_header`)."""
    rows = unequal = longer = width = 0
    with open_text(path) as lines:
        for span in spans(lines, dialect):
            if not width:
                width = len(span.record) or (1 if span.fault else 0)
                if width == 1:
                    return 1.0
                continue
            for line in [span.record] if len(span.record) == width else map(dialect.plain_fields, span.lines):
                rows += bool(line)
                unequal += bool(line) and len(line) != width
                longer += bool(line) and len(line) == width + 1
    return 0.0 if not rows or longer == rows else unequal / rows


def require_header(path: Path, header: Sequence[str], required: Iterable[str]) -> None:
    """Raises UserError for a header that lacks a required column and is a comment, or that seems to use another
    delimiter than the file's suffix implies."""
    if not header or set(required) <= set(header):
        return
    delimiter = delimiter_of(path)
    for other in OTHER_DELIMITERS:
        if other != delimiter and len(header) == 1 and other in header[0]:
            raise UserError(
                f"{path}: the header {header[0][:80]!r} has a single column; it seems to be separated by {other!r}, "
                f"expected {delimiter!r}, but many rows have another number of fields. Enclose texts that contain "
                f"{other!r} in double quotes."
            )
    if header[0].startswith("#") and set(required).isdisjoint(name.strip("# ") for name in header):
        raise UserError(
            f"{path}: begins with the comment {header[0][:80]!r}, expected a header with the column names. "
            "Remove the lines before the header, and any other comments."
        )
    if all(len(name) > 1 and name[0] == name[-1] == "'" for name in header):
        new = new_name(path, "_double", ".csv")
        code = (
            f"import pandas; pandas.read_csv({str(path)!r}, quotechar=chr(39), sep={delimiter!r}, dtype=str, "
            f"keep_default_na=False).to_csv({str(new)!r}, index=False)"
        )
        raise UserError(
            f"{path}: its fields are enclosed in single quotes, expected double quotes. Convert it and "
            f"{set_path(new)}, for instance: python -c {quote(code)}"
        )


def _has_quote(path: Path) -> bool:
    with open_bytes(path) as file:
        while part := file.read(PART_BYTES):
            if b'"' in part:
                return True
    return False
