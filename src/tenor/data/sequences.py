"""Reads sequences of any kind by position: lists, pandas, Arrow, NumPy, PyTorch, datasets, iterators.

In pandas `series[0]` is a label, which after a sort is another row and after a filter may not exist; Arrow returns its
own scalars; an iterator has neither length nor positions. Public functions convert their arguments with these first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa

from tenor.errors import UserError

SHOWN_COLUMNS = 10


def list_of(values: Iterable[Any], name: str) -> list[Any]:
    """The values in their order, as plain Python objects; an iterator is consumed. `name` is for messages.

    A value that is missing in pandas or Arrow becomes None.

    Raises:
        UserError: not a sequence of values (a single string, a mapping, a set, a table, an array of another shape than
            (n,)).
    """
    _refuse(values, name)
    if (columns := _columns(values)) is not None:
        shown = ", ".join(columns[:SHOWN_COLUMNS]) + (", …" if len(columns) > SHOWN_COLUMNS else "")
        raise UserError(
            f"{name} is a {type(values).__name__} with the columns {shown}, expected a single column. Pass one of "
            f"them, such as frame[{'text' if 'text' in columns else next(iter(columns), 'text')!r}]"
        )
    shape = tuple(values.shape) if hasattr(type(values), "shape") else None  # type: ignore[attr-defined]
    if shape is not None and len(shape) != 1:
        raise UserError(f"{name} is a {type(values).__name__} of shape {shape}, expected (n,)")
    # Looked up on the class: an attribute of a Series may be one of its labels.
    for method in ("to_pylist", "tolist"):
        if (convert := getattr(type(values), method, None)) is not None:
            return _without_missing(values, convert(values))
    return list(values)


def sequence_of(values: Iterable[Any], name: str) -> Sequence[Any]:
    """The same, but lists, tuples and `Strings` are returned unchanged, so that values are read on access."""
    return values if isinstance(values, list | tuple | Strings) else list_of(values, name)


def array_of(values: Any, name: str) -> np.ndarray:
    """The values in their order, of any shape and type. An array of objects that are all numbers becomes numeric.

    Raises:
        UserError: a single value, a mapping, a set, or rows of different lengths.
    """
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values
    _refuse(values, name)
    if hasattr(type(values), "detach"):
        values = _array_of_tensor(values)
    elif not hasattr(type(values), "__array__") and not isinstance(values, list | tuple):
        values = list(values)
    try:
        array = np.asarray(values)
        numbers = np.asarray(array.tolist()) if array.dtype == object else array
    except ValueError as error:
        raise UserError(f"{name} has rows of different lengths ({error}), expected the same length for all") from error
    return numbers if numbers.dtype.kind in "biuf" else array


def _refuse(values: Any, name: str) -> None:
    if isinstance(values, str):
        raise UserError(f"{name} is a single string, expected a list of strings. Pass a list: [{str(values)[:40]!r}]")
    if isinstance(values, bytes | Mapping | set | frozenset) or not (
        isinstance(values, Iterable) or hasattr(type(values), "__getitem__")
    ):
        order = " (unordered)" if isinstance(values, set | frozenset) else ""
        raise UserError(f"{name} is {type(values).__name__} {str(values)[:40]}{order}; expected a list or an array")


def _without_missing(values: Any, converted: list[Any]) -> list[Any]:
    """Replaces pandas' missing values (NaN, NA) by None, as in Arrow."""
    is_pandas = hasattr(type(values), "isna") and not hasattr(
        type(values), "levels"
    )  # A MultiIndex does not implement it.
    missing = values.isna().tolist() if is_pandas else ()
    return (
        [None if lost else value for value, lost in zip(converted, missing, strict=True)] if any(missing) else converted
    )


def _array_of_tensor(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16.
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()


def _columns(values: Any) -> list[str] | None:
    """The column names of a table; None for anything else."""
    # In this order, because Arrow's `columns` are the values themselves.
    for attribute in ("column_names", "columns"):
        if hasattr(type(values), attribute):
            names = getattr(values, attribute)
            return [] if names is None else [str(name) for name in names]
    return None


BLOCK = 1024  # Rows that are converted to Python strings together while a column is iterated.


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """The strings of `column`, or those at `positions` in their order. A slice is a list."""

    column: pa.ChunkedArray
    positions: np.ndarray | None = None
    """int64, shape (rows,)."""

    def __len__(self) -> int:
        return len(self.column) if self.positions is None else len(self.positions)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self._read(np.arange(*index.indices(len(self))))
        row = range(len(self))[index]  # Handles negative indices, and raises IndexError.
        return self._read(np.array([row]))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self._read(np.arange(start, min(start + BLOCK, len(self))))

    @cached_property
    def _chunks(self) -> list[pa.Array]:
        return self.column.chunks

    @cached_property
    def _starts(self) -> np.ndarray:
        """The offset of each chunk, and the end of the last one."""
        return np.cumsum([0, *map(len, self._chunks)])

    def _read(self, rows: np.ndarray) -> list[str]:
        wanted = rows if self.positions is None else self.positions[rows]
        if len(self._chunks) == 1:
            return self._chunks[0].take(pa.array(wanted)).to_pylist()
        # Row by row: Arrow's `take` would join all chunks first, and so read the whole file.
        chunk_of = np.searchsorted(self._starts, wanted, side="right") - 1
        within = wanted - self._starts[chunk_of]
        return [self._chunks[c][i].as_py() for c, i in zip(chunk_of.tolist(), within.tolist(), strict=True)]
