"""Which spellings of a label are the same class: case, spaces, invisible characters, notations of a number."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from shlex import quote

from tenor.errors import UserError

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
WHOLE = re.compile(r"([-+]?)0*([0-9]{1,18})(\.0*)?")
EXACT = 2**53
"""Up to here a float represents every integer."""
BLANKS = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
"""Spaces within a label. Line breaks and tabs are not included: such a name is refused."""
INVISIBLE = re.compile("[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe0e\ufe0f\ufeff]+")
"""Format characters without a width or an effect on the letters around them, and the two that choose how an emoji is
drawn. Joiners are not included: they are part of
words and of emoji."""
EDGES = re.compile(r"^[\s\u200c\u200d]+|[\s\u200c\u200d]+$")
SHOWN = 6
"""Count of spellings, classes or pairs listed in one note."""
FEWEST_LETTERS = 5
"""Minimum length of words that may differ by a typo in one letter: `hate` and `rate` are two words."""
MOST_NAMES = 200
"""Count of class names that are compared pairwise."""


def tidied(label: str) -> str:
    """A label in Unicode's composed form (NFC), stripped, with single spaces and without invisible characters."""
    return BLANKS.sub(" ", EDGES.sub("", unicodedata.normalize("NFC", INVISIBLE.sub("", label))))


def folded(label: str) -> str:
    """The key that all spellings of a class share."""
    compatible = unicodedata.normalize("NFKC", INVISIBLE.sub("", label)).casefold()
    return tidied(unicodedata.normalize("NFKC", compatible))


def as_integer(label: str) -> str:
    """A whole number as a plain integer, such as 5 for 5.0, +5, 05 or 5e0, and 0 for -0; any other label unchanged."""
    number = unicodedata.normalize("NFKC", label).replace("\u2212", "-")
    if (match := WHOLE.fullmatch(number)) is not None:
        return str(int(match[1] + match[2]))
    if NUMBER.fullmatch(number) and (value := float(number)).is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return label


@dataclass(frozen=True)
class Spellings:
    """The classes that the labels themselves define."""

    name_of: Mapping[str, str]
    """The class name, by label as written."""
    counts: Counter[str]
    """Rows by class name, in order of appearance."""


def own_spellings(counts: Counter[str]) -> Spellings:
    """Choose one name for all spellings of a class; `counts` has the rows per spelling, in order of appearance."""
    tidy = {label: tidied(label) for label in counts}
    integers = {label: number for label, known in tidy.items() if INTEGER.fullmatch(number := as_integer(known))}
    if 2 * sum(counts[label] for label in integers) > counts.total():  # Else names, such as the versions 1.0 and 1.0b.
        tidy |= integers
    groups: dict[str, Counter[str]] = {}
    for label, count in counts.items():
        groups.setdefault(folded(tidy[label]), Counter())[tidy[label]] += count
    # Of equally frequent spellings, a Counter returns the first.
    names = {fold: group.most_common(1)[0][0] for fold, group in groups.items()}
    by_class = Counter({names[fold]: group.total() for fold, group in groups.items()})
    return Spellings({label: names[folded(known)] for label, known in tidy.items()}, by_class)


class GivenNames:
    """Class names chosen by the user, and which labels match them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises UserError for names that differ only in spaces or Unicode normalization.

        Names that differ in case are separate classes, because they were given as such; labels must then match the
        case.
        """
        self.names = tuple(names)
        self._as_given = {name: index for index, name in enumerate(names)}
        self._tidied: dict[str, int] = {}
        self._folded: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            if (other := self._tidied.setdefault(tidied(name), index)) != index:
                raise UserError(
                    f"data.class_names contains {names[other]!r} and {name!r}, which are one class: they differ only "
                    "in spaces or Unicode normalization. Give each class a different name."
                )
            self._folded.setdefault(folded(name), []).append(index)

    def index(self, label: str) -> int | None:
        """The class that a label matches; None if it matches none, or more than one."""
        for written in dict.fromkeys((label, as_integer(tidied(label)))):
            for known in (self._as_given.get(written), self._tidied.get(tidied(written))):
                if known is not None:
                    return known
            if len(alike := self._folded.get(folded(written), [])) == 1:
                return alike[0]
        return None

    def alike(self, label: str) -> list[str]:
        """The names that a label matches regardless of case."""
        return [self.names[index] for index in self._folded.get(folded(label), [])]


def merged_note(counts: Counter[str], name_of: Mapping[str, str]) -> str | None:
    """A note on which spellings were read as which class, and in how many rows; None if all are spelled as their class.

    Numbers that are written in another way than as plain integers get a separate sentence.
    """
    spellings: dict[str, dict[str, int]] = {}
    numbers = {}
    for label, name in name_of.items():
        if label != name and INTEGER.fullmatch(name) and as_integer(tidied(label)) == name:
            numbers[label] = name
        else:
            spellings.setdefault(name, {})[label] = counts[label]
    merged = [
        f"{name!r} is written {', '.join(_of_class(of_class))}"
        for name, of_class in spellings.items()
        if set(of_class) != {name}
    ]
    sentences = []
    if merged:
        sentences.append(
            "labels that differ only in case, spaces, invisible characters or Unicode normalization are one class: "
            + _shown(merged, "; ")
        )
    if numbers:
        label, name = next(iter(numbers.items()))
        sentences.append(f"whole numbers are read as integers: {label!r} as {name!r}")
    return ". ".join(sentences) or None


def _of_class(counts: Mapping[str, int]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = [f"{_written(label)} ({_rows(count)})" for label, count in ordered]
    return [*listed[:SHOWN], *([f"{len(listed) - SHOWN} more"] if len(listed) > SHOWN else [])]


def near_note(counts: Counter[str]) -> str | None:
    """A note on class names that are nearly the same, with their row counts; None if there are none."""
    names = list(counts)[:MOST_NAMES]
    pairs = [pair for pair in combinations(names, 2) if _are_near(*pair) or _has_remark(*pair)]
    pairs += [pair for pair in abbreviations(names, counts) if pair not in pairs]
    shown = [f"{one!r} ({_rows(counts[one])}) and {other!r} ({_rows(counts[other])})" for one, other in pairs]
    if not pairs:
        return None
    relabel = dict(sorted(pair, key=counts.__getitem__) for pair in pairs[:SHOWN])
    example = json.dumps(relabel, ensure_ascii=False)
    return (
        f"class names that are nearly the same: {_shown(shown, '; ')}. If they mean the same, read one as the other: "
        f"{quote('data.relabel=' + example)}; if they are different classes, list all names in data.class_names"
    )


def _are_near(one: str, other: str) -> bool:
    """Whether two names differ only in punctuation, or in one letter of a word that is long enough for a typo.

    In numbers a sign, a point or a slash tells apart what they mean: 1 and -1, 15 and 1.5, 34 and 3-4.
    """
    if not (any(map(str.isalpha, one)) and any(map(str.isalpha, other))):
        return False
    words, others = (re.findall(r"\w+", name.casefold().replace("_", " ")) for name in (one, other))
    if "".join(words) == "".join(others):
        return bool(words)
    if len(words) != len(others):
        return False
    unequal = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    return len(unequal) == 1 and _one_letter_apart(*unequal[0])


def _has_remark(one: str, other: str) -> bool:
    """Whether one name is the other with a remark behind it, such as `positive (sarcastic?)` or `unsure - see note`."""
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return short[-1:].isalpha() and long.startswith(short) and REMARK.match(long, len(short)) is not None


REMARK = re.compile(r"\s*[(\[{,;:?!*#]|\s+[-\u2013\u2014/]\s")


def abbreviations(names: Sequence[str], counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """The names that seem to be the beginning of another one, as `pos` of `positive`, each with that one.

    The beginning of a usual word for an opinion is one, unless it begins two of them. Other names need more evidence,
    because `art` and `article` are two classes: at least two pairs that make up more than half of the names.
    """
    words = {name: folded(name).strip(" .") for name in names}
    letters = [name for name in names if words[name].isalpha()]
    longer = {
        short: [
            long
            for long in letters
            if len(words[long]) > len(words[short]) + LETTERS_OF_ENDINGS and words[long].startswith(words[short])
        ]
        for short in letters
    }
    sure, likely = [], []
    for short, longs in longer.items():
        stems = {stem for stem in STEMS for long in longs if words[long].startswith(stem)}
        if len(stems) == 1 and all(words[long].startswith(tuple(stems)) for long in longs):
            if next(iter(stems)).startswith(words[short]) and words[short] not in stems:
                sure.append((short, max(longs, key=lambda long: counts[long])))
        elif len(longs) == 1 and not words[longs[0]].removeprefix(words[short]).startswith(ENDINGS):
            likely.append((short, longs[0]))
    pairs = [*sure, *likely]
    return pairs if len(pairs) > 1 and 4 * len(pairs) > len(names) else sure


STEMS = ("positiv", "negativ", "neutral", "mixed")
LETTERS_OF_ENDINGS = 2
"""An abbreviation leaves out more letters than this: `low` and `lower`, `like` and `likely` are words of their own."""
ENDINGS = ("ing", "ful", "ness", "less", "able", "est", "ish", "ment", "ism", "ist", "ity", "ion")
"""What makes another word of a word, such as `joyful` of `joy`."""
LOOK_ALIKES = frozenset(map(frozenset, ("1l", "1i", "0o", "5s")))
"""Digits that are typed, or read by a scanner, in place of letters, as in `neutra1`."""


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether one letter is added, missing or different, or two are swapped; but not a digit
    that does not look like the letter, nor the first letter."""
    short, long = sorted((one, other), key=len)
    if len(short) < FEWEST_LETTERS or len(long) - len(short) > 1 or short[0] != long[0]:
        return False
    at = next((at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if short[at + 1 :] == long[at + 1 :] and frozenset({short[at : at + 1], long[at : at + 1]}) in LOOK_ALIKES:
        return True
    if any(letter.isdigit() for letter in (short[at : at + 1] + long[at : at + 1])):
        return False
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[at + 1 : at + 2] + short[at : at + 1] == long[at : at + 2]
    return short[at + 1 :] == long[at + 1 :] or (swapped and short[at + 2 :] == long[at + 2 :])


def _written(label: str) -> str:
    """A label quoted so that spellings that look the same can be told apart."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _shown(items: Iterable[str], separator: str) -> str:
    items = list(items)
    return separator.join(items[:SHOWN]) + (f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else "")
