"""What a user gives for a sequence is read by position, once, or refused with what it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from sequences import NAMES, NUMBER_NAMES, made, no_sequences
from tenor.data import LabelledText, SourceData, from_dataframe
from tenor.data.sequences import Strings, array_of, list_of, sequence_of
from tenor.errors import UserError

TEXTS = ["dull and awful", "a waste of time", "the best ever", "a superb film"]
NUMBERS = [3, 1, 0, 2]


@pytest.mark.parametrize("kind", NAMES)
def test_texts_are_read_by_position(kind: str) -> None:
    found = list_of(made(TEXTS, kind), "texts")
    assert found == TEXTS
    assert all(isinstance(text, str) for text in found)


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_numbers_are_read_by_position(kind: str) -> None:
    found = array_of(made(NUMBERS, kind), "labels")
    assert found.tolist() == list_of(made(NUMBERS, kind), "labels") == NUMBERS
    assert found.dtype.kind == "i"


@pytest.mark.parametrize(
    ("value", "words"), [one[1:] for one in no_sequences()], ids=[one[0] for one in no_sequences()]
)
def test_what_is_no_sequence_is_named(value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        list_of(value, "texts")
    assert str(caught.value).startswith("texts is ")


@pytest.mark.parametrize("value", ["positive", b"01", {0: 1}, {0, 1}, None, 3], ids=repr)
def test_what_is_no_array_is_named(value: Any) -> None:
    with pytest.raises(UserError, match="labels is "):
        array_of(value, "labels")


def test_rows_of_different_lengths_are_no_array() -> None:
    with pytest.raises(UserError, match="labels"):
        array_of([[1, 2], [3]], "labels")


def test_missing_values_stay_missing() -> None:
    column = pd.Series(["a", None, "c"], index=[2, 0, 1], dtype=pd.ArrowDtype(pa.string()))
    assert [isinstance(value, str) for value in list_of(column, "texts")] == [True, False, True]
    assert list_of(pa.array(["a", None]), "texts") == ["a", None]


def test_arrays_of_every_shape_and_device_keep_their_values() -> None:
    matrix = np.array([[0.25, 0.75], [0.5, 0.5]])
    kinds: Sequence[Any] = [
        matrix,
        matrix.tolist(),
        pd.DataFrame(matrix, index=[1, 0]),
        pd.DataFrame(matrix, index=[1, 0]).astype(pd.ArrowDtype(pa.float64())),
        pd.Series(matrix.tolist(), index=[1, 0]),
        pa.array(matrix.tolist()),
        torch.tensor(matrix, requires_grad=True),
        torch.tensor(matrix).to(torch.bfloat16),
        (row for row in matrix),
    ]
    for kind in kinds:
        np.testing.assert_array_equal(np.asarray(array_of(kind, "probabilities"), dtype=np.float64), matrix)


def test_what_lies_in_a_file_stays_there() -> None:
    texts = Strings(pa.chunked_array([["a", "b"]]))
    assert sequence_of(texts, "texts") is texts
    with pytest.raises(UserError, match="a single string"):
        sequence_of("film", "texts")


# Labelled text.


def frame_of(texts: Any, labels: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.mark.parametrize("kind", [name for name in NAMES if "Series" in name and name != "polars Series"])
def test_a_data_frame_is_read_by_position(kind: str) -> None:
    texts = made(TEXTS, kind)
    frame = pd.DataFrame({"text": texts, "label": pd.Series(NUMBERS, index=texts.index)}, index=texts.index)
    found = from_dataframe(frame)
    assert list(found.texts) == TEXTS
    assert found.labels.tolist() == NUMBERS
    ordered = from_dataframe(frame.sort_values("label"))
    assert list(ordered.texts) == [TEXTS[NUMBERS.index(label)] for label in range(4)]
    assert ordered.labels.tolist() == [0, 1, 2, 3]
    kept = from_dataframe(frame[frame["label"] < 2])
    assert list(kept.texts) == [TEXTS[1], TEXTS[2]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": ["a"], "label": [0]}, "dict.*pandas.DataFrame"),
        ([{"text": "a", "label": 0}], "list.*pandas.DataFrame"),
        ("reviews.csv", "str.*pandas.DataFrame"),
        (None, "NoneType"),
        (pd.Series(["a"]), "Series"),
        (pa.table({"text": ["a"], "label": [0]}), "Table.*to_pandas"),
    ],
)
def test_what_is_no_data_frame_is_named(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_dataframe(given)


def test_class_names_are_several() -> None:
    frame = frame_of(["a", "b"], ["p", "n"])
    with pytest.raises(UserError, match="class_names is a single string"):
        from_dataframe(frame, class_names="np")  # type: ignore[arg-type]
    given: Any = pd.Series(["p", "n"], index=[1, 0])
    assert from_dataframe(frame, class_names=given).class_names == ("p", "n")


@pytest.mark.parametrize("kind", NUMBER_NAMES)
def test_rows_are_selected_by_position(kind: str) -> None:
    rows = from_dataframe(frame_of(TEXTS, [0, 1, 0, 1]))
    assert list(rows.select(made(NUMBERS, kind)).texts) == [TEXTS[at] for at in NUMBERS]
    again = LabelledText(rows.table, rows.class_names, "here", made(NUMBERS, kind))
    assert list(again.select([1, 3]).texts) == [TEXTS[1], TEXTS[2]]
    assert again.labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("chosen", [[True, False, True, False], pd.Series([True, False, True, False]), [0.0, 1.5]])
def test_what_is_no_position_is_refused(chosen: Any) -> None:
    rows = from_dataframe(frame_of(TEXTS, [0, 1, 0, 1]))
    with pytest.raises(UserError, match="positions"):
        rows.select(chosen)


def test_a_source_takes_no_frame() -> None:
    frame: Any = frame_of(TEXTS, [0, 1, 0, 1])
    with pytest.raises(UserError, match="from_dataframe"):
        SourceData(frame, frame)
