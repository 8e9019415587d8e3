"""CSV files whose rows have another form than the header: several rows of names, and texts with unquoted delimiters."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote

from tenor.data.files.commands import content_of, new_name
from tenor.data.files.dialect import Dialect
from tenor.data.files.headers import NUMBER, SETTINGS, USUAL_NAMES, likely_settings
from tenor.data.files.opening import open_text, set_path

MOST_HEADER_ROWS = 3
NAME = re.compile(r"[^\W\d][\w .#-]{0,30}")
MOST_LABELS = 20
LONGEST_LABEL = 30
FEWEST_LONG = 3
NEARLY_ALL = 0.95
"""Share of the lines with too many fields whose label must be one of the few."""


def several_header_rows(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], required: Sequence[str], dialect: Dialect
) -> str:
    """A message that the header has several rows, as pandas writes columns of several levels, with the command that
    writes one; empty if it has not. `rows` are the first rows below the first line.

    The first line has a name for several columns, and the next one has a name of its own for each that none of its
    values repeats. A row with the name of the index only may follow.
    """
    names = [name for name in header if not name.startswith("Unnamed: ")]
    if len(set(names)) == len(names) or len(rows) < 2 or any(len(row) != len(header) for row in rows[:2]):
        return ""
    levels = [[cell.strip() for cell in rows[0]]]
    of_index = [cell.strip() for cell in rows[1]]
    has_index = bool(of_index[0]) and not any(of_index[1:])
    data = [row for row in rows[1 + has_index :] if len(row) == len(header)]
    filled = [cell for cell in levels[0] if cell]
    are_names = len(filled) >= len(names) and all(NAME.fullmatch(cell) for cell in filled)
    pairs = Counter(zip(header, levels[0], strict=True))
    if not data or not are_names or max(pairs.values()) > 1 or _repeat(levels[0], data):
        return ""
    one = _one_row(header, levels[0], of_index[0] if has_index else "")
    options, label = likely_settings(one, required)
    if label is None and len(required) > 1:
        words = [name for at, name in enumerate(one) if _is_word_label(name, [row[at] for row in data])]
        options += f" {SETTINGS['label'].format(quote(words[0]))}" if len(words) == 1 else ""
    shared = next(name for name in names if names.count(name) > 1)
    new = new_name(path, "_one_header")
    lines = 2 + has_index
    first = dialect.delimiter.replace("\t", "\\t").join(one)
    command = f"(printf '%b\\n' {quote(first)}; {content_of(path, f'tail -n +{lines + 1}')}) > {quote(str(new))}"
    return (
        f"{path}: the header has several rows: several columns are called {shared!r} in the first one, and names "
        f"of their own follow in the next ({', '.join(map(repr, filled[:4]))}). Write it in one row and "
        f"{set_path(new, options)}, for instance: {command}"
    )


def _repeat(names: Sequence[str], data: Sequence[Sequence[str]]) -> bool:
    """Whether one of these names is a value of its column."""
    return any(name and name in {row[at].strip() for row in data} for at, name in enumerate(names))


def _one_row(first: Sequence[str], second: Sequence[str], index: str) -> list[str]:
    """One name per column: that of the second row, with the first one if it occurs there several times."""
    often = Counter(second)
    names = []
    for above, below in zip(first, second, strict=True):
        above = "" if above.startswith("Unnamed: ") else above
        names.append(below if below and often[below] == 1 else "_".join(filter(None, (above, below))))
    names[0] = names[0] or index or "index"
    return names


def _is_word_label(name: str, values: Sequence[str]) -> bool:
    """Whether a column is called like a label and has words that repeat."""
    few = 2 * len(set(values)) <= len(values) or len(values) < FEWEST_LONG
    return name.lower() in USUAL_NAMES["label"] and few and not all(NUMBER.fullmatch(value) for value in values)


def unquoted_delimiters(
    path: Path,
    header: Sequence[str],
    records: Iterable[Sequence[str]],
    required: Sequence[str],
    dialect: Dialect,
    faults: int = 0,
) -> str:
    """A message that texts contain the delimiter without being enclosed in quotes, with the command that encloses them;
    empty if that is not so.

    `required` are the columns of the texts and the labels; where only texts are read, the other one of two columns may
    be that of the labels. Lines have more fields than the header, and counted from the ends, nearly all have one of few
    labels. `faults`: how many records have malformed quotes, too; then `records` are those of `line_records`, of which
    most must be longer.
    """
    columns = list(required[:2])
    if len(required) == 1 and len(header) == 2:
        columns += [name for name in header if name not in required]
    if len(columns) < 2 or not set(columns) <= set(header) or columns[0] == columns[1]:
        return ""
    text, label, width = header.index(columns[0]), header.index(columns[1]), len(header)
    at = label if label < text else label - width
    found = _long_records(records, text, at, width)
    if found is None or (faults and not (2 * found.long > found.rows and found.are_lines)):
        return ""
    new = new_name(path, "_quoted", ".csv")
    program = _joining(text, width, dialect, bool(faults))
    place = "first" if at == 0 else "last" if at == -1 else f"{'' if at < 0 else at + 1}"
    where = f"the {place} field" if place else "a field counted from the end"
    literal = f" {faults:,} also have double quotes that enclose no whole field: they stay letters." if faults else ""
    return (
        f"{path}: {found.long:,} of {found.rows:,} rows have more fields than the header, because their texts contain "
        f"{dialect.delimiter!r} and are not enclosed in double quotes; {where} of these rows is one of "
        f"{len(found.labels)} labels ({', '.join(map(repr, sorted(found.labels)[:4]))}).{literal} Enclose the texts "
        f"and {set_path(new)}, for instance: {content_of(path)} | python -c {quote(program)} > {quote(str(new))}"
    )


@dataclass(frozen=True)
class _LongRecords:
    """Records that have more fields than the header and one of few labels."""

    rows: int
    long: int
    short: int
    """Count of records with fewer fields."""
    enclosed: int
    """Count of long ones whose text begins and ends with a quote, and so may be enclosed but for a fault."""
    labels: set[str]

    @property
    def are_lines(self) -> bool:
        """Whether each record seems to be one line, without quotes that enclose."""
        return not self.short and 10 * self.enclosed <= self.long


def _long_records(records: Iterable[Sequence[str]], text: int, at: int, width: int) -> _LongRecords | None:
    """The records that are too long, if nearly all of them have one of few labels in field `at`; None if not."""
    labels: Counter[str] = Counter()
    of_rows: set[str] = set()
    rows = long = short = enclosed = 0
    for record in records:
        rows += 1
        if len(record) > width:
            long += 1
            labels[record[at].strip()] += 1
            enclosed += record[text].startswith('"') and record[len(record) - width + text].endswith('"')
            if len(labels) > MOST_LABELS * 5:
                return None
        elif len(record) == width:
            of_rows.add(record[at].strip())
        else:
            short += 1
    few = {one for one, count in labels.items() if one in of_rows or count >= FEWEST_LONG}
    known = sum(labels[one] for one in few if 0 < len(one) <= LONGEST_LABEL)
    if long < FEWEST_LONG or len(few) > MOST_LABELS or known < NEARLY_ALL * long:
        return None
    return _LongRecords(rows, long, short, enclosed, few)


def _joining(text: int, width: int, dialect: Dialect, by_line: bool) -> str:
    """A program that writes each record with its text in one field, enclosed in quotes."""
    after, comma = width - 1 - text, _quoted(dialect.delimiter)
    join = f"{comma}.join(f[{text}:len(f)-{after}])" if after else f"{comma}.join(f[{text}:])"
    parts = ", ".join([*([f"*f[:{text}]"] if text else []), join, *([f"*f[-{after}:]"] if after else [])])
    start = "import csv, re, sys; w = csv.writer(sys.stdout); "
    if by_line:
        pattern = _sound_line(width, dialect.delimiter).replace('"', "\\x22").replace("\t", "\\t")
        fields = f"next(csv.reader([l], delimiter={comma})) if p.fullmatch(l) else l.split({comma})"
        lines = 'for l in map(lambda l: l.rstrip("\\r\\n"), sys.stdin) if l'
        return f'{start}p = re.compile("{pattern}"); [w.writerow([{parts}]) {lines} for f in [{fields}]]'
    reading = f"delimiter={comma}" + ("" if dialect.quotes_enclose else ", quoting=3")
    reading += ", skipinitialspace=True" if dialect.skip_spaces else ""
    return f"{start}[w.writerow([{parts}]) for f in csv.reader(sys.stdin, {reading}) if f]"


def line_records(path: Path, width: int, delimiter: str) -> Iterator[list[str]]:
    """The fields of each line below the header: as they are enclosed, if the line has the header's number of sound
    fields, else with literal quotes."""
    sound = re.compile(_sound_line(width, delimiter))
    with open_text(path) as lines:
        for line in islice(filter(None, (line.rstrip("\r\n") for line in lines)), 1, None):
            yield next(csv.reader([line], delimiter=delimiter)) if sound.fullmatch(line) else line.split(delimiter)


def _sound_line(width: int, delimiter: str) -> str:
    """The pattern of a line with so many fields, each without quotes at its beginning or enclosed in quotes."""
    one = f'(?:"(?:[^"]|"")*"|[^"{delimiter}][^{delimiter}]*|)'
    return f"{one}(?:[{delimiter}]{one}){{{width - 1}}}"


def _quoted(delimiter: str) -> str:
    return '"' + delimiter.replace("\t", "\\t") + '"'
