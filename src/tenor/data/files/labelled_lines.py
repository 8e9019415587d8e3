"""Text files that have labels in another form than fastText's: on each line, or in records of `key: value` lines. What
they are, and the command that writes them as JSON Lines.

They are not read as they are, because a text with such a beginning or end may be just a text.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TextIO

from tenor.data.files.commands import content_of, literal, new_name
from tenor.data.files.headers import SETTINGS, USUAL_NAMES, classes_setting
from tenor.data.files.opening import open_bytes, set_path

DELIMITERS = ("\t", "|||", "||", "|", "::", "@", ";", "~", "#", ",", ":", " ")
"""What may separate a label from its text; the first that separates all lines so is taken."""
LINE_END = "\r\n"
ENDS = {"\t": "\t\r\n"}
"""What is not part of the last field of a line; some files have a tab behind it."""
POSITIONS = (0, -1, 1, 2, -2)
"""The places of a label among the fields; before it, or after it, may be ids."""
MOST_CLASSES = 10
FEWEST_OF_CLASS = 2
LONGEST_LABEL = 30
MOST_WORDS = 3
WORD_LABEL = re.compile(r"[-+]?[0-9]{1,2}|pos|neg|neu|positive|negative|neutral|mixed", re.IGNORECASE)
"""What is a label before or after a blank, where any text has a word."""
KEY_LINE = re.compile(r"([^\s:][^:]{0,39}): ?(.*)")
MOST_KEYS = 30
PART = 2**27
"""Characters of a line that are read at once, as in `plain_lines`."""


@dataclass(frozen=True)
class LabelledLines:
    """Where the label of each line is."""

    delimiter: str
    at: int
    """The position of the label among the fields; negative: counted from the end."""
    is_left: bool
    """Whether the text is left of the label."""
    labels: tuple[str, ...]
    has_header: bool


def conversion(path: Path, text: str, label: str, encoding: str | None = None) -> str:
    """What a text file with labels is, the settings and the command that writes it with the columns `text` and `label`
    as JSON Lines; empty for a file without labels. `encoding`: that of the file, if it is not UTF-8."""
    if (keys := _key_records(path, encoding)) is not None:
        return _of_records(path, keys, encoding)
    if (found := labelled_lines(path, encoding)) is None:
        return ""
    shown = ", ".join(map(repr, found.labels[:4]))
    place = {0: "begins with", -1: "ends with"}.get(found.at, "has a field with")
    options = _options(text, label) + classes_setting(found.labels)
    return (
        f"Each line {place} one of {len(found.labels)} labels ({shown}), separated by {found.delimiter!r}. Write text "
        f"and label to a file of their own and {_by_python(path, _of_lines(found), encoding, options)}"
    )


def _options(text: str, label: str) -> str:
    """The settings for the columns that the commands write, where the user has named others."""
    given = {"text": text, "label": label}
    return "".join(f" {SETTINGS[role].format(role)}" for role, name in given.items() if name != role)


def _by_python(path: Path, code: str, encoding: str | None, options: str) -> str:
    new = new_name(path, suffix=".jsonl")
    to_utf8 = "" if encoding is None else f" | iconv -f {encoding} -t UTF-8"
    command = f"{content_of(path)}{to_utf8} | python -c {quote(code)} > {quote(str(new))}"
    return f"{set_path(new, options)}, for instance: {command}"


def _of_lines(found: LabelledLines) -> str:
    """The program that writes text and label of each line."""
    mark, at = literal(found.delimiter), found.at
    stripped = f".rstrip({literal(ENDS.get(found.delimiter, LINE_END))})"
    if at in (0, 1) and not found.is_left:  # A text on the right keeps its own delimiters.
        fields, text, label = f"line{stripped}.split({mark}, {at + 1})", f"f[{at + 1}]", f"f[{at}]"
    elif at in (-1, -2) and found.is_left:
        fields, text, label = f"line{stripped}.rsplit({mark}, {-at})", "f[0]", "f[1]"
    else:
        part = f"f[:{at}]" if found.is_left else f"f[{at + 1}:]"
        fields, text, label = f"line{stripped}.split({mark})", f"{mark}.join({part})", f"f[{at}]"
    lines = "list(sys.stdin)[1:]" if found.has_header else "sys.stdin"
    return (
        f'import json, sys; [print(json.dumps({{"text": {text}.strip(), "label": {label}.strip()}})) '
        f"for f in ({fields} for line in {lines} if line.strip())]"
    )


def labelled_lines(path: Path, encoding: str | None = None) -> LabelledLines | None:
    """Where each line of a file has its label; None if that is not known for every line."""
    for delimiter in DELIMITERS:
        for at in POSITIONS:
            if (found := _label_at(path, encoding, delimiter, at)) is not None:
                return found
    return None


def _label_at(path: Path, encoding: str | None, delimiter: str, at: int) -> LabelledLines | None:
    """The labels at one place of all lines; None at the first line that has none."""
    counts: Counter[str] = Counter()
    left = right = 0
    first = ""
    with _text(path, encoding) as lines:
        for line in _lines(lines):
            fields = line.rstrip(ENDS.get(delimiter, LINE_END)).split(delimiter)
            if len(fields) <= (at if at >= 0 else -at - 1) or len(fields) < 2:
                return None
            label = fields[at].strip()
            if not _is_label(label, delimiter):
                return None
            first = first or label
            counts[label] += 1
            if len(counts) > MOST_CLASSES + 1:
                return None
            left += sum(map(len, fields[:at]))
            right += sum(map(len, fields[at + 1 :])) if at != -1 else 0
    has_header = counts[first] == 1 and first.lower() in USUAL_NAMES["label"]
    labels = {label: count for label, count in counts.items() if not (has_header and label == first)}
    often = sum(count >= FEWEST_OF_CLASS for count in labels.values())
    if not 2 <= len(labels) <= MOST_CLASSES or often < 2 or sum(labels.values()) < 3 * len(labels):
        return None
    is_text = max(left, right) > 3 * counts.total()  # A column of numbers next to another one is no text.
    if not is_text:
        return None
    return LabelledLines(delimiter, at, left > right, tuple(sorted(labels)), has_header)


def _is_label(label: str, delimiter: str) -> bool:
    if delimiter == " ":
        return WORD_LABEL.fullmatch(label) is not None
    return 0 < len(label) <= LONGEST_LABEL and len(label.split()) <= MOST_WORDS and any(map(str.isalnum, label))


def _text(path: Path, encoding: str | None) -> TextIO:
    return TextIOWrapper(open_bytes(path), encoding or "utf-8-sig", "replace", "\n")


def _lines(lines: TextIO) -> Iterator[str]:
    """The lines that are not blank."""
    return (line for line in iter(lambda: lines.readline(PART), "") if line.strip())


# Records of `key: value` lines, with a blank line between them.


def _key_records(path: Path, encoding: str | None) -> dict[str, Counter[str]] | None:
    """The keys of the records of a file and, of those with few values, their values; None for another file.

    Every line is `key: value`, and each record has several keys, the first one being that of all records.
    """
    values: dict[str, Counter[str]] = {}
    records: list[list[str]] = [[]]
    with _text(path, encoding) as lines:
        for line in iter(lambda: lines.readline(PART), ""):
            if not line.strip():
                if records[-1]:
                    records = [*records[:1], []]
                continue
            match = KEY_LINE.fullmatch(line.rstrip("\r\n"))
            if match is None or match[1] in records[-1]:
                return None
            if not records[-1] and records[0] and match[1] != records[0][0]:
                return None
            records[-1].append(match[1])
            of_key = values.setdefault(match[1], Counter())
            if len(of_key) <= MOST_CLASSES:
                of_key[match[2].strip()] += 1
            if len(values) > MOST_KEYS:
                return None
    return values if len(records) > 1 and len(records[0]) > 1 else None


def _of_records(path: Path, keys: dict[str, Counter[str]], encoding: str | None) -> str:
    code = (
        'import itertools, json, sys; [print(json.dumps(dict(map(str.strip, line.split(":", 1)) for line in lines))) '
        "for is_record, lines in itertools.groupby(sys.stdin, lambda line: bool(line.strip())) if is_record]"
    )
    options = ""
    for role in ("text", "label"):
        name = next((key for key in keys if _last_word(key) == role), None) or next(
            (key for key in keys if _last_word(key) in USUAL_NAMES[role]), "NAME"
        )
        options += f" {SETTINGS[role].format(quote(name))}" if name != role else ""
        if role == "label" and name in keys and len(keys[name]) <= MOST_CLASSES:
            options += classes_setting([re.sub(r"\.0+$", "", value) for value in keys[name]])
    shown = ", ".join(map(repr, islice(keys, 6)))
    return (
        f"It has records of `key: value` lines with a blank line between them ({shown}). Write them as JSON Lines and "
        f"{_by_python(path, code, encoding, options)}"
    )


def _last_word(key: str) -> str:
    return re.split(r"[/.: ]", key.lower())[-1]
