"""Evaluated rows that were in training: judged by their share and length; healthy repetition is a note."""

import re
from html import escape
from unicodedata import normalize

import numpy as np
import pytest

from tenor.checks.evidence.data_evidence import OverlapEvidence
from tenor.checks.rules.evl_rows import evaluated_rows_in_training
from tenor.checks.rules.shared import text_keys
from tenor.data.dataset import LabelledText


def long_texts(n: int, start: int = 0) -> list[str]:
    return [f"review number {k} of a film that has many scenes" for k in range(start, start + n)]


def short_texts(n: int) -> list[str]:
    return [f"great film {k}" for k in range(n)]


def overlap(texts: list[str], in_train: int = 0, in_validation: int = 0, split: str = "test") -> OverlapEvidence:
    """The first `in_train` texts are training texts, the next `in_validation` ones validation texts."""
    rows = np.arange(len(texts))
    return OverlapEvidence(split, texts, rows < in_train, (rows >= in_train) & (rows < in_train + in_validation))


def severity(evidence: OverlapEvidence) -> str | None:
    found = evaluated_rows_in_training(evidence)
    return None if found is None else found.severity


def test_rows_not_in_training_pass() -> None:
    assert severity(overlap(long_texts(100))) is None


@pytest.mark.parametrize(("shared", "expected"), [(1, "warning"), (4, "warning"), (5, "error"), (100, "error")])
def test_the_share_of_training_rows_decides(shared: int, expected: str) -> None:
    found = evaluated_rows_in_training(overlap(long_texts(100), shared))
    assert found is not None
    assert (found.severity, found.n) == (expected, 100)
    assert f"{shared:,} of 100 test rows" in found.observed


def test_few_rows_are_judged_by_their_share_too() -> None:
    assert severity(overlap(long_texts(4), 4)) == "error"


def test_shared_short_texts_are_a_note() -> None:
    assert severity(overlap([*short_texts(30), *long_texts(70)], 30)) == "note"
    assert severity(overlap(["great film"] * 60 + long_texts(40), 60)) == "note", "one text, however often"


def test_shared_short_texts_are_an_error_if_they_are_half_of_the_rows() -> None:
    assert severity(overlap(short_texts(40), 20)) == "error"
    assert severity(overlap(short_texts(40), 19)) == "note"
    assert severity(overlap(short_texts(9), 9)) == "note", "nine stock phrases"


def test_validation_rows_are_a_warning() -> None:
    assert severity(overlap(long_texts(100), 0, 100)) == "warning"
    assert severity(overlap(long_texts(100), 0, 1)) == "warning"
    assert severity(overlap(short_texts(40), 0, 40)) == "warning"
    assert severity(overlap([*short_texts(10), *long_texts(90)], 0, 10)) == "note"
    found = evaluated_rows_in_training(overlap(long_texts(100), 3, 7))
    assert found is not None
    assert found.observed == "3 of 100 test rows are training texts, 7 more are validation texts"


def test_validation_rows_are_expected_in_a_validation_split() -> None:
    assert severity(overlap(long_texts(100), 0, 100, "validation")) is None
    assert severity(overlap(long_texts(100), 3, 97, "validation")) == "warning"


def test_a_text_that_was_copied_through_other_programs_has_the_same_key(real_reviews: LabelledText) -> None:
    texts = list(real_reviews.texts)
    keys = text_keys(texts)
    assert len(set(keys.tolist())) == len(texts)
    copies = {
        "other line ends": [text.replace(" ", "\r\n", 1) for text in texts],
        "blanks around": [f" \t{text}\u00a0\n" for text in texts],
        "in capitals": [text.upper() for text in texts],
        "decomposed": [normalize("NFD", text) for text in texts],
        "quoted": [f"“{text}”" for text in texts],
        "other quotes": [text.replace('"', "''").replace("'", "’") for text in texts],
        "in tags": [f"<p class='review'>{text}</p><br/>" for text in texts],
        "with entities": [escape(text) for text in texts],
        "without tags": [text.replace("<br />", " ") for text in texts],
        "without punctuation": [re.sub(r"(?<!\d)[.,!?-](?!\d)", " ", text) for text in texts],
    }
    for name, copied in copies.items():
        assert (text_keys(copied) == keys).all(), name
    assert not (text_keys([text + " indeed" for text in texts]) == keys).any()


def test_punctuation_that_is_the_opinion_makes_another_text() -> None:
    for different in (
        ["fine :)", "fine :("],
        ["3.5", "35"],
        ["A+", "A"],
        ["👍", "👎"],
        ["...", "!"],
        ["i <3 it", "i it"],
    ):
        assert len(set(text_keys(different).tolist())) == 2, different
    assert text_keys(["", " \n", "<br />", "&nbsp;"]).tolist() == [0, 0, 0, 0]
