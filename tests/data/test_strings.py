"""A column read where it lies gives what the same rows in memory would."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.data.sequences import BLOCK, Strings

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=12)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[str], Strings]:
    """Rows in memory, and the same as a column in chunks of any size, some empty, perhaps seen through positions."""
    whole = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    column = pa.chunked_array([pa.array(chunk, pa.large_string()) for chunk in chunks], pa.large_string())
    if draw(st.booleans()):
        return whole, Strings(column)
    positions = draw(st.lists(st.integers(0, len(whole) - 1), max_size=12))
    return [whole[row] for row in positions], Strings(column, np.array(positions, dtype=np.int64))


@given(columns(), st.slices(12))
def test_a_column_reads_like_a_list(both: tuple[list[str], Strings], part: slice) -> None:
    rows, column = both
    assert len(column) == len(rows)
    assert list(column) == rows
    assert column[part] == rows[part]
    assert [column[row] for row in range(-len(rows), len(rows))] == [rows[row] for row in range(-len(rows), len(rows))]
    with pytest.raises(IndexError):
        column[len(rows)]


def test_more_rows_than_a_block() -> None:
    numbers = [str(number) for number in range(2 * BLOCK + 7)]
    column: Sequence[str] = Strings(pa.chunked_array([pa.array(numbers[:1500]), pa.array(numbers[1500:])]))
    assert list(column) == numbers
