"""Texts as read: each fault at each severity, and clean texts."""

import numpy as np
import pytest

from tenor.checks.evidence import DataEvidence, Rows
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import dat_texts as rules

CLEAN = [f"a film of {number} naïve scenes, « très » déjà vu, ÂGE and NÃO" for number in range(1000)]


def data(texts: list[str], labels: np.ndarray | None = None) -> DataEvidence:
    return DataEvidence(Rows(np.arange(len(texts)) % 2 if labels is None else labels, texts), 2)


@pytest.mark.parametrize(
    ("rule", "bad", "severity"),
    [
        (rules.blank_texts, ["", " \n"], "warning"),
        (rules.blank_texts, [None], "warning"),
        (rules.blank_texts, [""] * 2000, "error"),
        (rules.one_text_dominates, ["[deleted]"] * 400, "warning"),
        (rules.one_text_dominates, ["good"] * 20, None),
        (rules.missing_written_out, ["nan", "None", " NULL"], "warning"),
        (rules.missing_written_out, ["none"], "note"),
        (rules.missing_written_out, ["none of it was good"], None),
        (rules.broken_characters, ["cafÃ© was lovely"] * 20, "warning"),
        (rules.broken_characters, ["it doesnâ€™t work"], "note"),
        (rules.broken_characters, ["caf\ufffd"], "note"),
        (rules.conflicting_labels, ["so so"] * 2, "note"),
        (rules.conflicting_labels, ["so so"] * 20, "warning"),
    ],
)
def test_faulty_texts_are_reported_among_clean_ones(rule: Rule, bad: list[str], severity: str | None) -> None:
    found = rule(data(CLEAN + bad))
    assert (found and found.severity) == severity
    assert rule(data(CLEAN)) is None


def test_a_single_repeated_text_is_an_error() -> None:
    assert rules.one_text_dominates(data(["same"] * 20)).severity == "error"


def test_the_first_of_equally_frequent_texts_is_reported() -> None:
    for texts in (["b", "a"] * 6, ["a", "b"] * 6):
        assert repr(texts[0]) in rules.one_text_dominates(data(["", *texts])).observed


def test_duplicates_with_equal_labels_and_blank_ones_do_not_conflict() -> None:
    assert rules.conflicting_labels(data(["so so", "so so", "", ""], np.array([1, 1, 0, 1]))) is None


def test_conflicts_across_splits_count() -> None:
    both = DataEvidence(Rows(np.array([0]), ["so so"]), 2, test=Rows(np.array([1]), ["so so"]))
    assert rules.conflicting_labels(both).n == 2


@pytest.mark.parametrize("texts", [None, []])
@pytest.mark.parametrize("rule", [value for value in vars(rules).values() if isinstance(value, Rule)])
def test_missing_texts_are_not_judged(rule: Rule, texts: list[str] | None) -> None:
    with pytest.raises(CannotTell):
        rule(DataEvidence(Rows(np.zeros(0, int), texts), 2))
