"""The same values as every kind of sequence that a user may pass, with labels that differ from positions."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


def kinds(values: Sequence[Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A name, and a function that makes the values: an iterator can be read only once."""
    values = list(values)
    n = len(values)
    # Sorted by something else: every label is at another position.
    by_label = pd.Series(values, index=np.roll(np.arange(n), 1))
    yield "sorted Series", lambda: by_label
    yield "filtered Series", lambda: pd.Series(values, index=2 * np.arange(n) + 1)
    yield "Series with a float index", lambda: pd.Series(values, index=np.roll(np.arange(n), 1).astype(float))
    # pandas looks for attributes among the labels as well.
    named = ["columns", "tolist", "ndim", *(f"row {k}" for k in range(n))][:n]
    yield "Series with names", lambda: pd.Series(values, index=named)
    yield "object Series", lambda: by_label.astype(object)
    yield "categorical Series", lambda: by_label.astype("category")
    yield "Arrow-backed Series", lambda: by_label.astype(pd.ArrowDtype(pa.array(values).type))
    yield "Index", lambda: pd.Index(values)
    yield "Arrow array", lambda: pa.array(values)
    yield "chunked Arrow array", lambda: pa.chunked_array([pa.array(values[:1]), pa.array(values[1:])])
    yield "Arrow dictionary", lambda: pa.array(values).dictionary_encode()
    yield "NumPy array", lambda: np.array(values)
    yield "NumPy objects", lambda: np.array(values, dtype=object)
    yield "NumPy scalars", lambda: list(np.array(values))
    yield "tuple", lambda: tuple(values)
    yield "generator", lambda: (value for value in values)
    yield "iterator", lambda: iter(values)
    yield "values of a dictionary", lambda: dict(enumerate(values)).values()
    yield "deque", lambda: deque(values)
    if isinstance(values[0], str):
        yield "Series of string", lambda: by_label.astype(pd.StringDtype("python"))
        yield "Series of string[pyarrow]", lambda: by_label.astype(pd.StringDtype("pyarrow"))
    else:
        yield "nullable Series", lambda: by_label.astype("Int64" if isinstance(values[0], int) else "Float64")
    if find_spec("datasets") is not None:
        yield "column of a dataset", lambda: _dataset(values)["value"]
    if find_spec("polars") is not None:
        yield "polars Series", lambda: _polars_series(values)


NAMES = [name for name, _ in kinds(["a", "b"])]
NUMBER_NAMES = [name for name, _ in kinds([1, 2])]


def made(values: Sequence[Any], name: str) -> Any:
    """The values as one of the kinds."""
    return dict(kinds(values))[name]()


def no_sequences() -> Iterator[tuple[str, Any, str]]:
    """A name, a value that is not a sequence, and words of the error about it."""
    frame = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]})
    yield "string", "film", "a single string"
    yield "NumPy string", np.str_("film"), "a single string"
    yield "bytes", b"film", "bytes"
    yield "dictionary", {"text": ["a", "b"]}, "dict"
    yield "set", {"a", "b"}, "set"
    yield "DataFrame", frame, "DataFrame with the columns text, label"
    yield "Arrow table", pa.table({"text": ["a", "b"]}), "Table with the columns text"
    yield "None", None, "None"
    yield "number", 3, "int"
    yield "matrix", np.array([["a"], ["b"]]), "shape"
    yield "array without dimensions", np.array("a"), "shape"
    if find_spec("datasets") is not None:
        yield "dataset", _dataset(["a", "b"]), "Dataset with the columns value"
    if find_spec("polars") is not None:
        import polars  # type: ignore[import-not-found]

        yield "polars DataFrame", polars.DataFrame({"text": ["a"]}), "DataFrame with the columns text"


def _dataset(values: list[Any]) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"value": values})


def _polars_series(values: list[Any]) -> Any:
    import polars

    return polars.Series(values)
