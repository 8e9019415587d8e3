"""The cases: programs and folders with faults that others reported, and healthy programs in the style of others."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = ("run.sh", "make.py", "train.py")
"""What starts a case: the first of these that its folder contains."""


@dataclass(frozen=True)
class Case:
    """One folder below `programs/` or `healthy/`."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def report(self) -> dict[str, Any]:
        """What its author wrote about it: source, title, kind, symptom, cause, group."""
        return tomllib.loads((self.folder / "report.toml").read_text(encoding="utf-8"))

    @property
    def kind(self) -> str:
        """program, folder or healthy."""
        return str(self.report["kind"])

    @property
    def script(self) -> str:
        return next(name for name in SCRIPTS if (self.folder / name).exists())


@dataclass(frozen=True)
class Expected:
    """Codes of the rules that state the cause of a case, and of others that report what it does."""

    causes: tuple[str, ...]
    signs: tuple[str, ...]


def all_cases() -> list[Case]:
    """Faulty ones first, by name."""
    return [Case(folder) for part in ("programs", "healthy") for folder in sorted((HERE / part).iterdir())]


def expectations(with_later_rules: bool = False) -> dict[str, Expected]:
    """What a diagnosis of each faulty case has to say; rules written after the first run only if asked for."""
    table = tomllib.loads((HERE / "expected.toml").read_text(encoding="utf-8"))
    later = tomllib.loads((HERE / "later_rules.toml").read_text(encoding="utf-8")) if with_later_rules else {}
    return {name: Expected((*one["causes"], *later.get(name, ())), tuple(one["signs"])) for name, one in table.items()}
