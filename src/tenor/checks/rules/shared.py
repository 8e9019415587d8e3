"""Helpers for all rules: required values, rows of a split, significance tests, the loss of an uninformed model."""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any, TypeVar
from unicodedata import normalize

import numpy as np

from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.measures.tail_probabilities import chi_squared, hypergeometric_none, normal_above

T = TypeVar("T")
SHOWN_NAMES = 4


def known(value: T | None, what: str, why_not: str | None = None) -> T:
    """The value; raises `CannotTell` if it is None, with the reason if one is given."""
    if value is None:
        raise CannotTell(f"{what} is not known" + (f" ({why_not})" if why_not else ""))
    return value


def shown(names: Iterable[str]) -> str:
    """The first names in order, and how many more there are."""
    ordered = sorted(set(names))
    more = len(ordered) - SHOWN_NAMES
    return ", ".join(ordered[:SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")


IGNORED = -100  # PyTorch's cross entropy ignores rows with this label.


def integers(labels: np.ndarray) -> np.ndarray:
    """The labels as int64 of shape (n,); raises CannotTell for another type or shape."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise CannotTell(f"the labels are {labels.dtype} of shape {labels.shape}, not integers of shape (n,)")
    return labels.astype(np.int64)


def class_indices(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """The labels as int64 of shape (n,), all in 0 … K-1; raises CannotTell otherwise."""
    indices = integers(labels)
    if indices.size and not 0 <= indices.min() <= indices.max() < n_classes:
        raise CannotTell(f"some labels are outside 0 … {n_classes - 1}")
    return indices


def class_counts(rows: Rows, n_classes: int) -> np.ndarray:
    """Rows per class, shape (K,)."""
    return np.bincount(class_indices(rows.labels, n_classes), minlength=n_classes)


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Texts, read on access because they may not fit into memory. A value that is not a string becomes ""."""

    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        value = self.values[index]
        return list(map(_as_string, value)) if isinstance(index, slice) else _as_string(value)

    def __iter__(self) -> Iterator[str]:
        return map(_as_string, self.values)


def strings(rows: Rows) -> Texts:
    """The texts; anything that is not a string (None, NaN) counts as an empty one."""
    if rows.texts is None:
        raise CannotTell("the texts are not available")
    if len(rows.texts) == 0:
        raise CannotTell("there are no texts")
    return Texts(rows.texts if isinstance(rows.texts, Sequence) else list(rows.texts))


TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]{0,200}=[^<>]{0,200})?\s*/?>|<!--.{0,200}?-->", re.IGNORECASE | re.DOTALL)
EMOTICON = re.compile(r"[:;=]['^-]?(?:[()\[\]\\/|*]|[dp](?!\w))")
NUMBER = re.compile(r"\d+(?:[.,/:-]\d+)+")
"""Such as 3.5 and 9/10."""
_CODES = (range(33), range(127, 162), range(0x2000, 0x2070), range(0x3000, 0x3040), range(0xFE00, 0xFE10), [0xFEFF])
_REMOVED = "!\"#%&'()*,-./:;?@[\\]_`{}§«\xad´¶·¸»¿" + "".join(chr(code) for codes in _CODES for code in codes)
REMOVED = str.maketrans("", "", _REMOVED)
"""White space, punctuation, quotes and invisible characters, but no mathematical and currency signs ("A+")."""


def text_keys(texts: Iterable[str]) -> np.ndarray:
    """A hash of each text, uint64, shape (n,): equal for equal texts, 0 for blank ones.

    Case, white space, punctuation, quotes, HTML tags and entities, and Unicode composition are ignored: a text that was
    copied through other programs is still the same text. Emoticons and what separates the digits of a number count,
    and a text without letters is compared as it is. The texts may not fit into memory, so comparisons keep these hashes
    instead. The probability that two different texts among ten million have the same hash is 3 in a million.
    """
    return np.fromiter(map(_key, texts), dtype=np.uint64)


def bare(text: str) -> str:
    """The text without what copies of it differ in: see `text_keys`."""
    plain = without_markup(text).casefold()
    plain = plain if plain.isascii() else normalize("NFKC", plain)
    letters = plain.translate(REMOVED)
    return " ".join([letters, *EMOTICON.findall(plain), *NUMBER.findall(plain)]) if letters else "".join(plain.split())


def without_markup(text: str) -> str:
    """The text with HTML entities as characters and without HTML tags."""
    plain = unescape(unescape(text)) if "&" in text else text  # "&amp;#8217;": escaped twice on its way.
    return TAG.sub(" ", plain) if "<" in plain else plain


def _key(text: str) -> int:
    normalized = bare(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(normalized, digest_size=8).digest(), "little") if normalized else 0


def _as_string(text: Any) -> str:
    return text if isinstance(text, str) else ""


def labelled_texts(rows: Rows, n_classes: int) -> tuple[Texts, np.ndarray]:
    """Texts and class indices of the same rows."""
    texts, labels = strings(rows), class_indices(rows.labels, n_classes)
    if len(texts) != len(labels):
        raise CannotTell(f"there are {len(texts):,} texts and {len(labels):,} labels")
    return texts, labels


def held_out(data: DataEvidence) -> tuple[tuple[str, Rows], ...]:
    """The validation and test splits, by name; raises CannotTell if there is neither."""
    splits = tuple((name, rows) for name, rows in (("validation", data.validation), ("test", data.test)) if rows)
    if not splits:
        raise CannotTell("there is neither a validation nor a test split")
    return splits


def all_splits(data: DataEvidence) -> tuple[tuple[str, Rows], ...]:
    """The training rows and every other split, by name."""
    return (("train", data.train), *(held_out(data) if data.validation or data.test else ()))


def class_name(data: DataEvidence, label: int) -> str:
    """A class as displayed: its index, with its name if it has one."""
    names = data.class_names
    return f"{label} ({names[label]})" if names and label < len(names) else str(label)


ALPHA = 1e-4
"""One false alarm in a hundred healthy runs, divided by about a hundred rules (Bonferroni)."""


@dataclass(frozen=True)
class Association:
    """How much the rows of a contingency table differ."""

    p: float
    v: float
    """Cramér's V: 0 for equal proportions, 1 for disjoint ones."""


def association(table: np.ndarray) -> Association:
    """Pearson's chi-squared test of independence on counts, shape (groups, classes), and Cramér's V (1946)."""
    table = table[:, table.sum(axis=0) > 0]
    if min(table.shape) < 2 or (table.sum(axis=1) == 0).any():
        return Association(p=1.0, v=0.0)
    test = chi_squared(table)
    return Association(test.p, math.sqrt(test.statistic / (table.sum() * (min(table.shape) - 1))))


@dataclass(frozen=True)
class Runs:
    """Runs: stretches of equal consecutive labels."""

    observed: int
    expected: float
    """Mean number of runs in random order."""
    p: float
    """Probability of this number of runs or fewer in random order."""

    @property
    def ratio(self) -> float:
        """1 in random order, near 0 if the rows are sorted by label."""
        return self.observed / self.expected


def runs_test(labels: np.ndarray) -> Runs:
    """The runs test of Wald and Wolfowitz (1940) for any number of classes (Mood 1940), one-sided: too few runs.

    Raises CannotTell if there are fewer than two classes.
    """
    n = len(labels)
    counts = np.unique(labels, return_counts=True)[1].astype(float)
    if len(counts) < 2:
        raise CannotTell("there is only one class, so there is no order to test")
    squares, cubes = float(counts @ counts), float((counts**3).sum())
    expected = (n * (n + 1) - squares) / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    observed = 1 + int(np.count_nonzero(labels[1:] != labels[:-1]))
    # Half a run of continuity correction.
    z = (observed + 0.5 - expected) / np.sqrt(variance) if variance > 0 else 0.0
    return Runs(observed, expected, normal_above(-z))


def chance_of_none(members: int, others: int, drawn: int) -> float:
    """Probability that a random draw of `drawn` rows without replacement contains none of the `members`."""
    return hypergeometric_none(members, others, min(drawn, members + others))


def uninformed(n_classes: int) -> float:
    """Cross-entropy of equal probabilities: ln K nats."""
    return math.log(max(2, n_classes))
