"""Orders in which programs write the rows of an evaluation, and how well words predict what stands in a row."""

from collections.abc import Iterator, Sequence

import numpy as np

MAX_SHIFT = 5
"""A header, a lost first row, or an incomplete batch: what is judged in few rows, too."""
PROCESSES, BATCHES = (2, 3, 4, 6, 8), (1, 2, 4, 8, 16, 32, 64, 128)
TRAINER_BATCHES, TRAINER_SEED, MEGABATCHES = (8, 16, 32, 64, 128), 42, 50
"""Usual values and the default of `per_device_eval_batch_size`, the default seed, and the number of batches that are
sorted together."""
MOST_TEXTS, MOST_CHARACTERS = 5_000, 1_000


def matches_by_shift(labels: np.ndarray, predicted: np.ndarray, furthest: int) -> tuple[np.ndarray, np.ndarray]:
    """All shifts from `-furthest` to `furthest` rows without 0, and the share of the rows that match after each.

    With a shift by s, the prediction of row i + s belongs to the label of row i; rows without a partner are left out.
    The counts are a cross-correlation per class, computed by Fourier transforms.
    """
    n = len(labels)
    size = 1 << (2 * n - 1).bit_length()
    counts = np.zeros(size)
    for k in np.intersect1d(labels, predicted).tolist():
        one, other = (np.fft.rfft((values == k).astype(np.float64), size) for values in (labels, predicted))
        counts += np.fft.irfft(np.conj(one) * other, size)
    shifts = np.concatenate([np.arange(-furthest, 0), np.arange(1, furthest + 1)])
    return shifts, np.round(counts[shifts]) / (n - np.abs(shifts))


def other_orders(
    n: int, texts: Sequence[str] | None, ids: Sequence[str] | None, lengths: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray]]:
    """How the rows may be ordered, as text, and the numbers of the rows in this order, shape (n,)."""
    yield "in reverse", np.arange(n)[::-1]
    for name, values in _sort_keys(texts, ids, lengths):
        keys = np.array(values)
        yield f"sorted by {name}", np.argsort(keys, kind="stable")
        if keys.dtype.kind in "if":
            yield f"sorted by {name}, the largest first", np.argsort(-keys, kind="stable")
    yield from _gathered(n)
    for name, values in _lengths(texts, lengths):
        for batch in TRAINER_BATCHES:
            how = f"in the order of a Trainer that groups by length ({name}, batches of {batch})"
            yield how, length_grouped(values, batch)


def _sort_keys(
    texts: Sequence[str] | None, ids: Sequence[str] | None, lengths: np.ndarray | None
) -> Iterator[tuple[str, list[int] | list[str]]]:
    yield from _lengths(texts, lengths)
    if texts is not None:
        yield "text", [text[:MOST_CHARACTERS] for text in texts]
    if ids is not None:
        yield "id as text", list(map(str, ids))
        if all(str(one).isdecimal() and len(str(one)) < 16 for one in ids):
            yield "id as number", [int(one) for one in ids]


def _lengths(texts: Sequence[str] | None, lengths: np.ndarray | None) -> Iterator[tuple[str, list[int]]]:
    if lengths is not None:
        yield "recorded length", np.asarray(lengths).tolist()
    if texts is not None:
        yield "number of characters", [len(text) for text in texts]
        yield "number of words", [len(text.split()) for text in texts]


def _gathered(n: int) -> Iterator[tuple[str, np.ndarray]]:
    """Batches dealt to several processes in turn, whose results are concatenated process by process."""
    rows = np.arange(n)
    for processes in PROCESSES:
        for batch in BATCHES:
            if batch * processes < n:
                order = np.argsort((rows // batch) % processes, kind="stable")
                yield f"gathered from {processes} processes with batches of {batch}", order


def length_grouped(lengths: Sequence[int], batch: int, seed: int = TRAINER_SEED) -> np.ndarray:
    """The order in which Trainer evaluates with `train_sampling_strategy="group_by_length"` in transformers 5.23.

    `trainer_pt_utils.get_length_grouped_indices`: a random permutation, in groups of up to 50 batches, each sorted by
    length, the longest first; then the longest row of all changes places with the first one.
    """
    import torch

    several = max(1, min(len(lengths) // (batch * 4), MEGABATCHES)) * batch
    drawn = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed)).tolist()
    groups = [
        sorted(drawn[at : at + several], key=lambda row: lengths[row], reverse=True)
        for at in range(0, len(drawn), several)
    ]
    longest = max(range(len(groups)), key=lambda group: lengths[groups[group][0]])
    groups[0][0], groups[longest][0] = groups[longest][0], groups[0][0]
    return np.array([row for group in groups for row in group], dtype=np.int64)


def words_predict(texts: Sequence[str], classes: np.ndarray) -> float:
    """Accuracy of naive Bayes on words in 2-fold cross-validation, minus the share of the most frequent class.

    Of many texts, `MOST_TEXTS` that are spread over the rows are used, each up to `MOST_CHARACTERS`.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.naive_bayes import MultinomialNB

    chosen = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), MOST_TEXTS)).astype(int))
    values = np.asarray(classes)[chosen]
    hashed = HashingVectorizer(n_features=2**16, alternate_sign=False, binary=True, norm=None)
    words = hashed.transform(texts[row][:MOST_CHARACTERS] for row in chosen.tolist())
    fold = np.random.default_rng(0).permutation(len(chosen)) % 2
    right = 0
    for held_out in (0, 1):
        model = MultinomialNB().fit(words[fold != held_out], values[fold != held_out])
        right += int((model.predict(words[fold == held_out]) == values[fold == held_out]).sum())
    return float(right / len(chosen) - np.bincount(values).max() / len(chosen))
