"""Converts the sequences and arrays of evidence, of any type, to lists and NumPy arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tenor.data.sequences import array_of, list_of


def convert(evidence: Any, conversion: Callable[[Any, str], Any], *names: str) -> None:
    """Replace each of these fields by its converted value, unless it is None."""
    for name in names:
        if (value := getattr(evidence, name)) is not None:
            object.__setattr__(evidence, name, conversion(value, name))


def names_of(value: Any, name: str) -> tuple[str, ...]:
    return tuple(list_of(value, name))


def arrays_of(value: Any, name: str) -> tuple[np.ndarray, ...]:
    """Several arrays, one for each batch or text; of a matrix, one for each row."""
    return tuple(array_of(part, name) for part in value)
