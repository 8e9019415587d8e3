"""Names of columns: which are missing, look like data or are written oddly, and what the user should set instead."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tenor.data.files.commands import with_header
from tenor.data.files.opening import set_path
from tenor.errors import UserError

SHOWN_COLUMNS, SHOWN_CHARACTERS = 30, 160
"""Questions of surveys are long, and an option needs the whole name."""
USUAL_NAMES = {
    "text": frozenset(
        "text review sentence content body comment tweet message review_text reviewtext review_body review_content "  # noqa: SIM905
        "comment_text full_text tweet_text verified_reviews reviews.text document utterance headline phrase post texts "
        "reviews comments sentences tweets "
        "kommentar rezension bewertungstext kundenmeinung meinung nachricht texto comentario reseña opinión comentário "
        "avis commentaire texte testo commento recensione recensie".split()
    ),
    "label": frozenset(
        "label sentiment rating stars score star_rating class target polarity overall labels airline_sentiment "  # noqa: SIM905
        "sentiment_label category emotion verdict is_positive y review_rating estrellas "
        "bewertung urteil stimmung kategorie klasse sterne etiqueta sentimiento calificación valoración clase "
        "sentimento avaliação classe étoiles etichetta voto".split()
    ),
}
"""Names of text and label columns in public datasets and exports, in lower case."""
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")
LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")
SAMPLE_ROWS = 200
MOST_WORDS_OF_A_NAME = 8
MOST_CHARACTERS_OF_A_NAME = 80
SETTINGS = {"text": "data.text_column={}", "label": "data.label_column={}"}


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or an empty string if no known name is similar."""
    by_lower = {other.strip().lower(): other for other in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


@dataclass(frozen=True)
class Wanted:
    """A column that a caller needs."""

    role: str
    """`text`, `label` or another."""
    name: str
    option: str
    """How another one is chosen, such as `data.text_column={}`."""


def missing_columns(where: str, wanted: Sequence[Wanted], available: Sequence[str], hint: str = "") -> UserError:
    """The error for columns of which at least one does not exist; where each missing one has exactly one obvious
    candidate, it has the options that work, unless the caller knows them: `hint`."""
    missing = [one for one in wanted if one.name not in available]
    first = missing[0]
    shown = ", ".join(repr(column[:SHOWN_CHARACTERS]) for column in available[:SHOWN_COLUMNS]) or "none"
    more = f" and {len(available) - SHOWN_COLUMNS} more" if len(available) > SHOWN_COLUMNS else ""
    taken = {one.name for one in wanted if one.name in available}
    found: dict[str, str] = {}
    for one in missing:
        rest = [column for column in available if column not in taken and column not in found.values()]
        if (candidate := obvious(one, rest)) is not None:
            found[one.option] = candidate
    named = [name for name in available if name]
    rest = [name for name in named if name not in taken and name not in found.values()]
    if len(named) == len(taken) + len(missing) and len(missing) - len(found) == len(rest) == 1:
        found[next(one.option for one in missing if one.option not in found)] = rest[0]
    others = {name for role, names in USUAL_NAMES.items() if role != first.role for name in names}
    if len(missing) == 1 and not found and first.role in USUAL_NAMES:
        rest = [name for name in rest if _folded(name) not in others]
        found = {first.option: rest[0]} if len(rest) == 1 and len(named) > 1 else {}
    if len(missing) == 1 and not found and first.role == "label" and (whole := _one_object(rest)):
        found = {first.option: whole}
    options = [one.option.format(quote(found.get(one.option, "NAME"))) for one in missing]
    fix = f"Set {' '.join(options)}" + ("" if len(found) == len(missing) else ", with names of these columns")
    names = " and no column ".join(f"{one.name!r}{nearest(one.name, available)}" for one in missing)
    if not available or (not rest and len(found) < len(missing)):
        fix = f"Add a column {first.name!r}, or set {options[0]}"
    if not available:
        fix = f"Add a header with the name {first.name!r}"
    return UserError(f"{where}: no column {names}. Available columns: {shown}{more}. {hint or f'{fix}.'}")


def obvious(wanted: Wanted, available: Sequence[str]) -> str | None:
    """The only column that can be meant: one that differs in case and blanks only, the only one with a usual name for
    the role, or the only one with a similar name."""
    folded = _folded(wanted.name)
    usual = USUAL_NAMES.get(wanted.role, frozenset())
    close = difflib.get_close_matches(folded, list(map(_folded, available)), n=2, cutoff=0.8)
    for same in (
        [column for column in available if _folded(column) == folded],
        [column for column in available if _folded(column) in usual],
        [column for column in available if _folded(column).rpartition(".")[2] in usual],
        [column for column in available if _folded(column) in close],
    ):
        if len(same) == 1 and same[0]:
            return None if wanted.role == "label" and _is_next_to_class(same[0], available) else same[0]
    return None


def _one_object(names: Sequence[str]) -> str:
    """The object that all of these are values in, such as spaCy's `cats` of `cats.GOOD` and `cats.BAD`; empty if there
    is none."""
    parents = {name.rpartition(".")[0] for name in names}
    return parents.pop() if len(names) > 1 and len(parents) == 1 else ""


def _is_next_to_class(name: str, available: Sequence[str]) -> bool:
    """Whether a column is the score within an object that also has a name or a value, as in
    `{"name": "positive", "score": 0.9}`."""
    parent, _, last = name.rpartition(".")
    others = {other.rpartition(".")[2] for other in available if parent and other.rpartition(".")[0] == parent}
    return last.lower() == "score" and bool({"name", "value"} & others)


def _folded(name: str) -> str:
    return " ".join(name.strip().strip("\"'").lower().split())


def tidied_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names without blanks around them and on one line, each with a name; and notes on what was changed.

    A column without a name gets the name that pandas gives it (`Unnamed: 0` for the first), as a rule the row numbers.
    """
    stripped = [LINE_BREAKS.sub(" ", name.strip().strip("\u200b\ufeff")) for name in names]
    notes = []
    if broken := next((name for name in names if LINE_BREAKS.search(name.strip())), None):
        notes.append(f"line breaks in the names of columns are read as blanks, as in {broken[:60]!r}")
    elif any(name != other for name, other in zip(names, stripped, strict=True)):
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


def lost_first_row(
    files: Sequence[Path],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    required: Sequence[str],
    delimiter: str = ",",
    values: Callable[[int], Iterable[str]] = lambda at: (),
    encoding: str | None = None,
) -> str:
    """A message that the header seems to be a row of data, with the command that adds a header and the settings that
    then work; empty if it does not.

    `files` are this file, and others that are read with it. `rows` are the first rows below, `values` all values of a
    column below, and `encoding` that of the files, if it is not UTF-8. If the required columns exist, the user has
    named them: the header is doubted only if a column is named like one of its repeated values.
    """
    rows = rows[describing_rows(rows) :][:SAMPLE_ROWS]
    rows = [row for row in rows if len(row) == len(header) and list(row) != list(header)]
    named = [name for name in header if not name.startswith("Unnamed: ")]
    are_of_pandas = named == [str(number) for number in range(len(named))]
    if len(header) < 2 or not rows or are_of_pandas:
        return ""
    columns = list(zip(*rows, strict=True))
    if not _is_row(header, columns, is_complete=set(required) <= set(header)):
        return ""
    names = likely_names(columns)
    options = "".join(
        f" {SETTINGS[role].format(role)}"
        for role, name in zip(SETTINGS, required, strict=False)
        if name != role and role in names and len(required) > 1
    )
    if "label" in names and len(required) > 1:
        at = names.index("label")
        options += classes_setting([header[at], *values(at)])
    separated = delimiter.replace("\t", "\\t").join(names)
    shown = ", ".join(repr(name[:40]) for name in header[:4])
    new, command = with_header(separated, files, "_with_header", encoding=encoding)
    utf8 = "" if encoding is None else ", save it as UTF-8"
    return (
        f"{files[0]}: the first line seems to be a row of data, not a header with names of columns ({shown}). Add a "
        f"header{utf8} and {set_path(new, options)}, for instance: {command}"
    )


def likely_settings(header: Sequence[str], required: Sequence[str]) -> tuple[str, str | None]:
    """The settings for the required columns, text and label, that a header lacks and one of its names can mean; and the
    column of the labels, None if it is not known."""
    options, taken = "", [name for name in required if name in header]
    column: dict[str, str] = {}
    for role, name in zip(SETTINGS, required, strict=False):
        found = name if name in taken else obvious(Wanted(role, name, ""), [one for one in header if one not in taken])
        if found is not None:
            column[role] = found
            options += "" if found == name else f" {SETTINGS[role].format(quote(found))}"
    return options, column.get("label")


def unknown_columns(header: Sequence[str], required: Sequence[str]) -> tuple[str, str]:
    """The settings, with NAME, for the columns of text and label that are neither in a header nor obvious, and a
    sentence with the header's names; both empty if there are none, and where only texts are read."""
    settings = likely_settings(header, required)[0]
    unknown = [
        SETTINGS[role].format("NAME")
        for role, name in zip(SETTINGS, required, strict=False)
        if name not in header and SETTINGS[role].format("") not in settings
    ]
    if not unknown or len(required) < 2:
        return "", ""
    shown = ", ".join(repr(name[:SHOWN_CHARACTERS]) for name in header[:SHOWN_COLUMNS])
    return "".join(f" {one}" for one in unknown), f"Its columns are {shown}. "


def classes_setting(labels: Iterable[str]) -> str:
    """` 'data.class_names=…'` for integers that are neither 0 … K-1 nor 1 … K, such as 0 and 4; empty for others, and
    if -1 may mark rows without a label."""
    distinct = set(labels)
    if not distinct or len(distinct) > MOST_CLASSES or not all(WHOLE.fullmatch(label) for label in distinct):
        return ""
    numbers = sorted(map(int, distinct))
    if numbers[0] < 0 or any(numbers == list(range(first, len(numbers) + first)) for first in (0, 1)):
        return ""
    return " " + quote(f"data.class_names={json.dumps([str(number) for number in numbers])}")


WHOLE = re.compile(r"[0-9]{1,6}")
MOST_CLASSES = 20


def row_with_names(rows: Sequence[Sequence[str]], required: Sequence[str]) -> int | None:
    """The first row that has all required names, below a title or notes; None if there is none."""
    wanted = set(required)
    return next((at for at, row in enumerate(rows) if wanted <= {cell.strip() for cell in row}), None)


def describing_rows(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first rows below a header describe the columns and are no answers, as survey tools write them:
    Qualtrics' questions and `{"ImportId": …}`, SurveyMonkey's `Open-Ended Response`."""
    for at, row in enumerate(rows[:DESCRIBING_ROWS]):
        filled = [cell.strip() for cell in row if cell.strip()]
        if filled and all(cell.startswith('{"ImportId"') for cell in filled):
            return at + 1
    first = {cell.strip() for cell in rows[0]} if rows else set()
    return 1 if SURVEYMONKEY in first and first <= {"", "Response", SURVEYMONKEY, "Other (please specify)"} else 0


DESCRIBING_ROWS = 3
SURVEYMONKEY = "Open-Ended Response"


def described(count: int) -> list[str]:
    """The note on rows that describe the columns and are left out; none if there are none."""
    if not count:
        return []
    which = "row 1 below the header describes" if count == 1 else f"rows 1 to {count} below the header describe"
    return [f"{which} the columns, as survey tools write it, and {'is' if count == 1 else 'are'} left out"]


def _is_text(name: str) -> bool:
    return len(name.split()) > MOST_WORDS_OF_A_NAME or len(name) > MOST_CHARACTERS_OF_A_NAME


def _is_class_value(name: str, column: Sequence[str]) -> bool:
    """Whether a name is a value of its column, where the values repeat."""
    distinct = set(column)
    return len(column) >= 3 and 2 * len(distinct) <= len(column) and name in distinct


def _is_no_value(name: str, column: Sequence[str]) -> bool:
    """Whether a name cannot be a value of its column: words above numbers, a text above the values of a class, or above
    classes of which each occurs several times, another word."""
    if len(column) < FEWEST_VALUES or name.startswith("Unnamed: ") or NUMBER.fullmatch(name):
        return False
    if all(NUMBER.fullmatch(value) for value in column):
        return True
    counts = Counter(column)
    if 2 * len(counts) > len(column) or name in counts:
        return False
    longest = max(map(len, counts))
    each_repeats = min(counts.values()) > 1 and len(column) >= FEWEST_FOR_CLASSES
    return each_repeats or (_is_text(name) and not any(map(_is_text, counts)) and len(name) > 2 * longest)


FEWEST_VALUES, FEWEST_FOR_CLASSES = 3, 10


def _is_row(header: Sequence[str], columns: Sequence[Sequence[str]], is_complete: bool) -> bool:
    """Whether the names look like the values of their columns: the value of a class, and unless all required names are
    among them (`is_complete`), a text, or numbers above numbers next to words above words.

    A question of a survey is as long as a text, but the columns below show that it is none of their values.
    """
    pairs = list(zip(header, columns, strict=True))
    if any(_is_class_value(name, column) for name, column in pairs):
        return not is_complete or not any(_is_no_value(name, column) for name, column in pairs)
    if is_complete:
        return False
    if any(map(_is_text, header)):
        return not any(_is_no_value(name, column) for name, column in pairs)
    are_numbers = [all(NUMBER.fullmatch(value) for value in column) for column in columns]
    alike = all(bool(NUMBER.fullmatch(name)) == number for name, number in zip(header, are_numbers, strict=True))
    return alike and any(are_numbers) and any(len(name.split()) >= 3 for name in header)


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
