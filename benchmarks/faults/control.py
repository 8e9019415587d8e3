"""A control: a healthy program, made awkward on purpose; whatever is found in it is a false alarm."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

AnyProgram = Any


@dataclass(frozen=True)
class Control:
    """A healthy change to a healthy program."""

    change: Callable[[AnyProgram], AnyProgram]

    @property
    def name(self) -> str:
        return self.change.__name__

    @property
    def for_trainer(self) -> bool:
        return self.name.startswith("trainer_")


def control(change: Callable[[AnyProgram], AnyProgram]) -> Control:
    return Control(change)


def controls_of(module: dict[str, Any]) -> tuple[Control, ...]:
    """Those that a module defines, in its order."""
    return tuple(value for value in module.values() if isinstance(value, Control))
