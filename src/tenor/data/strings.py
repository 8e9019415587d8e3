"""A column of strings that is read where it lies, in memory or in a mapped file, when a row is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa

BLOCK = 1024  # Rows turned into Python strings at once while a column is walked through.


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """The rows of `column`, or those at `positions` in their order. A slice of it is a list."""

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
        row = range(len(self))[index]  # Counts negative ones from the end, and raises IndexError beyond it.
        return self._read(np.array([row]))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self._read(np.arange(start, min(start + BLOCK, len(self))))

    @cached_property
    def _chunks(self) -> list[pa.Array]:
        return self.column.chunks

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where each chunk begins, and where the last one ends."""
        return np.cumsum([0, *map(len, self._chunks)])

    def _read(self, rows: np.ndarray) -> list[str]:
        wanted = rows if self.positions is None else self.positions[rows]
        if len(self._chunks) == 1:
            return self._chunks[0].take(pa.array(wanted)).to_pylist()
        # Row by row: Arrow's own `take` would first join all chunks into one, and so read the whole file.
        chunk_of = np.searchsorted(self._starts, wanted, side="right") - 1
        within = wanted - self._starts[chunk_of]
        return [self._chunks[c][i].as_py() for c, i in zip(chunk_of.tolist(), within.tolist(), strict=True)]
