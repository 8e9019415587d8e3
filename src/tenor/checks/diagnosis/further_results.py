"""Results that a script wrote in a form of its own next to those of a Trainer."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.evaluation_json import is_evaluation, not_numbers, splits_of
from tenor.checks.diagnosis.material import number, read_any_json
from tenor.checks.evidence import SplitClaims
from tenor.errors import UserError

NAME = re.compile(r"result|metric|eval|score", re.IGNORECASE)
OF_TRAINING = "train_results.json"
MOST_BYTES = 2**20
"""Beyond it lie predictions, not results."""


@dataclass(frozen=True)
class FurtherResults:
    """What the files say, and which of them could not be understood."""

    splits: tuple[tuple[str, str, SplitClaims], ...]
    """File, split, result."""
    not_numbers: tuple[tuple[str, tuple[str, ...]], ...]
    """File, and its metrics that are NaN or infinite."""
    notes: tuple[str, ...]


def read_further_results(folder: Path, known: Collection[str]) -> FurtherResults:
    """The JSON files of a folder that are called results, metrics, evaluation or scores, but those that are `known`."""
    splits: list[tuple[str, str, SplitClaims]] = []
    broken: list[tuple[str, tuple[str, ...]]] = []
    notes: list[str] = []
    files = sorted(file for file in folder.glob("*.json") if NAME.search(file.stem) and file.name not in known)
    for file in files:
        found = _record(file)
        if isinstance(found, str):
            notes.append(f"not read: {found}")
            continue
        broken.append((file.name, not_numbers(found)))
        if is_evaluation(found):
            splits += [(file.name, name, claims) for name, claims in splits_of(found, str(file)).items()]
        elif file.name != OF_TRAINING:
            kind = (
                "searched for NaN alone" if any(number(value) is not None for value in found.values()) else "not read"
            )
            notes.append(f"{kind}: {file.name} has no accuracy, report or confusion matrix under a usual name")
    return FurtherResults(tuple(splits), tuple(broken), tuple(notes))


def _record(file: Path) -> Mapping[str, Any] | str:
    """A file's record; else why there is none, in words."""
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return f"{file.name} is larger than results are ({MOST_BYTES:,} bytes)"
    try:
        found = read_any_json(file)
    except UserError as error:
        return str(error)
    return found if isinstance(found, Mapping) else f"{file.name} holds no record of metrics"
