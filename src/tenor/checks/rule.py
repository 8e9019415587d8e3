"""What makes a function a rule: everything that is known about it stands in its decorator and its docstring."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import FunctionType
from typing import Any, Literal

from tenor.runs.findings import Finding, Severity

Judge = Callable[..., Finding | None]


@dataclass(frozen=True)
class Rule:
    """A function from evidence to a finding, or None where all is well.

    Its docstring is the rule's documentation: a title line, then the sections *Measures*, *Threshold*, *Why*,
    *Look-alikes*, *Fix* and *Reference*.
    """

    code: str
    severity: Severity
    judge: Judge
    needs: tuple[Any, ...]
    """The kinds of evidence that it takes, in the order of its parameters."""
    symptoms: tuple[str, ...] = ()
    """Names for what it reports. Every rule that `explains` one of them reports a cause of it."""
    explains: tuple[str, ...] = ()
    """Symptoms that follow from what it reports."""
    says_why: bool = True
    """False: the rule reports an effect, and is never a cause itself."""
    one_class: Literal["", "usually", "always"] = ""
    """How often the fault ends in a model that predicts one class, for ranking suspects."""
    training_loss: Literal["", "low", "high", "fell"] = ""
    """What the fault does to the training loss, for ranking suspects: near 0, no fall, or a fall that the result
    does not show."""
    is_exact: bool = False
    """Whether it reports an exact invariant, which is ranked before other findings of the same severity."""
    only_through: str = ""
    """Code of another rule: the fault does harm only if that rule has a finding, too."""
    settled_by: str = ""
    """What would prove or refute the fault; by default the evidence that the rule needs."""
    setting: Mapping[str, Any] | None = None
    """Settings of a configuration, by dotted key, that fix the fault: `tenor diagnose --confirm` trains with them."""

    @property
    def title(self) -> str:
        """The first line of the documentation."""
        return self.doc.splitlines()[0]

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.judge.__doc__ or "")

    @property
    def fix(self) -> str:
        """The section *Fix* of the documentation, in one line."""
        section = re.search(r"^Fix:(.*?)(?=^\w[\w-]*:|\Z)", self.doc, re.MULTILINE | re.DOTALL)
        return " ".join(section[1].split()) if section else ""

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The fields of the evidence that the rule and its helpers read."""
        known = {field.name for kind in self.needs for field in fields(kind)}
        return tuple(dict.fromkeys(name for name in _names(self.judge, set()) if name in known))

    def __call__(self, *evidence: Any) -> Finding | None:
        return self.judge(*evidence)


def rule(code: str, severity: Severity, **facts: Any) -> Callable[[Judge], Rule]:
    """Make a rule of a function whose parameters are annotated with kinds of evidence.

    `facts` are the optional fields of `Rule`, such as `explains=("bad result",)`.
    """

    def decorate(judge: Judge) -> Rule:
        hints = typing.get_type_hints(judge)
        needs = tuple(hints[name] for name in inspect.signature(judge).parameters)
        return Rule(code, severity, judge, needs, **facts)

    return decorate


def _names(function: Any, seen: set[Any]) -> Iterator[str]:
    """Names that a function uses, and those of the functions of its own package that it calls."""
    code = function.__code__
    if code in seen:
        return
    seen.add(code)
    yield from code.co_names
    for constant in code.co_consts:  # Comprehensions and inner functions.
        if inspect.iscode(constant):
            yield from constant.co_names
    package = function.__module__.rpartition(".")[0]
    for name in code.co_names:
        called = function.__globals__.get(name)
        if isinstance(called, FunctionType) and called.__module__.startswith(package):
            yield from _names(called, seen)
