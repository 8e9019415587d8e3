"""Splits compared: leaks, shifts and missing classes are reported, and healthy look-alikes pass."""

import numpy as np
import pytest

from tenor.checks.catalogue import run_rules
from tenor.checks.evidence.data_evidence import CorpusEvidence, DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.rules import dat_splits as rules

WORDS = np.array([f"word{number}" for number in range(500)])


def texts(n: int, seed: int, words: int = 60) -> list[str]:
    return [" ".join(row) for row in np.random.default_rng(seed).choice(WORDS, (n, words))]


def splits(train: list[str], test: list[str]) -> DataEvidence:
    return DataEvidence(Rows(np.arange(len(train)) % 2, train), 2, test=Rows(np.arange(len(test)) % 2, test))


def counted(train: tuple[int, ...], other: tuple[int, ...], name: str = "validation") -> DataEvidence:
    rows = [Rows(np.repeat(np.arange(len(counts)), counts)) for counts in (train, other)]
    return DataEvidence(rows[0], len(train), **{name: rows[1]})


def test_disjoint_splits_pass_all_leakage_rules() -> None:
    sound = splits(texts(200, 0), texts(100, 1))
    for rule in (rules.duplicates_across_splits, rules.near_duplicates_across_splits, rules.split_repeats_training):
        assert rule(sound) is None


def test_exact_duplicates_are_counted_and_short_ones_are_a_note() -> None:
    train, test = texts(200, 0), texts(100, 1)
    found = rules.duplicates_across_splits(splits(train, [*test, *train[:3]]))
    assert (found.severity, found.observed) == ("warning", "3 texts in test and train")
    assert rules.duplicates_across_splits(splits(["fine", *train], ["fine ", *test])).severity == "note"
    assert rules.duplicates_across_splits(splits(["", *train], [" ", *test])) is None


def test_copies_that_were_changed_on_their_way_are_duplicates() -> None:
    train, test = texts(200, 0), texts(100, 1)
    copies = [train[0].upper(), f'"{train[1]}"', f"<p>{train[2]}</p>", train[3].replace(" ", "&nbsp;"), f"{train[4]}!"]
    found = rules.duplicates_across_splits(splits(train, [*test, *copies]))
    assert found.observed == "5 texts in test and train"
    assert rules.split_repeats_training(splits(train, [f"“{text}”" for text in train[50:150]]))


def test_an_edited_copy_is_a_near_duplicate() -> None:
    train, test = texts(200, 0), texts(100, 1)
    edited = [f"{text.upper()}  and that, my friends, was it!" for text in train[:5]]
    found = rules.near_duplicates_across_splits(splits(train, [*test, *edited]))
    assert found.severity == "warning"
    assert found.observed.startswith("5 of 105 test texts")
    assert rules.near_duplicates_across_splits(splits(train, [*test, *train[:5]])) is None, "exact copies are DAT011's"


def test_a_shared_passage_is_not_a_near_duplicate() -> None:
    signature = " sent with kind regards from the reviews department of our company"
    train, test = ([text + signature for text in texts(n, n)] for n in (200, 100))
    assert rules.near_duplicates_across_splits(splits(train, test)) is None
    with pytest.raises(CannotTell):
        rules.near_duplicates_across_splits(splits(["short"] * 20, ["brief"] * 20))


def test_a_test_split_of_training_rows_is_an_error() -> None:
    train = texts(200, 0)
    assert rules.split_repeats_training(splits(train, train[50:150]))
    assert rules.split_repeats_training(splits(train, [*train[:20], *texts(80, 1)])) is None
    assert rules.split_repeats_training(splits(["ok"] * 50, ["ok"] * 20)) is None


@pytest.mark.parametrize(("split", "severity"), [("test", "error"), ("train", "warning"), ("validation", None)])
def test_the_validation_split_must_select(split: str, severity: str | None) -> None:
    found = rules.selected_on_wrong_split(DataEvidence(Rows(np.array([0, 1])), 2, selected_on=split))  # type: ignore[arg-type]
    assert (found and found.severity) == severity


@pytest.mark.parametrize(
    ("train", "other", "shifted"),
    [
        ((900, 100), (500, 500), True),
        ((500, 500), (52, 48), False),
        ((5000, 5000), (1298, 1202), False),
        ((95, 5), (45, 5), False),
    ],
)
def test_different_class_proportions_are_reported(
    train: tuple[int, int], other: tuple[int, int], shifted: bool
) -> None:
    assert bool(rules.proportions_differ(counted(train, other))) == shifted


def test_proportions_of_few_rows_are_not_judged() -> None:
    with pytest.raises(CannotTell):
        rules.proportions_differ(counted((500, 500), (20, 0)))


def test_different_text_lengths_are_reported() -> None:
    assert rules.lengths_differ(splits(texts(200, 0), texts(200, 1, words=20))).severity == "warning"
    assert rules.lengths_differ(splits(texts(200, 0), texts(200, 1))) is None


@pytest.mark.parametrize(
    ("other", "name", "severity"),
    [
        ((250, 0), "validation", "error"),
        ((250, 0), "test", "warning"),
        ((4, 0), "validation", "warning"),
        ((4, 0), "test", "note"),
        ((4, 1), "validation", None),
    ],
)
def test_a_class_missing_from_a_split(other: tuple[int, int], name: str, severity: str | None) -> None:
    found = rules.class_missing_elsewhere(counted((500, 500), other, name))
    assert (found and found.severity) == severity


def test_a_class_missing_from_training_is_not_reported_for_other_splits() -> None:
    assert rules.class_missing_elsewhere(counted((500, 0), (100, 0))) is None


def corpus(own: list[str], **evaluated: list[str]) -> CorpusEvidence:
    return CorpusEvidence(own, evaluated)


def test_evaluated_texts_in_a_corpus_are_an_error() -> None:
    own, validation, test = texts(200, 0), texts(50, 1), texts(100, 2)
    assert rules.evaluated_texts_in_corpus(corpus(own, validation=validation, test=test)) is None
    found = rules.evaluated_texts_in_corpus(
        corpus([*own, *test[:3], test[0].upper()], validation=validation, test=test)
    )
    assert found.observed == "3 of 100 test texts in a corpus of 204 texts"
    (reported,) = run_rules(
        [corpus([*own, *test], test=test)], "preflight", rules=[rules.evaluated_texts_in_corpus]
    ).errors
    assert reported.code == "DAT035"


def test_short_or_blank_texts_in_a_corpus_are_a_note_or_nothing() -> None:
    own, test = texts(20, 0), texts(10, 1)
    assert (
        rules.evaluated_texts_in_corpus(corpus(["a great film", *own], test=["A great film!", *test])).severity
        == "note"
    )
    assert rules.evaluated_texts_in_corpus(corpus(["", *own], test=[" ", *test])) is None
    assert rules.evaluated_texts_in_corpus(corpus(own)) is None
