"""Folders and globs: one folder per class, shards with the same columns, and folders that need a choice."""

import re
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from shlex import quote

from tenor.data.files.commands import ALL_TEST_ROWS, VALIDATION_NAMES, content_of, unused_split
from tenor.data.files.formats import ACCEPTED, FORMATS
from tenor.data.files.opening import (
    COMPRESSIONS,
    IGNORED,
    is_empty,
    likely_encoding,
    open_text,
    other_encoding,
    set_path,
    utf8_name,
)
from tenor.data.files.paired_files import how_to_join_folder, how_to_paste, label_suffix, parallel_files
from tenor.data.files.plain_lines import has_labels
from tenor.data.files.stream import Block, FileRow, FileRows, Limits, in_blocks
from tenor.errors import UserError

CLASS_COLUMNS = ("text", "label", "file")
NOT_CLASSES = ("unsup", "unlabeled", "unlabelled", "__pycache__")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
MOST_TEXT_CHARACTERS = 10_000_000
"""Characters of a text in a file of its own; War and Peace has 3.2 million."""
SHOWN = 5


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,18})", name)]


def is_glob(path: Path) -> bool:
    return any(char in str(path) for char in "*?[") and not path.exists()


def matching(pattern: Path) -> list[Path]:
    """The files that match a glob, in natural order. Raises UserError if there are none."""
    found = [Path(name) for name in sorted(glob(str(pattern), recursive=True), key=natural)]
    files = [path for path in found if path.is_file() and not IGNORED.fullmatch(path.name)]
    if not files:
        raise UserError(f"{pattern}: no file matches. Check the pattern; put it in quotes, so that the shell keeps it.")
    return files


def data_files(folder: Path) -> list[Path]:
    """The files of a folder in natural order, without those that other programs leave next to data."""
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: natural(path.name))
    return [path for path in files if not IGNORED.fullmatch(path.name)]


def inner_folders(folder: Path) -> list[Path]:
    """The folders in a folder in natural order, without hidden ones."""
    inner = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: natural(path.name))
    return [path for path in inner if not IGNORED.fullmatch(path.name)]


def shards(folder: Path, files: list[Path]) -> list[Path]:
    """The files of a folder that are read one after another, in natural order.

    Raises UserError for a folder without such files, of several formats, of several splits, and of .txt files, which
    could be one text or one text per line.
    """
    if not files:
        raise _no_files(folder)
    if pairs := parallel_files(files):
        raise UserError(f"{folder}: {how_to_paste(pairs)}")
    if suffix := label_suffix(files):
        raise UserError(f"{folder}: {how_to_join_folder(folder, suffix)}")
    by_format: dict[str, list[Path]] = {}
    for path in files:
        by_format.setdefault(format_suffix(path), []).append(path)
    known = [suffix for suffix in by_format if suffix in FORMATS]
    if len(by_format) > 1 or not known:
        tables = [suffix for suffix in known if FORMATS[suffix] != "plain"] or known
        if len(tables) == 1:
            _refuse_splits(folder, by_format[tables[0]])
        refuse_class_files(files)
        patterns = [str(folder / f"*{by_format[suffix][0].suffix}") for suffix in tables]
        raise UserError(
            f"{folder}: has files of several formats or of an unknown one{_listed(': ', [one.name for one in files])}. "
            + (
                f"Give the path of one file, or a pattern: {' or '.join(map(quote, patterns[:SHOWN]))}."
                if tables
                else f"Expected {ACCEPTED}."
            )
        )
    _refuse_splits(folder, files)
    if known == [".txt"] and not has_labels(files[0]):
        refuse_class_files(files)
        raise UserError(
            f"{folder}: has {len(files):,} .txt files. If each line is a text, give a pattern: "
            f"{quote(str(folder / '*.txt'))}. If each file is a text, put them into one folder per "
            "class, and give the folder above."
        )
    return files


def _no_files(folder: Path) -> UserError:
    """The error for a folder without data files, with a path that can be given."""
    inner = inner_folders(folder)
    names = [path.name for path in inner]
    within = [(path, data_files(path)) for path in inner]
    suffixes = {format_suffix(file) for _, files in within for file in files}
    fix = (
        "Give the path of a file, of a folder of files with the same columns, or of a folder with one folder of .txt "
        "files per class."
    )
    if len(suffixes) == 1 and all(files for _, files in within):
        known = next(iter(suffixes)) in FORMATS
        end = within[0][1][0].suffix
        every = f"{quote(str(folder))}/*/*{end}"
        fix = (
            f"If they have the same columns, give all of them: {quote(str(folder / '*' / f'*{end}'))}."
            if known
            else f'If each file is a text and its folder the label, rename them: for file in {every}; do mv "$file" '
            '"$file.txt"; done'
        )
    return UserError(f"{folder}: has no files to read{_listed('; its folders: ', names)}. {fix}")


def refuse_class_files(files: Sequence[Path]) -> None:
    """Raises UserError for files that are each called like a class, such as `rt-polarity.pos` and `rt-polarity.neg`."""
    words = [CLASS_WORD.findall(path.name.lower()) for path in files]
    classes = [found[0] for found in words if len(found) == 1]
    if len(classes) < len(files) or len(set(classes)) < 2 or any(format_suffix(path) in TABLES for path in files):
        return
    folder = files[0].parent
    new = folder.with_name(f"{folder.resolve().name}_labelled.txt")
    lines = []
    for path, name in zip(files, classes, strict=True):
        read = content_of(path)
        if (encoding := other_encoding(path)) is not None:
            read = f"{read} | iconv -f {encoding} -t UTF-8"
        lines.append(f"{read} | awk 'NF {{print \"__label__{name} \" $0}}'")
    raise UserError(
        f"{folder}: its files seem to have the texts of one class each{_listed(': ', [path.name for path in files])}. "
        f"If each line is a text, write them as one file with labels and {set_path(new)}, for instance: "
        f"({'; '.join(lines)}) > {quote(str(new))}"
    )


CLASS_WORD = re.compile(r"(?<![a-z])(pos|positive|neg|negative|neu|neutral)(?![a-z])")
TABLES = frozenset(suffix for suffix, kind in FORMATS.items() if kind != "plain")


def format_suffix(path: Path) -> str:
    """The suffix of a name in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _refuse_splits(folder: Path, files: Sequence[Path]) -> None:
    """Raises UserError for files of several splits: read together, test rows would be trained on."""
    groups: dict[str, list[str]] = {}
    for path in files:
        groups.setdefault(split_of(path.name), []).append(path.name)
    splits = [split for split in groups if split]
    if len(splits) < 2:
        return
    pattern = {
        split: str(folder / (names[0] if len(names) == 1 else f"{re.split('[^A-Za-z]', names[0])[0]}*"))
        for split, names in groups.items()
    }
    first = "train" if "train" in pattern else splits[0]
    test = f" data.test_path={quote(pattern['test'])} {ALL_TEST_ROWS}" if "test" in pattern and first == "train" else ""
    raise UserError(
        f"{folder}: has the splits {', '.join(splits)}. Name one: data.path={quote(pattern[first])}{test} (tenor "
        f"predict: --input {quote(pattern[first])}).{unused_split(splits)}"
    )


def split_of(name: str) -> str:
    """The split that the first word of a name tells, such as `train` of `Training_data.csv`; empty for other names."""
    word = re.split(r"[^a-z]", name.lower())[0]
    return SPLITS.get(word, word if word in VALIDATION_NAMES else "")


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder whose files are all .txt files, each of which is a class; none if there are others.

    Raises UserError for a folder of splits, such as `train/pos`.
    """
    inner = inner_folders(folder)
    data = [path for path in folder.iterdir() if path.is_file() and format_suffix(path) in FORMATS]
    if not inner or any(format_suffix(path) != ".txt" for path in data):
        return []
    splits = [path for path in inner if path.name.lower() in (*SPLITS, *VALIDATION_NAMES)]
    if len(splits) > 1 or (splits and len(inner) == 1):
        first = next((path for path in splits if SPLITS.get(path.name.lower()) == "train"), splits[0])
        tests = [quote(str(path)) for path in splits if SPLITS.get(path.name.lower()) == "test"]
        test = f" data.test_path={tests[0]} {ALL_TEST_ROWS}" if tests else ""
        test = "" if first.name.lower().startswith("test") else test
        raise UserError(
            f"{folder}: has the splits {', '.join(path.name for path in splits)}. Name one: "
            f"data.path={quote(str(first))}{test} (tenor predict: --input {quote(str(first))})."
            f"{unused_split([path.name for path in splits])}"
        )
    texts = [path for path in inner if (files := data_files(path)) and any(map(_is_text_file, files))]
    return texts if len(texts) == len(inner) else []


def _is_text_file(path: Path) -> bool:
    """Whether a file is one text: a .txt file, or one without a suffix, as in 20 Newsgroups; Hadoop's parts are not."""
    if path.suffix.lower() == ".txt":
        return path.is_file()
    if path.suffix or path.name.startswith("part-") or not path.is_file():
        return False
    with path.open("rb") as content:
        return b"\0" not in content.read(4096)


def class_folder_rows(folder: Path, classes: Sequence[Path]) -> FileRows:
    """Folders of files with a text each as rows: the columns `text`, `label` (the name of the folder) and `file`.

    Raises UserError for a file in them with another suffix.
    """
    left_out = [path for path in classes if path.name.lower() in NOT_CLASSES]
    read_from = [path for path in classes if path not in left_out]
    files: list[Path] = []
    for inner in read_from:
        own = sorted(inner.iterdir(), key=lambda path: natural(path.name))
        own = [path for path in own if not IGNORED.fullmatch(path.name)]
        other = next((path for path in own if not _is_text_file(path)), None)
        if other is not None:
            raise UserError(f"{other}: is not a .txt file, unlike the other files of this class. Move it elsewhere.")
        files += own

    def rows() -> Iterator[FileRow]:
        for number, path in enumerate(files, start=1):
            with open_text(path) as content:
                text = content.read(MOST_TEXT_CHARACTERS + 1)
            fault = None if len(text) <= MOST_TEXT_CHARACTERS else f"has more than {MOST_TEXT_CHARACTERS:,} characters"
            yield FileRow((text, path.parent.name, str(path.relative_to(folder))), number, fault)

    def read(limits: Limits, choose: Sequence[str] | None) -> Iterator[Block]:
        return in_blocks(rows(), CLASS_COLUMNS, limits, choose)

    kind = "each .txt file" if all(path.suffix for path in files) else "each file"
    notes = [f"{folder}: {kind} is a text, and its folder the label: {', '.join(p.name for p in read_from)}."]
    notes += [f"{path}: is left out: its texts have no label." for path in left_out]
    return FileRows(
        *(str(folder), folder.name, "file", "strings", CLASS_COLUMNS, read, tuple(files)), notes=tuple(notes)
    )


def conversion_in_place(files: Sequence[Path]) -> str:
    """What to do about texts in files of their own that are not UTF-8: a copy next to one would be another text."""
    plain = [path for path in files if path.is_file()]
    commands = []
    for path in plain[:MOST_COMMANDS]:
        new = utf8_name(path)
        old, encoding = quote(str(path)), likely_encoding(path)
        commands.append(f"iconv -f {encoding} -t UTF-8 {old} > {quote(str(new))} && mv {quote(str(new))} {old}")
    rest = "" if len(plain) <= MOST_COMMANDS else f"; and the other {len(plain) - MOST_COMMANDS:,} in the same way"
    which = "this file" if len(plain) == 1 else "these files"
    return f"Convert {which} to UTF-8 in place, for instance: {'; '.join(commands)}{rest}"


MOST_COMMANDS = 10


def _listed(before: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    return before + ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def without_empty(files: Sequence[Path]) -> list[Path]:
    """The files that have content: a job that writes shards also writes empty ones."""
    return [path for path in files if not is_empty(path)] or list(files[:1])
