"""Text files without columns: one text per line, or fastText's lines, whose labels come first."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from shlex import quote

from tenor.data.files import dialect
from tenor.data.files.commands import content_of, new_name, with_header
from tenor.data.files.headers import SAMPLE_ROWS, USUAL_NAMES, likely_names
from tenor.data.files.opening import open_text, set_path
from tenor.data.files.stream import Block, FileRow, FileRows, Limits, in_blocks
from tenor.errors import UserError

TEXT, LABEL = "text", "label"
MARK = "__label__"
FASTTEXT_LINE = re.compile(rf"((?:{MARK}\S+\s+)*{MARK}\S+)(?:\s+(.*))?")
FIRST_LINES = 100
"""Count of lines at the beginning of a file that decide its format."""


def plain_rows(path: Path, others: Sequence[Path] = ()) -> FileRows:
    """A text file as rows: lines, or in fastText's format labels and texts; `others` are files that are read after it.

    Raises UserError for a file whose lines are all separated by tabs into the same number of fields: its labels would
    be part of the texts.
    """
    with open_text(path, "\n") as lines:
        first = [line for line in islice(_bounded(path, lines), FIRST_LINES) if line.strip()]
    marked = sum(line.startswith(MARK) for line in first)
    if first and 2 * marked > len(first):
        return _fasttext(path)
    _refuse_header(path, first)
    _refuse_tabs(path, others)
    names = (TEXT,)

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        return in_blocks(_texts(path), names, limits, choose)

    return FileRows(str(path), path.name, "line", "strings", names, read, (path,))


def has_labels(path: Path) -> bool:
    """Whether the first lines have labels: fastText's, or fields separated by tabs."""
    with open_text(path, "\n") as lines:
        first = [line for line in islice(_bounded(path, lines), FIRST_LINES) if line.strip()]
    return bool(first) and (all(line.startswith(MARK) for line in first) or all("\t" in line for line in first))


def _fasttext(path: Path) -> FileRows:
    names = (LABEL, TEXT)

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        return in_blocks(_labelled(path), names, limits, choose)

    note = f"{path}: is in fastText's format: {MARK}X at the beginning of a line is its label, not part of the text."
    reading = {"format": "fasttext"}
    return FileRows(str(path), path.name, "line", "strings", names, read, (path,), (note,), reading=reading)


def _labelled(path: Path) -> Iterator[FileRow]:
    with open_text(path, "\n") as lines:
        for number, line in enumerate(_bounded(path, lines), start=1):
            if not line.strip():
                continue
            found = FASTTEXT_LINE.fullmatch(line.strip())
            if found is None:
                yield FileRow((None, line.rstrip("\r\n")), number, f"does not begin with {MARK}")
                continue
            labels = [one.removeprefix(MARK) for one in found[1].split()]
            shown = ", ".join(repr(one[:40]) for one in labels[:4])  # `repr` escapes bytes that are not UTF-8.
            fault = f"has {len(labels)} labels, expected one: {shown}" if len(labels) > 1 else None
            yield FileRow((labels[0], found[2] or ""), number, fault)


def _texts(path: Path) -> Iterator[FileRow]:
    with open_text(path, "\n") as lines:
        for number, line in enumerate(_bounded(path, lines), start=1):
            yield FileRow((line.rstrip("\r\n"),), number)


def _bounded(path: Path, lines: object) -> Iterator[str]:
    most = dialect.MOST_CHARACTERS
    for number, line in enumerate(iter(lambda: lines.readline(most), ""), start=1):  # type: ignore[attr-defined]
        if len(line) >= most:
            raise UserError(f"{path}: line {number:,} has {most:,} characters or more, expected one text per line.")
        yield line


def _refuse_header(path: Path, first: list[str]) -> None:
    """Raises UserError if the first line is a header of a CSV file."""
    line = first[0].strip() if first else ""
    for delimiter in (",", ";", "|"):
        names = [name.strip().strip('"').lower() for name in line.split(delimiter)]
        are_names = len(names) > 1 and all(re.fullmatch(r"[a-z_ ]{1,30}[0-9]?", name) for name in names)
        if are_names and not USUAL_NAMES["text"].isdisjoint(names) and all(delimiter in one for one in first):
            new = new_name(path, suffix=".csv")
            raise UserError(
                f"{path}: its first line is the header of a CSV file, {line[:80]!r}, so that it is not one text per "
                f"line. Rename it and {set_path(new)}, for instance: {content_of(path)} > {quote(str(new))}"
            )


def _refuse_tabs(path: Path, others: Sequence[Path]) -> None:
    """Raises UserError if every line has the same number of tabs, at least one."""
    counts: Counter[int] = Counter()
    sample: list[list[str]] = []
    with open_text(path, "\n") as lines:
        for line in _bounded(path, lines):
            if line.strip():
                if len(sample) < SAMPLE_ROWS:
                    sample.append(line.rstrip("\r\n").split("\t"))
                counts[line.rstrip("\r\n").count("\t")] += 1
                if 0 in counts or len(counts) > 1:
                    return
    if counts:
        fields = sample[0]
        has_header = TEXT in fields or LABEL in fields or all(re.fullmatch(r"[A-Za-z_ ]{1,30}", one) for one in fields)
        header = "\\t".join(likely_names(list(zip(*sample, strict=True))))
        new, command = with_header(header, [path, *others], "", ".tsv")
        if has_header:
            new = new_name(path, suffix=".tsv")
            command = f"{content_of(path)} > {quote(str(new))}"
        raise UserError(
            f"{path}: each line is separated by tabs into {len(fields)} fields, so that it is not one text per line. "
            f"Save it as a .tsv file with a header and {set_path(new)}, for instance: {command}"
        )
