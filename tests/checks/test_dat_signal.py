"""Whether words predict labels, on synthetic reviews whose words suggest a class without determining it."""

import re

import numpy as np
import pytest

from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.rules import dat_signal as rules


def reviews(n: int, seed: int = 0, n_classes: int = 2) -> tuple[list[str], np.ndarray]:
    """Shuffled rows of 20 words out of 300; each class prefers a part of them."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % n_classes)
    words = np.where(
        random.random((n, 20)) < 0.3,
        100 * n_classes + labels[:, None] * 30 + random.integers(0, 30, (n, 20)),
        random.integers(0, 100 * n_classes, (n, 20)),
    )
    return [" ".join(f"w{word}" for word in row) for row in words], labels


def data(train: tuple[list[str], np.ndarray], n_classes: int = 2, **more: Rows) -> DataEvidence:
    return DataEvidence(Rows(train[1], train[0]), n_classes, **more)


def test_correct_labels_pass_even_when_sorted() -> None:
    texts, labels = reviews(1200)
    order = np.argsort(labels)
    assert rules.labels_unrelated(data((texts, labels))) is None
    assert rules.labels_unrelated(data(([texts[row] for row in order], labels[order]))) is None


def test_shuffled_labels_are_a_warning_only_with_many_rows() -> None:
    texts, labels = reviews(1200)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert rules.labels_unrelated(data((texts, shuffled))).severity is None
    assert rules.labels_unrelated.severity == "warning"
    with pytest.raises(CannotTell):
        rules.labels_unrelated(data((texts[:300], shuffled[:300])))
    with pytest.raises(CannotTell):
        rules.labels_unrelated(data((texts[:40], labels[:40])))


@pytest.mark.parametrize(("shift", "side"), [(1, "after"), (-1, "before")])
def test_labels_shifted_by_one_row_are_an_error(shift: int, side: str) -> None:
    texts, labels = reviews(600)
    found = rules.labels_unrelated(data((texts, np.roll(labels, shift))))
    assert found.severity == "error"
    assert f"row {side}" in found.observed


@pytest.mark.parametrize(("n_classes", "order"), [(2, [1, 0]), (3, [1, 2, 0]), (3, [2, 1, 0])])
def test_swapped_classes_of_a_split_are_an_error(n_classes: int, order: list[int]) -> None:
    train, (texts, labels) = reviews(1500, 0, n_classes), reviews(400, 1, n_classes)
    assert rules.labels_swapped(data(train, n_classes, test=Rows(np.array(order)[labels], texts)))
    assert rules.labels_swapped(data(train, n_classes, test=Rows(labels, texts))) is None


def test_another_domain_is_not_a_swap() -> None:
    texts, labels = reviews(400, 1)
    for seed in range(5):
        unrelated = Rows(np.random.default_rng(seed).permutation(labels), texts)
        assert rules.labels_swapped(data(reviews(1000), validation=unrelated)) is None


def test_a_swap_needs_a_working_baseline_and_enough_rows() -> None:
    texts, labels = reviews(600)
    split = Rows(1 - labels[:20], texts[:20])
    with pytest.raises(CannotTell):
        rules.labels_swapped(data((texts, labels), test=split))
    with pytest.raises(CannotTell):
        rules.labels_swapped(data((texts, np.random.default_rng(0).permutation(labels)), test=Rows(1 - labels, texts)))


def test_a_word_that_reveals_the_label_is_reported() -> None:
    texts, labels = reviews(300)
    leaking = [f"{text} label:{label}" for text, label in zip(texts, labels, strict=True)]
    assert "'label:" in rules.word_reveals_label(data((leaking, labels))).observed
    assert rules.word_reveals_label(data((texts, labels))) is None


def test_stars_that_reveal_the_label_are_reported() -> None:
    """No single form is in all texts of a class, but all of one have at least four stars."""
    texts, labels = reviews(300)
    forms = {1: ("★★★★★", "★★★★☆"), 0: ("★☆☆☆☆", "★★☆☆☆", "★★★☆☆")}
    leaking = [f"{forms[k][n % len(forms[k])]} {text}" for n, (text, k) in enumerate(zip(texts, labels, strict=True))]
    assert re.match("'(★★★★|☆☆)' alone predicts", rules.word_reveals_label(data((leaking, labels))).observed)
    some = [f"{forms[1][0]} {text}" if n % 3 else text for n, text in enumerate(texts)]
    assert rules.word_reveals_label(data((some, labels))) is None


def test_a_rating_in_some_texts_passes_and_few_rows_are_not_judged() -> None:
    texts, labels = reviews(300)
    rated = [
        f"{text} 10/10" if label and row % 3 else text
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    assert rules.word_reveals_label(data((rated, labels))) is None
    with pytest.raises(CannotTell):
        rules.word_reveals_label(data((["great", "awful"] * 20, np.array([1, 0] * 20))))


@pytest.mark.parametrize("form", ["__label__{} {}", "{}: {}", "[{}] {}", "{}\t{}"])
def test_a_label_before_or_after_its_texts_is_reported_even_in_few_rows(form: str) -> None:
    texts, labels = reviews(40)
    names = ("negative", "Positive")
    marked = [form.format(names[label], text) for text, label in zip(texts, labels, strict=True)]
    after = [" ".join([text, names[label].lower()]) for text, label in zip(texts, labels, strict=True)]
    numbered = [form.format(label, text) for text, label in zip(texts, labels, strict=True)]
    for given, of in ((marked, names), (after, names), (numbered, None)):
        found = rules.word_reveals_label(DataEvidence(Rows(labels, given), 2, class_names=of))
        assert "20 of 20 texts of class 0" in found.observed


def test_a_label_in_some_texts_or_in_those_of_all_classes_passes() -> None:
    texts, labels = reviews(200)
    some = [f"positive: {text}" if row % 4 == 0 else text for row, text in enumerate(texts)]
    every = [f"positive: {text}" for text in texts]
    for given in (some, every):
        assert (
            rules.word_reveals_label(DataEvidence(Rows(labels, given), 2, class_names=("negative", "positive"))) is None
        )
