"""What makes a function an injector: where its fault should be found, and which codes name it rightly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Stage = Literal["preflight", "training", "diagnosis"]
STAGES: tuple[Stage, ...] = ("preflight", "training", "diagnosis")


@dataclass(frozen=True)
class Fault:
    """One small change to a healthy program."""

    inject: Callable[[Any], Any]
    """Takes a healthy program of its kind, gives the faulty one."""
    stage: Stage
    """By when it should be found, declared beforehand."""
    causes: tuple[str, ...]
    """Codes of rules that name it; one of them should be ranked first."""
    in_program: tuple[str, ...] = ()
    """Codes of later rules that name it from the program as it is: without the intentions and records that the bench's
    own checks are given, and for what only hooks see. Only `faults.watched_score` counts them."""
    signs: tuple[str, ...] = ()
    """Codes that tell of it without naming it: where nothing that is left can show it, its cause is a suspect."""

    @property
    def name(self) -> str:
        return self.inject.__name__

    @property
    def words(self) -> str:
        return (self.inject.__doc__ or "").splitlines()[0]


def fault(
    stage: Stage, *causes: str, in_program: tuple[str, ...] = (), signs: tuple[str, ...] = ()
) -> Callable[[Callable[[Any], Any]], Fault]:
    return lambda inject: Fault(inject, stage, causes, in_program, signs)


def faults_of(module: dict[str, Any]) -> tuple[Fault, ...]:
    """Those that a module defines, in its order."""
    return tuple(value for value in module.values() if isinstance(value, Fault))
