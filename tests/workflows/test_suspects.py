"""One row of each group of similar texts is kept, whatever their labels and probabilities."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tenor.checks.rules.near_duplicates import groups_within
from tenor.workflows.audit import EXCLUDE_BELOW, suspects
from tiny_rows import labelled


def _family(name: str) -> tuple[str, str, str]:
    """A text, the same with two words changed, and that with two more changed: similar at least through the second."""
    base = [f"{name}{number:03}" for number in range(60)]
    once = ["other", "words", *base[2:]]
    return " ".join(base), " ".join(once), " ".join([*once[:-2], "at", "last"])


TEXTS = [(family, text) for family, name in enumerate(("alpha", "beta", "gamma")) for text in _family(name)]
ROW = st.tuples(st.sampled_from(TEXTS), st.integers(0, 1), st.floats(0, 1))


@given(st.lists(ROW, min_size=2, max_size=14))
def test_each_group_keeps_the_row_with_the_most_probable_label(
    drawn: list[tuple[tuple[int, str], int, float]],
) -> None:
    rows = labelled([text for (_, text), _, _ in drawn], [label for _, label, _ in drawn])
    positive = np.array([share for _, _, share in drawn])
    probabilities = np.stack([1 - positive, positive], axis=1)
    of_label = probabilities[np.arange(len(drawn)), rows.labels]
    errors = np.flatnonzero(of_label < 0.5)
    out = {int(one.id) - 1 for one in suspects(rows, probabilities, errors) if one.exclude}
    for family in {family for (family, _), _, _ in drawn}:
        alike = [row for row, ((of, _), _, _) in enumerate(drawn) if of == family]
        kept = [row for row in alike if row not in out]
        best = max(of_label[row] for row in alike)
        if best < EXCLUDE_BELOW and len({rows.labels[row] for row in alike}) == 1:
            assert kept == [], "all have the same label, and it is improbable"
        else:
            assert [of_label[row] for row in kept] == [best]


@given(st.lists(st.sampled_from(TEXTS), max_size=14))
def test_groups_are_sets_of_equal_texts(drawn: list[tuple[int, str]]) -> None:
    families = [[row for row, (of, _) in enumerate(drawn) if of == family] for family in range(3)]
    expected = sorted(tuple(rows) for rows in families if len(rows) > 1)
    assert sorted(groups_within([text for _, text in drawn])) == expected


def test_a_text_three_times_with_two_labels_stays_once() -> None:
    rows = labelled(["one and the same long text"] * 3, [0, 1, 0])
    probabilities = np.array([[0.02, 0.98], [0.97, 0.03], [0.04, 0.96]])
    found = {one.id: one for one in suspects(rows, probabilities, np.array([0, 1, 2]))}
    assert [found[row].exclude for row in ("1", "2", "3")] == [True, True, False]
    assert found["3"].reason == "label has probability 0.0400, the highest of its duplicates"
    assert "which has label negative" in found["2"].reason


def test_texts_under_five_words_are_listed_and_kept() -> None:
    rows = labelled(["great film", "great film", "great film in five words", "great film in five words"], [1, 1, 1, 1])
    found = suspects(rows, np.array([[0.3, 0.7], [0.2, 0.8]] * 2), np.array([], dtype=np.int64))
    assert [(one.id, one.exclude) for one in found] == [("1", False), ("3", True)]
