"""A list that keeps nothing alive: what a program deletes must be freed as without being watched."""

import weakref
from collections.abc import Iterator
from typing import Any


class WeakList:
    """Objects in the order in which they were first added, each once, those that still exist."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []

    def add(self, value: Any) -> None:
        self._references = [one for one in self._references if one() is not None]
        if not any(one() is value for one in self._references):
            self._references.append(weakref.ref(value))

    def __iter__(self) -> Iterator[Any]:
        return iter([value for one in self._references if (value := one()) is not None])
