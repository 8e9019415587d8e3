"""Tables that have texts and classes, but not one text and one label per row: names of files in place of texts,
probabilities or marks per class, chats. What they are, and the command that writes one label per row."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from tenor.data.files.columns_added import selection_of
from tenor.data.files.commands import content_of, literal, new_name
from tenor.data.files.folders import format_suffix
from tenor.data.files.headers import SETTINGS, Wanted, likely_settings, obvious
from tenor.data.files.opening import open_bytes, open_text, set_path
from tenor.errors import UserError

FILE_NAME = re.compile(r"[^\n]{1,250}\.(txt|text|md|html?|xml|json|rtf|docx?|pdf|eml|csv|tsv)(\.gz)?", re.IGNORECASE)
FEWEST_ROWS = 3
FEWEST_MARKS = 3
"""Columns of 0 and 1 that look like several labels per row."""
SHOWN = 6
DELIMITERS = (",", ";", "\t", "|")
MOST_CHARACTERS = 2**20
TOLERATED = 0.02
"""How far from 1 the sum of rounded probabilities may be."""
READERS = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "pandas.read_csv({}, sep={}, keep_default_na=False)"),
    ".jsonl": "pandas.read_json({}, lines=True, dtype=False)",
    ".ndjson": "pandas.read_json({}, lines=True, dtype=False)",
    ".json": "pandas.read_json({}, dtype=False)",
    ".parquet": "pandas.read_parquet({})",
    ".feather": "pandas.read_feather({})",
    ".xlsx": 'pandas.read_excel({}, engine="calamine", keep_default_na=False)',
}
"""How pandas reads a file, by its suffix."""


def refuse_file_names(texts: Sequence[str | None], where: str, column: str) -> None:
    """Raises UserError if all texts are names of files, as in the lists that cloud services write next to the texts."""
    known = [text for text in texts if text is not None]
    if len(known) < FEWEST_ROWS or not all(FILE_NAME.fullmatch(text.strip()) for text in known):
        return
    path, selection = selection_of(Path(where))
    fix = "Put the content of each file into the column"
    if (folder := _folder_of(path, known)) is not None and (reader := _reader(path)) is not None and "." not in column:
        new = new_name(path, "_with_texts", ".jsonl")
        code = (
            f"import pandas, pathlib; d = {reader}; d[{literal(column)}] = [(pathlib.Path({literal(folder)}) / "
            f'name.strip()).read_text("utf-8") for name in d[{literal(column)}]]; {_write(new)}'
        )
        chosen = new if selection is None else Path(f"{new}#{selection.shown}")
        fix = f"{fix} and {set_path(chosen)}, for instance: python -c {quote(code)}"
    else:
        fix = f"{fix}, or the files into one folder per class (pos/, neg/) and give the folder above."
    raise UserError(
        f"{where}: the texts in column {column!r} are names of files, such as {known[0].strip()!r}, not their content. "
        f"{fix}"
    )


def _folder_of(path: Path, names: Sequence[str]) -> Path | None:
    """The folder that has a list's files: that of the list, one in it, or the one above."""
    if not path.is_file():
        return None
    folder = path.parent
    places = [folder, *sorted(one for one in folder.iterdir() if one.is_dir()), folder.parent]
    return next((place for place in places if all((place / name.strip()).is_file() for name in names)), None)


def _reader(path: Path) -> str | None:
    """The call that reads a file with pandas; None for a file of another suffix, or one that does not exist."""
    call = READERS.get(format_suffix(path))
    if call is None or not path.is_file():
        return None
    with open_text(path) as lines:
        header = lines.readline(MOST_CHARACTERS) if "sep=" in call else ""
    return call.format(literal(path), literal(max(DELIMITERS, key=header.count)))


def _write(new: Path) -> str:
    """The call that writes the data frame `d`."""
    return f'd.to_json({literal(new)}, orient="records", lines=True)'


# One column per class.


def refuse_class_columns(
    records: Sequence[Mapping[str, object]], files: Sequence[Path], where: str, text: str, label: str
) -> None:
    """Raises UserError for a table that has probabilities, or 0 and 1, per class instead of the label.

    `records` are the first rows. The label is missing among their columns, or is one of the probabilities.
    """
    columns = list(dict.fromkeys(name for record in records for name in record))
    numbers = {name: [number_of(record.get(name)) for record in records] for name in columns if name != text}
    shares = {name: of for name, of in numbers.items() if all(one is not None and 0 <= one <= 1 for one in of)}
    marks = [name for name, of in shares.items() if set(of) <= {0.0, 1.0}]
    if len(records) < FEWEST_ROWS or (label in columns and (label not in shares or label in marks)):
        return
    group = _probabilities(shares, label)
    is_multi = label not in columns and len(marks) >= FEWEST_MARKS and 2 * len(marks) > len(columns)
    found = group or (marks if is_multi else [])
    rest = [name for name in columns if name not in found and name != text]
    if not found or (label not in columns and obvious(Wanted("label", label, ""), rest) is not None):
        return
    if group:
        what = "probabilities" if any(name not in marks for name in group) else "0 and 1, of which one is 1"
        raise UserError(
            f"{where}: has one column per class ({_listed(group)}) with {what}, in place of the labels. Write "
            f"the class of the largest value into a column{_most_probable(records, files, group, text, label)}"
        )
    raise UserError(
        f"{where}: no column {label!r}, but {len(marks)} columns of 0 and 1 ({_listed(marks)}): it looks like several "
        "labels per row (multi-label classification), which is not supported. Choose one question: "
        f"{SETTINGS['label'].format(quote(marks[0]))} learns whether a row has this label. Or keep the rows that have "
        f"exactly one of these labels{_most_probable(records, files, marks, text, label, only_one=True)}"
    )


def number_of(value: object) -> float | None:
    """The number of a cell, which may be text; None for others and for booleans."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _probabilities(shares: Mapping[str, Sequence[float | None]], label: str) -> list[str]:
    """The columns that sum to 1 in each row: all of them, or those that are called alike; else none."""
    words = {name: re.split(r"[_.: -]", name) for name in shares}
    groups = [list(shares)]
    for at in (0, -1):
        groups += [
            [one for one in shares if words[one][at] == word] for word in sorted({of[at] for of in words.values()})
        ]
    for group in groups:
        sums = [sum(filter(None, row)) for row in zip(*(shares[name] for name in group), strict=True)]
        if (
            len(group) > 1
            and (label in group or label not in shares)
            and all(abs(1 - one) <= TOLERATED for one in sums)
        ):
            return group
    return []


def _most_probable(
    records: Sequence[Mapping[str, object]],
    files: Sequence[Path],
    group: Sequence[str],
    text: str,
    label: str,
    only_one: bool = False,
) -> str:
    """The settings and the command that writes the column of the largest value, without what all names share."""
    path = files[0] if len(files) == 1 else None
    name = "label" if label in group else label
    if path is None or (reader := _reader(path)) is None:
        return f', for instance with pandas: frame["{name}"] = frame[{list(group)!r}].idxmax(axis=1).'
    columns = list(dict.fromkeys(name for record in records for name in record))
    options, _ = likely_settings([*(one for one in columns if one not in group), name], [text, label])
    new = new_name(path, "_labelled", ".jsonl")
    listed = ", ".join(map(literal, group))
    start, end = shared_ends(group)
    keep = "d = d[d[c].sum(axis=1) == 1]; " if only_one else ""
    cut = (f".str.removeprefix({literal(start)})" if start else "") + (
        f".str.removesuffix({literal(end)})" if end else ""
    )
    code = (
        f"import pandas; d = {reader}; c = [{listed}]; d[c] = d[c].astype(float); {keep}"
        f"d[{literal(name)}] = d[c].idxmax(axis=1){cut}; {_write(new)}"
    )
    return f" and {set_path(new, options)}, for instance: python -c {quote(code)}"


def shared_ends(names: Sequence[str]) -> tuple[str, str]:
    """What all names begin with, and what they end with, up to a separator: `prob_` of `prob_good` and `prob_bad`."""
    words = [re.split(r"(?<=[_.: -])", name) for name in names]
    start = words[0][0] if all(len(word) > 1 and word[0] == words[0][0] for word in words) else ""
    tails = [re.split(r"(?=[_.: -])", name) for name in names]
    end = tails[0][-1] if not start and all(len(tail) > 1 and tail[-1] == tails[0][-1] for tail in tails) else ""
    return start, end


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


# Chats, as they are written to fine-tune language models.

CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
SPEAKERS = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant"}


def refuse_chats(
    records: Sequence[Mapping[str, object]], files: Sequence[Path], where: str, text: str, label: str
) -> None:
    """Raises UserError for rows that are chats, if the column of the texts does not exist or has the messages."""
    for column, (role, content) in CHATS.items():
        chats = [record.get(column) for record in records]
        if not chats or (text != column and any(text in record for record in records)):
            continue
        speakers = {
            _speaker(message, role, content) for chat in chats for message in (chat if isinstance(chat, list) else [0])
        }
        asks = next((one for one in sorted(speakers) if SPEAKERS.get(one) == "user"), "")
        answers = next((one for one in sorted(speakers) if SPEAKERS.get(one) == "assistant"), "")
        if "" in speakers or not asks or not answers:
            continue
        what = f"{where}: has chats in the column {column!r}, as for fine-tuning a language model."
        fix = f"Write the content of {asks!r} as the text and that of {answers!r} as the label"
        if len(files) != 1 or not format_suffix(files[0]).endswith(("jsonl", "ndjson", "json")):
            raise UserError(f"{what} {fix}.")
        new = new_name(files[0], "_labelled", ".jsonl")
        with open_bytes(files[0]) as start:
            is_array = start.read(100).lstrip()[:1] == b"["
        rows = "json.load(sys.stdin)" if is_array else "map(json.loads, filter(str.strip, sys.stdin))"
        code = (
            f"import json, sys; [print(json.dumps({{{literal(text if text != column else 'text')}: d[{literal(asks)}], "
            f"{literal(label)}: d[{literal(answers)}].strip()}})) for d in "
            f"({{m[{literal(role)}]: m[{literal(content)}] for m in row[{literal(column)}]}} for row in {rows})]"
        )
        option = f" {SETTINGS['text'].format('text')}" if text == column else ""
        command = f"{content_of(files[0])} | python -c {quote(code)} > {quote(str(new))}"
        raise UserError(f"{what} {fix} and {set_path(new, option)}, for instance: {command}")


def _speaker(message: object, role: str, content: str) -> str:
    """Who says a message; empty for what is no message of text."""
    if not isinstance(message, Mapping) or not isinstance(message.get(content), str):
        return ""
    return str(message.get(role, ""))
