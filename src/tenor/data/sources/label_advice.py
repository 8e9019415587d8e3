"""What labels look like that are not the expected classes (another scale, scores, several labels), and what to set."""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from shlex import quote

from tenor.data.files.nested import label_fields
from tenor.data.sources.rows import ONE_LABEL, shorten
from tenor.data.sources.spellings import INTEGER, NUMBER, as_integer, folded, tidied
from tenor.errors import UserError

MISSING = ("nan", "<na>", "n/a", "#n/a", "null", "nat")
"""How programs write a missing value; compared with `folded` labels."""
MAYBE_MISSING = (
    "none",
    "na",
    "unlabeled",
    "unlabelled",
    "unknown",
    "undefined",
    "?",
    "-",
    "--",
    "skip",
    "ignore",
    "todo",
)
"""Names that often mark rows without a label, but are classes in other data."""
NESTED = re.compile(r"(?:tensor|array|np\.array)\((\[.*\])(?:, [a-z_]+=[^()]*)?\)|([\[({].*[\])}])", re.DOTALL)
SCALAR = re.compile(r"(?:tensor|array|np\.\w+)\(['\"]?([^'\"()\[\],]+)['\"]?(?:, [a-z_]+=[^()]*)?\)")
VECTOR = re.compile(r"[01](\.0*)?(\s*[\s,;|]\s*[01](\.0*)?)+")
DECIMAL_COMMA = re.compile(r"[-+]?[0-9]{1,3},[0-9]{1,3}")
WHOLE_COMMA = re.compile(r"[0-9]{1,3},0{1,3}")
MOST_BRACKETS = 100
"""Opening brackets of a label that is parsed: `ast.literal_eval` is not made for deep nesting."""
SEPARATORS = (",", ";", "|")
MANY_CLASSES = 50
FEWEST_ROWS = 5
"""Rows per class on average; a column with more classes than `MANY_CLASSES` and fewer rows each has no classes."""
FEWEST_CHECKED = 10
"""Rows from which on a column whose labels are mostly unique has no classes."""
SHOWN = 6
SHOWN_NUMBERS = 20

POLARITY = {
    "negative": ("negative", "neg", "bad", "false", "no", "n", "f", "dislike", "unfavorable", "thumbs down", "down"),
    "neutral": ("neutral", "neu", "mixed", "objective", "ok", "okay"),
    "positive": ("positive", "pos", "good", "true", "yes", "y", "t", "like", "favorable", "thumbs up", "up"),
}
"""Words for the same opinion."""
SCALES: Mapping[tuple[int, ...], str] = {
    (-1, 1): "negative and positive as -1 and 1",
    (-1, 0, 1): "negative, neutral and positive as -1, 0 and 1",
    (0, 4): "negative and positive as 0 and 4, as in Sentiment140",
    (0, 2, 4): "negative, neutral and positive as 0, 2 and 4, as in Sentiment140",
}
OTHER_SCALE = "another scale than"
STARS = range(1, 6)
TEN = range(1, 11)
"""IMDb's ratings, of which Maas et al. 2011 take up to 4 as negative and from 7 on as positive."""


def listed(counts: Counter[str]) -> str:
    """The most frequent labels, each with its rows: `'5' (30 rows), '3' (1 row)`."""
    shown = [f"{shorten(label)} ({rows_text(count)})" for label, count in counts.most_common(SHOWN)]
    return ", ".join(shown) + (f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else "")


def rows_text(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def setting(key: str, value: object) -> str:
    """An override that can be pasted into a shell."""
    return f"'data.{key}={json.dumps(value, ensure_ascii=False)}'".replace("\n", " ")


def unpacked(label: str) -> object:
    """What a label is the text of: a list or dictionary such as `['joy']` or `tensor([1, 0])`, or the value of
    `tensor(1)`; else the label."""
    if (scalar := SCALAR.fullmatch(label)) is not None:
        return scalar[1]
    match = NESTED.fullmatch(label)
    if match is None or sum(map(label.count, "[({")) > MOST_BRACKETS:
        return label
    inner = match[1] or match[2]
    for parse in (json.loads, ast.literal_eval, _numbers_in):
        try:
            value = parse(inner)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict) and list(value) == ["choices"]:  # Label Studio's several choices.
            return value["choices"]
        return value if isinstance(value, list | tuple | set | dict) else label
    return label


def whole_numbers(labels: Iterable[str]) -> dict[str, str]:
    """The integer that each label means, if all are whole numbers with a decimal comma, such as `4,0`; else none.
    Labels of zeros and ones may be vectors (`1,0`)."""
    numbers = {label: tidied(label) for label in labels}
    if not all(WHOLE_COMMA.fullmatch(number) for number in numbers.values()):
        return {}
    whole = {label: str(int(number.partition(",")[0])) for label, number in numbers.items()}
    return {} if set(whole.values()) <= {"0", "1"} else whole


def _numbers_in(text: str) -> list[float]:
    """The numbers of an array as NumPy prints it. Raises ValueError for anything else."""
    return [float(word) for word in text.strip("[]()").split()]


def looks_like(values: Sequence[object]) -> str:
    """What several values in one label look like."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        if all(number in (0, 1) for number in numbers):
            return "a one-hot vector" if sum(numbers) == 1 else "one value per class (multi-label)"
        if all(0 <= number <= 1 for number in numbers):
            return "probabilities of the classes"
    return f"{len(values)} labels"


def vector_of(label: str) -> list[int] | None:
    """The zeros and ones of a label such as `0 1 0`; None for any other label."""
    if VECTOR.fullmatch(label) is None:
        return None
    return [int(float(word)) for word in re.split(r"[\s,;|]+", label)]


def several_in_field(counts: Counter[str]) -> dict[str, list[str]]:
    """The labels that are several others with a separator between them, such as `joy, anger`, with their parts.

    Each part must be a label of its own or a part of another label: `Arts, crafts` is one name.
    """
    for separator in SEPARATORS:
        parts = {label: [tidied(part) for part in label.split(separator)] for label in counts}
        several = {label: known for label, known in parts.items() if len(known) > 1 and all(known)}
        seen = Counter(folded(part) for known in parts.values() for part in set(known))
        found = {label: known for label, known in several.items() if all(seen[folded(part)] > 1 for part in known)}
        if found:
            return found
    return {}


def refuse_no_classes(counts: Counter[str], where: str, column: str, swapped: str = "") -> None:
    """Raises UserError for labels that are no classes: scores, and too many distinct values (ids, texts).

    `swapped`: the settings to give if the column seems to be the text; empty if it does not.
    """
    known = {label: tidied(label) for label in counts}
    if counts and all(DECIMAL_COMMA.fullmatch(label) for label in known.values()):
        raise _scores(counts, {label: float(text.replace(",", ".")) for label, text in known.items()}, where, column)
    numbers = {label: float(text) for label, text in known.items() if NUMBER.fullmatch(text)}
    fractions = [label for label in numbers if not INTEGER.fullmatch(as_integer(known[label]))]
    if fractions and len(numbers) == len(counts):
        raise _scores(counts, numbers, where, column)
    if _is_identifying(counts):
        raise UserError(
            f"{where}: column {column!r} has {len(counts):,} different values in {rows_text(counts.total())}, such as "
            f"{', '.join(map(shorten, list(counts)[:2]))}; expected a few classes. "
            + (swapped or "It seems to contain ids or texts. Set data.label_column to the column with the class")
            + ". If these are classes, list them in data.class_names."
        )


def _scores(counts: Counter[str], numbers: Mapping[str, float], where: str, column: str) -> UserError:
    """The error for decimal numbers, by label; the labels may have a decimal comma."""
    values = sorted(set(numbers.values()))
    few = len(values) <= SHOWN_NUMBERS and 2 * len(values) <= counts.total()
    with_comma = any("," in label for label in numbers)
    names = [tidied(label) for label in sorted(numbers, key=lambda label: numbers[label])]
    # Labels with a comma are matched as they are written; 2.5 and 2.50 are one name.
    few = few and not (with_comma and len(names) > len(values))
    as_names = setting("class_names", names if with_comma else [f"{value:g}" for value in values])
    comma = " with a decimal comma" if with_comma else ""
    frame = f"frame[{column!r}]" + (".str.replace(',', '.').astype(float)" if with_comma else "")
    return UserError(
        f"{where}: the labels in column {column!r} are decimal numbers{comma} from {values[0]:g} to {values[-1]:g} "
        f"({len(values):,} different in {rows_text(counts.total())}): scores, not classes. Predicting a score "
        "(regression) is not supported. Convert the scores into a few classes first, for instance with pandas: "
        f"frame[{column!r}] = {frame}.gt({(values[0] + values[-1]) / 2:g}).map({{True: 'high', False: "
        "'low'})" + (f". If each number is a class: {as_names}" if few else "") + "."
    )


def _is_identifying(counts: Counter[str]) -> bool:
    """Whether the distinct labels are too many for classes."""
    rows, kinds = counts.total(), len(counts)
    return (kinds > MANY_CLASSES and rows < FEWEST_ROWS * kinds) or (rows >= FEWEST_CHECKED and 2 * kinds > rows)


def maybe_missing_note(counts: Counter[str]) -> str | None:
    """A note on class names that often mark rows without a label; None if there are none."""
    found = Counter({name: count for name, count in counts.items() if folded(name) in MAYBE_MISSING})
    if not found or len(found) == len(counts):
        return None
    left_out = setting("relabel", dict.fromkeys(found))
    return (
        f"names that often mark rows without a label are classes here: {listed(found)}. To leave them out: {left_out}"
    )


def not_consecutive(numbers: list[int], counts: Counter[str], where: str, column: str) -> UserError:
    """The error for integers that are not 0 … K-1; `numbers` are sorted."""
    head = f"{where}: all {counts.total():,} labels in column {column!r} are {_numbers_text(numbers, counts)}"
    expected = "expected the integers 0 … K-1 without gaps"
    if len(numbers) > SHOWN_NUMBERS:
        return UserError(
            f"{head}, {expected}: they look like a score, a year or an id. Convert scores into a few classes first, "
            f"for instance with pandas.cut, or set data.label_column to the column with the class."
        )
    names = [str(number) for number in numbers]
    scale = SCALES.get(tuple(numbers))
    as_names = setting("class_names", names)
    if numbers[0] == -1 and numbers[1:] == list(range(len(numbers) - 1)) and len(numbers) > 2:
        left_out = setting("relabel", {"-1": None})
        return UserError(
            f"{head}, {expected}. If -1 marks rows without a label, leave them out: {left_out}. If it is a class: "
            f"{as_names}."
        )
    known = f" (on some scales: {scale})" if scale else ""
    return UserError(f"{head}{known}, {expected}. Renumber them from 0, or keep them as names: {as_names}.")


def _numbers_text(numbers: list[int], counts: Counter[str]) -> str:
    if len(numbers) > SHOWN:
        return f"whole numbers from {numbers[0]} to {numbers[-1]} ({len(numbers):,} different)"
    by_number: Counter[int] = Counter()
    for label, count in counts.items():
        by_number[int(as_integer(tidied(label)))] += count
    return ", ".join(f"{number} ({rows_text(by_number[number])})" for number in numbers)


def polarity(name: str) -> str | None:
    """`negative`, `neutral` or `positive`, if the name is a word for it."""
    words = {folded(name), *folded(name).replace("_", " ").split()}
    found = [kind for kind, known in POLARITY.items() if words & set(known)]
    return found[0] if len(found) == 1 else None


def guessed(labels: Iterable[str], names: Sequence[str]) -> dict[str, str | None]:
    """The class that each label seems to mean, None for a label without one (a neutral opinion, if no class is).

    Labels that nothing is known about are not included.
    """
    labels = [tidied(label) for label in labels]
    numbers = {label: int(number) for label in labels if INTEGER.fullmatch(number := as_integer(label))}
    if len(numbers) == len(labels):
        return _guessed_numbers(numbers, names)
    by_polarity = {kind: name for name in names if (kind := polarity(name))}
    found: dict[str, str | None] = {}
    for label in labels:
        kind = polarity(label)
        close = get_close_matches(folded(label), [folded(name) for name in names], n=1, cutoff=0.85)
        at = re.fullmatch(r"(?:label|class)[_ ]?([0-9]{1,3})", folded(label))
        if close:
            found[label] = next(name for name in names if folded(name) == close[0])
        elif kind in by_polarity:
            found[label] = by_polarity[kind]
        elif kind == "neutral" and len(by_polarity) == len(names) == 2:
            found[label] = None
        elif at and int(at[1]) < len(names):
            found[label] = names[int(at[1])]
    return found


def _guessed_numbers(numbers: Mapping[str, int], names: Sequence[str]) -> dict[str, str | None]:
    values = sorted(set(numbers.values()))
    ordered = sorted(names, key=int) if _are_integers(names) else list(names)
    for first in (1, 0):
        if values[0] == first and values[-1] == len(names) - 1 + first:
            return {label: ordered[number - first] for label, number in numbers.items()}
    if ordered == [str(star) for star in STARS] and values[0] in TEN and values[-1] in TEN:
        return {label: ordered[(number - 1) // 2] for label, number in numbers.items()}
    ends, bounds = _ends(names), _bounds(values)
    if ends is None or bounds is None or (_are_integers(names) and values[-1] < bounds[1]):
        return {}
    low, middle, high = ends
    return {
        label: low if number <= bounds[0] else high if number >= bounds[1] else middle
        for label, number in sorted(numbers.items(), key=lambda item: item[1])
    }


def _are_integers(names: Sequence[str]) -> bool:
    return all(INTEGER.fullmatch(name) for name in names)


def _ends(names: Sequence[str]) -> tuple[str, str | None, str] | None:
    """The negative class, the neutral one or None, and the positive one: by their names, or of two or three integers
    by their order. None for other classes."""
    if _are_integers(names) and len(names) in (2, 3):
        ordered = sorted(names, key=int)
        return ordered[0], ordered[1] if len(names) == 3 else None, ordered[-1]
    kinds = {kind: name for name in names if (kind := polarity(name))}
    low, high = kinds.get("negative"), kinds.get("positive")
    return None if len(kinds) != len(names) or low is None or high is None else (low, kinds.get("neutral"), high)


def _bounds(values: Sequence[int]) -> tuple[int, int] | None:
    """The highest negative and the lowest positive number of a scale that is in common use; None for others."""
    if tuple(values) in SCALES:
        return (-1, 1) if values[0] == -1 else (0, 4)
    if values[0] in STARS and values[-1] in STARS and values[-1] > 2:
        return 2, 4
    return (4, 7) if values[0] in TEN and values[-1] in TEN else None


def numbers_text(counts: Counter[str]) -> str:
    """`whole numbers from 1 to 5: ` and the most frequent labels, if all labels are integers."""
    numbers = sorted({int(as_integer(tidied(label))) for label in counts})
    span = str(numbers[0]) if len(numbers) == 1 else f"whole numbers from {numbers[0]} to {numbers[-1]}"
    return f"{span}: {listed(counts)}"


def mismatch(
    counts: Counter[str], strangers: Sequence[str], names: Sequence[str], indices: bool, taken: bool
) -> tuple[str, str]:
    """What labels that are not classes look like, and what to do.

    `counts` are all labels, `strangers` those that match no class. `indices`: numbers are positions in `names`.
    `taken`: the classes are those of another file, whose labels a setting would change, too.
    """
    numbers = sorted({int(n) for label in counts if INTEGER.fullmatch(n := as_integer(tidied(label)))})
    numeric = all(NUMBER.fullmatch(tidied(label)) for label in counts)
    expected = ", ".join(f"{at} ({name})" for at, name in enumerate(names)) if indices else ", ".join(names)
    if set(map(tidied, strangers)) == {"-1"} and len(numbers) > 2:
        what = f"-1 among {expected}, which often marks rows without a label"
        return what, f"Leave these rows out: {setting('relabel', {'-1': None})}"
    if numeric and numbers:
        what = f"{OTHER_SCALE} {expected}"
        guess = guessed(counts, names)
    else:
        what = f"expected {expected}"
        guess = guessed(strangers, names)
    keys = {folded(label): tidied(label) for label in (counts if numeric else strangers)}.values()
    ordered = sorted(keys, key=float) if numeric else list(keys)
    mapped = {key: guess.get(key) for key in ordered}
    if taken and any(_matches(label, names) for label in mapped):
        return what, (
            "Convert this file's labels to the class names first: data.relabel would change those of the training "
            "file, too"
        )
    if len(mapped) > SHOWN_NUMBERS:
        return what, "Convert the column to these classes first"
    if set(mapped) <= set(guess) or set(names) <= set(guess.values()):
        left_out = " (null leaves rows out)" if None in mapped.values() else ""
        return what, f"To read them as these classes: {setting('relabel', mapped)}{left_out}{_assumed(names, guess)}"
    template = {label: guess.get(label, "CLASS") for label in mapped}
    return what, (
        f"Use the class names as labels, or map them: {setting('relabel', template)}, with one of {', '.join(names)} "
        "for each CLASS, or null to leave its rows out"
    )


def _assumed(names: Sequence[str], guess: Mapping[str, str | None]) -> str:
    """What a proposal assumes about classes whose names do not say what they mean."""
    if any(map(polarity, names)) or not all(INTEGER.fullmatch(as_integer(label)) for label in guess):
        return ""
    if _are_integers(names) and (ends := _ends(names)) is not None:
        return f". This assumes that class {ends[0]} is the negative and {ends[-1]} the positive one"
    return ". This assumes that the classes have the same order"


def _matches(label: str, names: Sequence[str]) -> bool:
    number = as_integer(label)
    return (number.isdigit() and int(number) < len(names)) or folded(label) in map(folded, names)


def several_labels(
    examples: Mapping[str, str], rows: int, total: int, where: str, column: str, has_fields: bool = False
) -> UserError:
    """The error for a column with several labels in one field; `examples`: what each label looks like. `has_fields`: a
    field of a dictionary can be named as a column."""
    label, looks = next(iter(examples.items()))
    fix = (
        "Replace each vector by the position of its 1 (argmax)."
        if all(look == "a one-hot vector" for look in examples.values())
        else _advice_on_dictionary(label, column, has_fields)
        if looks == "a dictionary"
        else f"{ONE_LABEL} To leave out the rows with several: data.faulty_rows=leave_out."
        if rows < total
        else ONE_LABEL
    )
    what = "has dictionaries" if looks == "a dictionary" else "has several values per row"
    which = "" if looks == "a dictionary" else f", which looks like {looks}"
    return UserError(
        f"{where}: column {column!r} {what} in {rows:,} of {total:,} rows, such as {shorten(label)}{which}; expected "
        f"one label per row. {fix}"
    )


def _advice_on_dictionary(label: str, column: str, has_fields: bool) -> str:
    value = unpacked(label)
    fields = value if isinstance(value, dict) else {}
    numbers = [score for score in fields.values() if isinstance(score, int | float)]
    if len(fields) > 1 and len(numbers) == len(fields):
        return "These seem to be scores per class: write the class with the highest score into a column of its own."
    names = [str(name) for name, inner in fields.items() if not isinstance(inner, dict | list)]
    if not has_fields or not names:
        return "Write the field with the class into a column of its own."
    likely = label_fields(names)
    listed_names = "" if len(likely) == 1 else f"Its fields: {', '.join(map(repr, names[:SHOWN]))}. "
    options = [quote(f"data.label_column={column}.{name}") for name in likely[:SHOWN] or ["NAME"]]
    return f"{listed_names}Set {' or '.join(options)}"
