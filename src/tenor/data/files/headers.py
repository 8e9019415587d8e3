"""Names of columns: which are missing, look like data or are written oddly, and what the user should set instead."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tenor.errors import UserError

SHOWN_COLUMNS = 30
USUAL_NAMES = {
    "text": frozenset(
        "text review sentence content body comment tweet message review_text reviewtext review_body review_content "  # noqa: SIM905
        "comment_text full_text tweet_text verified_reviews reviews.text document utterance headline phrase post texts "
        "reviews comments sentences tweets".split()
    ),
    "label": frozenset(
        "label sentiment rating stars score star_rating class target polarity overall labels airline_sentiment "  # noqa: SIM905
        "sentiment_label category emotion verdict is_positive y review_rating".split()
    ),
}
"""Names of text and label columns in public datasets and exports, in lower case."""
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")
SAMPLE_ROWS = 200
MOST_WORDS_OF_A_NAME = 8
MOST_CHARACTERS_OF_A_NAME = 80
SETTINGS = {"text": "data.text_column={}", "label": "data.label_column={}"}


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or an empty string if no known name is similar."""
    by_lower = {other.strip().lower(): other for other in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def missing_column(where: str, name: str, available: Sequence[str], role: str, option: str) -> UserError:
    """The error for a column that does not exist; with exactly one obvious candidate it has the option that works.

    `role` is `text`, `label` or another; `option` is how a column is chosen, such as `data.text_column={}`.
    """
    shown = ", ".join(repr(column[:60]) for column in available[:SHOWN_COLUMNS]) or "none"
    more = f" and {len(available) - SHOWN_COLUMNS} more" if len(available) > SHOWN_COLUMNS else ""
    candidate = obvious(name, available, role)
    if candidate is not None:
        fix = f"Set {option.format(_as_argument(candidate))}"
    else:
        fix = f"Set {option.format('NAME')} to one of them" if available else "Add a header with the names"
    return UserError(f"{where}: no column {name!r}{nearest(name, available)}. Available columns: {shown}{more}. {fix}.")


def obvious(name: str, available: Sequence[str], role: str) -> str | None:
    """The only column that can be meant: one that differs in case and blanks only, or the only one with a usual name
    for the role."""
    for same in (
        [column for column in available if _folded(column) == _folded(name)],
        [column for column in available if _folded(column) in USUAL_NAMES.get(role, frozenset())],
    ):
        if len(same) == 1 and same[0]:
            return same[0]
    close = difflib.get_close_matches(_folded(name), list(map(_folded, available)), n=2, cutoff=0.8)
    found = [column for column in available if _folded(column) in close]
    return found[0] if len(found) == 1 and found[0] else None


def _folded(name: str) -> str:
    return " ".join(name.strip().strip("\"'").lower().split())


def _as_argument(name: str) -> str:
    """A name as a shell reads it."""
    if re.fullmatch(r"[\w.-]+", name):
        return name
    return "'" + name.replace("'", "'\\''") + "'"


def tidied_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names without blanks around them, each with a name; and notes on what was changed.

    A column without a name gets the name that pandas gives it (`Unnamed: 0` for the first), as a rule the row numbers.
    """
    stripped = [name.strip().strip("\u200b\ufeff") for name in names]
    notes = []
    if any(name != other for name, other in zip(names, stripped, strict=True)):
        changed = next(name for name, other in zip(names, stripped, strict=True) if name != other)
        notes.append(f"blanks around the names of columns are left out, such as those of {changed[:60]!r}")
    named = [name or f"Unnamed: {at}" for at, name in enumerate(stripped)]
    unnamed = [name for name, other in zip(named, stripped, strict=True) if not other]
    if unnamed and unnamed != ["Unnamed: 0"]:
        listed = ", ".join(map(repr, unnamed[:5])) + (", …" if len(unnamed) > 5 else "")
        notes.append(f"columns without a name are called {listed}")
    return named, notes


def refuse_duplicates(where: str, names: Sequence[str], required: Iterable[str] | None = None) -> None:
    """Raises UserError if several columns have the same name; `required`: only for one of these."""
    counts = Counter(names)
    twice = [name for name in (counts if required is None else required) if counts[name] > 1]
    if twice:
        raise UserError(f"{where}: {counts[twice[0]]} columns are called {twice[0]!r}. Rename all but one.")


def lost_first_row(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], required: Sequence[str]) -> str:
    """A message that the header seems to be a row of data, with the command that adds a header; empty if it does not.

    `rows` are the first rows below. If the required columns exist, the header is doubted only if one of them is named
    like a value of its own column, or like a text.
    """
    rows = [row for row in rows[:SAMPLE_ROWS] if len(row) == len(header)]
    if len(header) < 2 or not rows:
        return ""
    columns = list(zip(*rows, strict=True))
    is_complete = set(required) <= set(header)
    doubted = [
        at
        for at, name in enumerate(header)
        if (not is_complete or name in required) and _is_value(name, columns[at], is_complete)
    ]
    if not doubted or (not is_complete and not _is_row(header, columns)):
        return ""
    names = ",".join(likely_names(columns))
    separated = names if path.suffix.lower() != ".tsv" else names.replace(",", "\\t")
    shown = ", ".join(repr(name[:40]) for name in header[:4])
    return (
        f"{path}: the first line seems to be a row of data, not a header with names of columns ({shown}). Add a "
        f"header, for instance: (printf '{separated}\\n'; cat '{path.name}') > 'with_header{path.suffix}'"
    )


def _is_value(name: str, column: Sequence[str], is_complete: bool) -> bool:
    if len(name.split()) > MOST_WORDS_OF_A_NAME or len(name) > MOST_CHARACTERS_OF_A_NAME:
        return True
    distinct = set(column)
    is_class = len(column) >= 3 and 2 * len(distinct) <= len(column)
    if is_class and name in distinct:
        return True
    are_numbers = all(NUMBER.fullmatch(value) for value in column)
    return not is_complete and are_numbers and NUMBER.fullmatch(name) is not None


def _is_row(header: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Whether the header has a text, or a value in every column whose values repeat; `0,1,2` are names of pandas."""
    if [name for name in header if name] == [str(number) for number in range(sum(map(bool, header)))]:
        return False
    return any(len(name.split()) >= 3 for name in header) or all(
        _is_value(name, column, False) or len(set(column)) * 2 > len(column)
        for name, column in zip(header, columns, strict=True)
    )


def likely_names(columns: Sequence[Sequence[str]]) -> list[str]:
    """Names for columns by their values: the one with the most words is the text, one whose values repeat the label."""
    words = [sum(len(value.split()) for value in column) for column in columns]
    text = words.index(max(words))
    distinct = {at: len(set(column)) for at, column in enumerate(columns) if at != text and len(set(column)) > 1}
    names = [f"column_{at}" for at in range(len(columns))]
    names[text] = "text"
    if distinct:
        names[min(distinct, key=lambda at: distinct[at])] = "label"
    elif len(columns) == 2:
        names[1 - text] = "label"
    return names
