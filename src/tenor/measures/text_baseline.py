"""Baselines on the same rows: naive-Bayes-weighted bigrams, and the most frequent class.

Wang and Manning (2012), "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification"; as in Mesnil et al.
(2014), "Ensemble of Generative and Discriminative Techniques for Sentiment Analysis of Movie Reviews", the classifier
is logistic regression, which gives probabilities. A transformer that is not better is not worth its cost.

Vectorizer and regression are scikit-learn's. Written here: the naive-Bayes weights, which scikit-learn does not have;
the scores of texts, because its `transform` takes four times as long and is part of a hybrid's predictions; and the
files, because a pickled pipeline could run code when it is loaded.
"""

import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tenor.data.sequences import list_of, sequence_of
from tenor.errors import UserError
from tenor.measures.metrics import check_labels
from tenor.runs.files import atomic_path, write_json

# Words with inner apostrophes, an HTML tag as one token, any other mark by itself: "!" and "?" carry sentiment.
_TOKEN = r"</?\w+ ?/?>|\w+(?:['’]\w+)*|[^\w\s]"
_WORDS = re.compile(_TOKEN).findall
_MIN_ROWS = 2  # A term in a single row cannot generalise, and most bigrams are of this kind.
_SMOOTHING = 1.0  # Wang and Manning (2012), section 4.
_INVERSE_PENALTY = 1.0  # Of the logistic regression: Mesnil et al. (2014) keep liblinear's default.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class TextBaseline:
    """A fitted baseline of K classes and V terms, with R = 1 linear scores for two classes and R = K for more."""

    vocabulary: tuple[str, ...]
    """V words and pairs of neighbouring words, sorted; empty where the model is the class frequencies alone."""
    ratio: np.ndarray
    """Naive-Bayes log-count ratios, float32, shape (R, V)."""
    coef: np.ndarray
    """Weights of the logistic regression on the features times their ratio, float32, shape (R, V)."""
    intercept: np.ndarray
    """float64, shape (R,)."""
    class_frequencies: np.ndarray
    """Shares of the classes among the training rows, float64, shape (K,)."""
    note: str = ""
    """A problem of the training rows, such as "one class only: …"; empty if there is none."""

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of the classes, float64, shape (n, K). Raises UserError unless `texts` is a sequence."""
        return np.exp(self.log_probabilities(texts))

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Their logarithms, float64, shape (n, K); -inf only for a class that no training row has. Raises UserError
        unless `texts` is a sequence."""
        texts = sequence_of(texts, "texts")
        if not self.vocabulary:
            with np.errstate(divide="ignore"):
                return np.tile(np.log(self.class_frequencies), (len(texts), 1))
        scores = np.zeros((len(texts), len(self.intercept)))
        for row, text in enumerate(texts):
            scores[row] = self._weights[self._terms(text)].sum(axis=0)
        return self._from_scores(scores + self.intercept)

    def word_contributions(self, text: str) -> tuple[list[tuple[int, int]], np.ndarray]:
        """What each word adds to the linear scores: the spans of the words in `text`, in code points, and float64 of
        shape (words, R), whose sum over the words plus the intercept is the scores.

        A pair's weight is divided between its two words, and a repeated term's between its occurrences.
        """
        words = list(re.finditer(_TOKEN, text.lower()))
        sums = np.zeros((len(words), len(self.intercept)))
        occurrences: dict[int, list[tuple[int, ...]]] = {}
        for at, word in enumerate(words):
            following = (f"{word[0]} {words[at + 1][0]}",) if at + 1 < len(words) else ()
            for term, where in zip((word[0], *following), ((at,), (at, at + 1)), strict=False):
                if (place := self._places.get(term)) is not None:
                    occurrences.setdefault(place, []).append(where)
        for place, times in occurrences.items():
            for where in times:
                sums[list(where)] += self._weights[place] / (len(times) * len(where))
        origin = _positions_before_lowering(text)
        return [(origin(word.start()), origin(word.end() - 1) + 1) for word in words], sums

    def _terms(self, text: str) -> list[int]:
        """Places in the vocabulary of the text's distinct terms, as `_vectorizer` counts them."""
        words = _WORDS(text.lower())
        terms = {*words, *map(" ".join, pairwise(words))}
        return sorted(place for term in terms if (place := self._places.get(term)) is not None)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {term: place for place, term in enumerate(self.vocabulary)}

    @cached_property
    def _weights(self) -> np.ndarray:
        """Weight of each term, float64, shape (V, R)."""
        return (self.ratio.astype(np.float64) * self.coef).T

    def _from_scores(self, scores: np.ndarray) -> np.ndarray:
        from scipy.special import log_expit, log_softmax

        if len(self.intercept) == 1:
            scores = np.hstack([-scores, scores])
        # Normalised log-sigmoids: one-vs-rest probabilities that cannot all underflow to 0.
        return np.asarray(log_softmax(log_expit(scores), axis=1))

    def save(self, folder: Path) -> None:
        """Write `vocabulary.txt`, `arrays.npz` and `baseline.json`, without pickle; equal models give equal bytes."""
        described = {
            "format": _FORMAT,
            "method": "binary bigrams weighted by naive-Bayes log ratios, logistic regression",
            "classes": len(self.class_frequencies),
            "terms": len(self.vocabulary),
            "note": self.note,
        }
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            # A term holds no line break: they are white space, which no token contains.
            (temporary / "vocabulary.txt").write_bytes("\n".join(self.vocabulary).encode("utf-8", "surrogatepass"))
            arrays = {name: getattr(self, name) for name in _ARRAYS}
            np.savez_compressed(temporary / "arrays.npz", allow_pickle=False, **arrays)
            write_json(temporary / "baseline.json", described)

    @staticmethod
    def load(folder: Path) -> "TextBaseline":
        """Read what `save` wrote; raises UserError if a file is missing or inconsistent with the others."""
        try:
            described = json.loads((folder / "baseline.json").read_text(encoding="utf-8"))
            text = (folder / "vocabulary.txt").read_bytes().decode("utf-8", "surrogatepass")
            with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in _ARRAYS}
            vocabulary = tuple(text.split("\n")) if text else ()
            _check_stored(described, vocabulary, arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"cannot read the text baseline in {folder}: {error}; expected baseline.json, vocabulary.txt and "
                f"arrays.npz as one run wrote them. Restore the folder or train again."
            ) from error
        return TextBaseline(vocabulary=vocabulary, note=described["note"], **arrays)


def fit_text_baseline(texts: Sequence[str], labels: np.ndarray, n_classes: int, seed: int) -> TextBaseline:
    """Fit the baseline on n rows: binary words and bigrams times naive-Bayes log ratios, then logistic regression.

    Two classes share one ratio; more have a ratio and a regression each against the rest. The rows' order does not
    change the result. `seed` orders the solver's coordinate steps. Rows of one class only, and rows that share no
    term, leave nothing to learn: the model is then the class frequencies, and `note` says so.
    Raises ValueError for no rows, labels outside 0 … K-1, and numbers of texts and labels that differ.
    """
    labels, texts = check_labels(labels, n_classes), list_of(texts, "texts")
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts, but {len(labels)} labels")
    # Floating-point sums depend on their order: a canonical one makes the result independent of the caller's.
    order = sorted(range(len(texts)), key=lambda row: (texts[row], labels[row]))
    texts, labels = [texts[row] for row in order], labels[order]
    counts = np.bincount(labels, minlength=n_classes)
    if np.count_nonzero(counts) == 1:
        return _frequencies_only(counts, f"one class only: all {len(labels)} training rows have label {labels[0]}")
    vocabulary, features = _learn_vocabulary(texts)
    if not vocabulary:
        return _frequencies_only(counts, f"no term occurs in {_MIN_ROWS} of the {len(labels)} training rows")
    positives = [1] if n_classes == 2 else range(n_classes)
    fits = [_fit_one_against_rest(features, labels == k, seed, n_classes) for k in positives]
    missing = [str(k) for k in range(n_classes) if counts[k] == 0]
    return TextBaseline(
        vocabulary=vocabulary,
        ratio=np.stack([ratio for ratio, _, _ in fits]),
        coef=np.stack([coef for _, coef, _ in fits]),
        intercept=np.array([intercept for _, _, intercept in fits]),
        class_frequencies=counts / counts.sum(),
        note=f"no training row has label {', '.join(missing)}" if missing else "",
    )


def majority_baseline(train_labels: np.ndarray, test_labels: np.ndarray, n_classes: int) -> float:
    """Accuracy on `test_labels` (m,) of always predicting the most frequent class of `train_labels` (n,).

    Of equally frequent classes the lowest is predicted.
    Raises ValueError for no rows and labels outside 0 … K-1.
    """
    commonest = np.bincount(check_labels(train_labels, n_classes), minlength=n_classes).argmax()
    return float((check_labels(test_labels, n_classes) == commonest).mean())


def _positions_before_lowering(text: str) -> Callable[[int], int]:
    """The position in `text` of each character of `text.lower()`: "İ" becomes two characters."""
    if len(text.lower()) == len(text):
        return int
    origin = [at for at, character in enumerate(text) for _ in character.lower()]
    return origin.__getitem__


_ARRAYS = ("ratio", "coef", "intercept", "class_frequencies")


def _vectorizer(**options: Any) -> Any:
    """Binary words and pairs of neighbouring words of texts in lower case."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(binary=True, ngram_range=(1, 2), token_pattern=_TOKEN, dtype=np.float64, **options)


def _learn_vocabulary(texts: Sequence[str]) -> tuple[tuple[str, ...], Any]:
    """Terms of at least `_MIN_ROWS` rows, sorted, and the binary features, a sparse matrix of shape (n, V)."""
    vectorizer = _vectorizer(min_df=_MIN_ROWS)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError as error:
        if not any(words in str(error) for words in ("no terms remain", "empty vocabulary")):
            raise
        return (), None
    features.sort_indices()
    return tuple(vectorizer.get_feature_names_out().tolist()), features


def _fit_one_against_rest(
    features: Any, positive: np.ndarray, seed: int, n_classes: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Ratio (V,), weights (V,) and intercept that tell the positive rows from the rest."""
    from sklearn.linear_model import LogisticRegression

    if not positive.any():
        # Nothing to learn from: odds of Laplace's rule of succession, for a class with 0 of n rows.
        nothing = np.zeros(features.shape[1], dtype=np.float32)
        return nothing, nothing, float(-np.log(len(positive) + n_classes - 1))
    inside = _SMOOTHING + positive.astype(np.float64) @ features
    outside = _SMOOTHING + (~positive).astype(np.float64) @ features
    ratio = np.log((inside / inside.sum()) / (outside / outside.sum())).astype(np.float32)
    weighted = features.copy()
    weighted.data = ratio.astype(np.float64)[weighted.indices]
    # The dual has one variable per row, far fewer than terms.
    regression = LogisticRegression(C=_INVERSE_PENALTY, solver="liblinear", dual=True, random_state=seed, max_iter=1000)
    regression.fit(weighted, positive)
    return ratio, regression.coef_[0].astype(np.float32), float(regression.intercept_[0])


def _frequencies_only(counts: np.ndarray, reason: str) -> TextBaseline:
    linear = 1 if len(counts) == 2 else len(counts)
    nothing = np.zeros((linear, 0), dtype=np.float32)
    frequencies = counts / counts.sum()
    return TextBaseline((), nothing, nothing, np.zeros(linear), frequencies, f"{reason}; it predicts class frequencies")


def _check_stored(described: dict[str, Any], vocabulary: tuple[str, ...], arrays: dict[str, np.ndarray]) -> None:
    if described["format"] != _FORMAT:
        raise ValueError(f"format {described['format']}, expected {_FORMAT}")
    if not isinstance(described["note"], str):
        raise ValueError(f"note is {described['note']!r}, expected a string")
    classes = described["classes"]
    linear = 1 if classes == 2 else classes
    terms = (linear, len(vocabulary))
    expected = {"ratio": terms, "coef": terms, "intercept": (linear,), "class_frequencies": (classes,)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, expected {shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} contains NaN or infinity")
