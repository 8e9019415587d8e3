"""Parts are disjoint and complete, and their accuracies are those of their rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.measures.selective import accuracy_by_length, accuracy_by_truncation

rows = st.lists(st.tuples(st.booleans(), st.integers(1, 5000), st.floats(0, 1)), min_size=1, max_size=60)


@given(rows)
def test_parts_hold_every_row_once(drawn: list[tuple[bool, int, float]]) -> None:
    right, tokens = np.array([r for r, _, _ in drawn]), np.array([t for _, t, _ in drawn])
    cut = np.array([int(share * t) for _, t, share in drawn])
    for parts in (accuracy_by_length(right, tokens), accuracy_by_truncation(right, tokens, cut)):
        assert sum(part.n for part in parts) == len(drawn)
        assert sum(part.n * part.accuracy for part in parts) == pytest.approx(right.sum())
        assert all(part.interval.low <= part.accuracy <= part.interval.high for part in parts)
        assert len({part.name for part in parts}) == len(parts)


def test_slices_by_length_double_and_by_truncation_go_in_quarters() -> None:
    right = np.array([True, False, True, True])
    parts = accuracy_by_length(right, np.array([32, 33, 64, 65]))
    assert [(part.name, part.n, part.accuracy) for part in parts] == [
        ("up to 32", 1, 1.0),
        ("33–64", 2, 0.5),
        ("65–128", 1, 1.0),
    ]
    parts = accuracy_by_truncation(right, np.array([100, 100, 100, 100]), np.array([0, 25, 26, 76]))
    assert [(part.name, part.n) for part in parts] == [("nothing", 1), ("up to 25%", 1), ("25–50%", 1), ("over 75%", 1)]


def test_refuses_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 rows"):
        accuracy_by_length(np.array([True]), np.array([3, 4]))
