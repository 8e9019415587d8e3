"""Shell commands that messages print: they work from any folder, on compressed files, and on several files at once."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from shlex import quote

from tenor.data.files.opening import UNPACK, compression_of, inner_name, unpacking

VALIDATION_NAMES = ("validation", "valid", "val", "dev", "eval")
"""Names of splits that check the training and do not judge it."""
ALL_TEST_ROWS = "data.test_size=null"
"""A configuration's own limit is for its own data, and may be more than the test rows here."""


def content_of(path: Path, reader: str = "cat") -> str:
    """A command that prints the content of a file, without its compression; `reader` reads it, such as `tail -n +2`."""
    if compression_of(path) is None:
        return f"{reader} {quote(str(path))}"
    return unpacking(path) + ("" if reader == "cat" else f" | {reader}")


def unused_split(names: Iterable[str]) -> str:
    """A sentence, after a space, on a published validation split, which no setting takes; empty if there is none."""
    unused = [name for name in names if PurePath(name).stem.lower() in VALIDATION_NAMES]
    if not unused:
        return ""
    return f" {unused[0]!r} stays unused: validation rows are taken from the training rows (data.validation.size)."


def new_name(path: Path, mark: str = "", suffix: str | None = None) -> Path:
    """A new file next to `path`, which is not compressed: with `mark` before its suffix, or another suffix."""
    name = PurePath(inner_name(path))
    return path.with_name(f"{name.stem}{mark}{name.suffix if suffix is None else suffix}")


def literal(value: object) -> str:
    """A text or a path as it is written in a program, in double quotes: the shell's are single ones."""
    return json.dumps(str(value), ensure_ascii=False)


def with_header(
    header: str, files: Sequence[Path], mark: str, suffix: str | None = None, encoding: str | None = None
) -> tuple[Path, str]:
    """A command that writes each file again with a header, in UTF-8 if the files have another `encoding`; and the path
    to give then, a pattern if there are several."""
    first = files[0]
    to_utf8 = "" if encoding is None else f" | iconv -f {encoding} -t UTF-8"
    if len(files) == 1:
        new = new_name(first, mark, suffix)
        return new, f"(printf '{header}\\n'; {content_of(first)}{to_utf8}) > {quote(str(new))}"
    folder, end = first.parent, "".join(first.suffixes[-2:] if compression_of(first) else first.suffixes[-1:])
    kind = compression_of(first)
    reader = "cat" if kind is None else UNPACK[kind]
    name = f"{mark}{PurePath(inner_name(first)).suffix if suffix is None else suffix}"
    stem = f'"${{file%{end}}}"{name}'
    each = f"(printf '{header}\\n'; {reader} \"$file\"{to_utf8}) > {stem}"
    return folder / f"*{name}", f"for file in {quote(str(folder))}/*{end}; do {each}; done"
