"""Texts that share most of their passages: near-duplicates, by sampled fingerprints (Manber 1994, Broder 1997)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenor.checks.rules.shared import text_keys

LETTERS = 24  # Consecutive letters, about five words; only stock phrases of this length are shared by chance.
MIN_FINGERPRINTS = 16  # With fewer, 70% cannot be distinguished from 50%.
RESEMBLANCE = 0.7  # Broder's measure; an average IMDb review has about this value after five small edits.
MAX_SHARED = 20  # A passage in more training rows than this is boilerplate.
MAX_ROWS = 2_000  # Held-out rows examined …
MAX_LETTERS = 40_000_000  # … and letters of training text: at most two seconds.
MAX_FINGERPRINTS = 2_000_000
CHUNK = 1 << 20  # Letters hashed at once; fits into the processor's cache.
NOT_LETTERS = bytes(b for b in range(128) if not chr(b).isalnum())
BASE = np.uint64(0x9E3779B97F4A7C15)  # An odd multiplier with well-mixed bits (Knuth's golden ratio).


@dataclass(frozen=True, eq=False)
class Passages:
    """Fingerprints of the training texts."""

    exact: np.ndarray
    """The distinct keys of all texts (`text_keys`)."""
    values: np.ndarray
    """The fingerprints, sorted, uint64."""
    rows: np.ndarray
    """The training row of each fingerprint."""
    counts: np.ndarray
    """Fingerprints per training row; 0 where a row was not examined."""
    bits: int
    """Number of low bits that are 0 in the hashes that are kept."""


@dataclass(frozen=True)
class NearDuplicates:
    judged: int
    """Held-out texts that were long enough."""
    pairs: tuple[tuple[int, int], ...]
    """Held-out row and the training row that it resembles."""


def passages(train: Sequence[str]) -> Passages:
    """Hash all sequences of `LETTERS` letters, and keep the hashes whose lowest bits are 0 (Manber 1994)."""
    step = max(1, -(-sum(map(len, train)) // MAX_LETTERS))
    examined = train[::step]
    letters = sum(map(len, examined))
    bits = int(np.ceil(np.log2(max(letters / MAX_FINGERPRINTS, 1))))
    values, rows = _fingerprints(examined, bits)
    order = np.argsort(values)
    exact = np.unique(text_keys(train))
    return Passages(exact, values[order], rows[order] * step, np.bincount(rows * step, minlength=len(train)), bits)


def near_duplicates(texts: Sequence[str], known: Passages) -> NearDuplicates:
    """Held-out texts that have a resemblance of at least `RESEMBLANCE` with a training text, without equal ones.

    Resemblance is the Jaccard index of two texts' fingerprints (Broder 1997).
    """
    spread = np.linspace(0, len(texts) - 1, min(len(texts), MAX_ROWS)).astype(np.int64)
    equal = np.isin(text_keys(texts[row] for row in spread.tolist()), known.exact)
    rows = spread[~equal].tolist()
    held, owner = _fingerprints([texts[row] for row in rows], known.bits)
    counts = np.bincount(owner, minlength=len(rows))
    long = counts >= MIN_FINGERPRINTS
    here, there = _matches(held, known.values)
    if len(here) == 0:
        return NearDuplicates(int(long.sum()), ())
    pairs, shared = np.unique(owner[here] * len(known.counts) + known.rows[there], return_counts=True)
    ours, theirs = np.divmod(pairs, len(known.counts))
    alike = long[ours] & (shared / (counts[ours] + known.counts[theirs] - shared) >= RESEMBLANCE)
    training_row_of = {rows[row]: other for row, other in zip(ours[alike], theirs[alike].tolist(), strict=True)}
    return NearDuplicates(int(long.sum()), tuple(training_row_of.items()))


def groups_within(texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Groups of rows whose texts are equal or similar (`RESEMBLANCE`), directly or through other rows.

    No row is in two groups. Rows are sorted within a group, and groups by their first row. A row without a similar
    one is in no group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.array(_pairs_within(texts), dtype=np.int64).reshape(-1, 2)
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(texts), len(texts)))
    group_of = connected_components(links, directed=False)[1]
    groups: dict[int, list[int]] = {}
    for row in np.unique(pairs).tolist():
        groups.setdefault(int(group_of[row]), []).append(row)
    return tuple(map(tuple, groups.values()))


def _pairs_within(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of rows, the lower first, with equal or similar texts.

    A text that occurs more than `MAX_SHARED` times is boilerplate and is paired only with its first row.
    """
    first_of: dict[str, int] = {}
    stripped = [text.strip() for text in texts]
    pairs = {
        (first, row) for row, text in enumerate(stripped) if text and (first := first_of.setdefault(text, row)) != row
    }
    known = passages(texts)
    here, there = _matches(known.values, known.values)
    left, right = known.rows[here], known.rows[there]
    once = left < right
    codes, shared = np.unique(left[once] * len(texts) + right[once], return_counts=True)
    left, right = np.divmod(codes, max(len(texts), 1))
    long = (known.counts[left] >= MIN_FINGERPRINTS) & (known.counts[right] >= MIN_FINGERPRINTS)
    alike = long & (shared / (known.counts[left] + known.counts[right] - shared) >= RESEMBLANCE)
    pairs.update(zip(left[alike].tolist(), right[alike].tolist(), strict=True))
    return tuple(sorted(pairs))


def _fingerprints(texts: Sequence[str], bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct sampled hashes of each text, and the index of the text of each."""
    parts = [text.lower().encode("utf-8", "replace").translate(None, NOT_LETTERS) for text in texts]
    ends = np.cumsum([len(part) for part in parts])
    stream = np.frombuffer(b"".join(parts), dtype=np.uint8)
    hashes, owners = [], []
    for start in range(0, len(stream), CHUNK):
        window = _rolling(stream[start : start + CHUNK + LETTERS - 1])
        kept = np.flatnonzero((window >> np.uint64(40)) & np.uint64((1 << bits) - 1) == 0)
        owner = np.searchsorted(ends, start + kept, side="right")
        inside = start + kept + LETTERS <= ends[owner]
        hashes.append(window[kept[inside]])
        owners.append(owner[inside])
    if not hashes:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    value, owner = np.concatenate(hashes), np.concatenate(owners)
    order = np.lexsort((value, owner))
    value, owner = value[order], owner[order]
    first = np.ones(len(value), dtype=bool)
    first[1:] = (value[1:] != value[:-1]) | (owner[1:] != owner[:-1])
    return value[first], owner[first]


def _rolling(stream: np.ndarray) -> np.ndarray:
    """A hash of each `LETTERS` consecutive bytes: of 8 by doubling, then of three of these."""
    if len(stream) < LETTERS:
        return np.zeros(0, np.uint64)
    window, factor = stream.astype(np.uint64) + np.uint64(1), BASE
    with np.errstate(over="ignore"):
        for width in (1, 2, 4):
            window = window[:-width] * factor + window[width:]
            factor = factor * factor
        window = (window[:-16] * factor + window[8:-8]) * factor + window[16:]
        return window ^ (window >> np.uint64(29))


def _matches(held: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of equal fingerprints in both arrays, without frequent ones; `known` must be sorted."""
    left, right = np.searchsorted(known, held, side="left"), np.searchsorted(known, held, side="right")
    count = right - left
    count[count > MAX_SHARED] = 0
    here = np.repeat(np.arange(len(held)), count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return here, np.repeat(left, count) + offset
