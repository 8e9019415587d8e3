"""What makes a function a rule: its code, its weight, and the evidence that its parameters name."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenor.checks.finding import Observation, Severity

Judge = Callable[..., Observation | None]


@dataclass(frozen=True)
class Rule:
    """A function from evidence to an observation, or None where all is well.

    Its docstring is the rule's documentation: a title line, then the sections *Measures*, *Threshold*, *Why*,
    *Look-alikes*, *Mend* and *Reference*.
    """

    code: str
    severity: Severity
    judge: Judge
    explained_by: tuple[str, ...]
    """Codes whose findings are causes of which this one is a symptom."""
    needs: tuple[Any, ...]
    """The kinds of evidence that it takes, in the order of its parameters."""

    @property
    def title(self) -> str:
        """The first line of the documentation."""
        return self.doc.splitlines()[0]

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.judge.__doc__ or "")

    def __call__(self, *evidence: Any) -> Observation | None:
        return self.judge(*evidence)


def rule(code: str, severity: Severity, explained_by: tuple[str, ...] = ()) -> Callable[[Judge], Rule]:
    """Make a rule of a function whose parameters are annotated with kinds of evidence."""

    def decorate(judge: Judge) -> Rule:
        hints = typing.get_type_hints(judge)
        needs = tuple(hints[name] for name in inspect.signature(judge).parameters)
        return Rule(code, severity, judge, explained_by, needs)

    return decorate
