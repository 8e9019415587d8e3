"""Tables that have texts and classes, but not one text and one label per row: names of files in place of texts,
probabilities or marks per class, chats. What they are, and the command that writes one label per row."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from tenor.data.files.columns_added import selection_of
from tenor.data.files.commands import content_of, literal, new_name
from tenor.data.files.folders import format_suffix
from tenor.data.files.headers import USUAL_NAMES, Wanted, obvious
from tenor.data.files.opening import set_path
from tenor.errors import UserError

FILE_NAME = re.compile(r"[^\n]{1,250}\.(txt|text|md|html?|xml|json|rtf|docx?|pdf|eml|csv|tsv)(\.gz)?", re.IGNORECASE)
FEWEST_ROWS = 3
SHOWN = 6
TOLERATED = 0.02
"""How far from 1 the sum of rounded probabilities may be."""
READERS = {
    ".csv": "pandas.read_csv({}, keep_default_na=False)",
    ".tsv": "pandas.read_csv({}, sep=\"\\t\", keep_default_na=False)",
    ".tab": "pandas.read_csv({}, sep=\"\\t\", keep_default_na=False)",
    ".jsonl": "pandas.read_json({}, lines=True, dtype=False)",
    ".ndjson": "pandas.read_json({}, lines=True, dtype=False)",
    ".json": "pandas.read_json({}, dtype=False)",
    ".parquet": "pandas.read_parquet({})",
    ".feather": "pandas.read_feather({})",
    ".xlsx": "pandas.read_excel({}, engine=\"calamine\", keep_default_na=False)",
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
    return None if call is None or not path.is_file() else call.format(literal(path))


def _write(new: Path) -> str:
    """The call that writes the data frame `d`."""
    return f'd.to_json({literal(new)}, orient="records", lines=True)'
