"""How rules read rows: labels as integers, texts as strings, the splits that are there."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

import numpy as np

from tenor.checks.evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell

IGNORED = -100  # PyTorch's cross entropy leaves rows with this label out.


def integers(labels: np.ndarray) -> np.ndarray:
    """The labels as int64 of shape (n,); raises CannotTell where they have another type or shape."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise CannotTell(f"the labels are {labels.dtype} of shape {labels.shape}, not integers of shape (n,)")
    return labels.astype(np.int64)


def class_indices(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """The labels as int64 of shape (n,), all in 0 … K-1; raises CannotTell where they are not."""
    found = integers(labels)
    if found.size and not 0 <= found.min() <= found.max() < n_classes:
        raise CannotTell(f"labels lie outside 0 … {n_classes - 1}")
    return found


def class_counts(rows: Rows, n_classes: int) -> np.ndarray:
    """Rows per class, shape (K,)."""
    return np.bincount(class_indices(rows.labels, n_classes), minlength=n_classes)


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Texts read when asked for, since they may be more than memory holds. What is no string is an empty one."""

    found: Sequence[Any]

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: Any) -> Any:
        found = self.found[index]
        return list(map(_as_string, found)) if isinstance(index, slice) else _as_string(found)

    def __iter__(self) -> Iterator[str]:
        return map(_as_string, self.found)


def strings(rows: Rows) -> Texts:
    """The texts; anything that is not a string (None, NaN) counts as an empty one."""
    if rows.texts is None:
        raise CannotTell("the texts are not at hand")
    if len(rows.texts) == 0:
        raise CannotTell("there are no texts")
    return Texts(rows.texts if isinstance(rows.texts, Sequence) else list(rows.texts))


def text_keys(texts: Iterable[str]) -> np.ndarray:
    """A number for each text, uint64, shape (n,): equal texts have equal ones, blank ones 0.

    Case, amounts of white space and Unicode's composed or decomposed forms make no difference: a text that was copied
    through other programs is still the same text. Texts may be more than memory holds, so what compares them keeps
    these numbers instead. Two different texts among ten million have the same one with a probability of 3 in a million.
    """
    return np.fromiter(map(_key, texts), dtype=np.uint64)


def _key(text: str) -> int:
    normalized = " ".join(normalize("NFC", text.casefold()).split()).encode("utf-8", "surrogatepass")
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
    """The splits beside the training rows, by name; raises CannotTell where there is none."""
    splits = tuple((name, rows) for name, rows in (("validation", data.validation), ("test", data.test)) if rows)
    if not splits:
        raise CannotTell("there is neither a validation nor a test split")
    return splits


def all_splits(data: DataEvidence) -> tuple[tuple[str, Rows], ...]:
    """The training rows and every other split, by name."""
    return (("train", data.train), *(held_out(data) if data.validation or data.test else ()))


def class_name(data: DataEvidence, label: int) -> str:
    """A class as people know it: its index and, where it has one, its name."""
    names = data.class_names
    return f"{label} ({names[label]})" if names and label < len(names) else str(label)
