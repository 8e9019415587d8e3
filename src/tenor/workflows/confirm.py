"""`tenor diagnose --confirm`: two short reruns show whether the symptoms disappear when the fault is fixed."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tenor.checks.catalogue import find_rule
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources import read_source
from tenor.errors import RefusedError, UserError
from tenor.model.classifier import RANDOM
from tenor.runs.directory import RunDirectory
from tenor.runs.missing import Missing
from tenor.workflows.train import train

ROWS = 1000
"""Training rows of a rerun: enough to learn from, few enough to finish in minutes."""

EPOCHS, EPOCHS_FROM_RANDOM = 2, 8
"""Epochs of a rerun: random weights need more of them before they predict anything."""

VALIDATION_ROWS = 200
"""Validation rows, on which a rerun is judged; at most a quarter of the rows."""

TEST_ROWS = 20
"""Test rows of a rerun: a few are enough, because it is judged on the validation rows."""


@dataclass(frozen=True)
class Confirmation:
    """The results of two short runs: as configured, and with one fault fixed."""

    code: str
    change: str
    codes_before: tuple[str, ...]
    """Errors of the rerun as configured."""
    codes_after: tuple[str, ...]
    accuracy_before: float
    accuracy_after: float
    predicted_classes_before: int
    """Number of classes among the predictions on the validation rows."""
    predicted_classes_after: int

    @property
    def confirmed(self) -> bool:
        """Whether there are symptoms (errors of evaluation rules) with the fault, and none of these without it."""
        symptoms = {code for code in self.codes_before if code.startswith("EVL")}
        return bool(symptoms) and not symptoms & set(self.codes_after)


def confirm(run: RunDirectory, code: str, root: Path, console: Console) -> Confirmation:
    """Train twice on few rows, below `root`: as configured, and with the cause `code` fixed.

    Raises:
        UserError: no setting fixes the cause.
    """
    setting = find_rule(code).setting
    if setting is None:
        raise UserError(f"no setting fixes {code}, so a rerun cannot confirm it; `tenor rule {code}` explains the fix")
    config = load_config(run.config)
    short = _shortened(config, read_source(config.data))
    fixed = _changed(short, _nested(setting))
    before = _outcome(short, root, console)
    gc.collect()  # Frees the memory of the first model.
    after = _outcome(fixed, root, console)
    return Confirmation(
        code,
        " ".join(f"{key}={value}" for key, value in setting.items()),
        before[0],
        after[0],
        before[1],
        after[1],
        before[2],
        after[2],
    )


def _shortened(config: Config, source: SourceData) -> Config:
    rows, test_rows = _count(source.train), _count(source.test)
    validation_rows = max(1, min(VALIDATION_ROWS, rows // 4))
    epochs = EPOCHS_FROM_RANDOM if config.model.name == RANDOM else EPOCHS
    changes = {
        "name": f"confirm-{config.name}"[:64],
        "data": {
            "subset": {"size": max(1, min(ROWS, rows - validation_rows))},
            "validation": {"size": validation_rows},
            "test_size": min(TEST_ROWS, test_rows) or None,
        },
        "training": {"epochs": epochs, "trackers": ()},
        "model": {"hybrid": "off"},
        "evaluation": {"text_baseline": False},
        "checks": {"policy": "warn", "probe_seconds": 0.0},
    }
    return _changed(config, changes)


def _count(split: LabelledText | Missing) -> int:
    return 0 if isinstance(split, Missing) else len(split)


def _changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with nested values replaced, validated again."""
    return Config.model_validate(_merged(config.model_dump(), changes))


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **values,
        **{
            name: _merged(values[name], change) if isinstance(change, Mapping) else change
            for name, change in changes.items()
        },
    }


def _outcome(config: Config, root: Path, console: Console) -> tuple[tuple[str, ...], float, int]:
    """Codes of all errors, validation accuracy, and the number of predicted classes."""
    try:
        result = train(config, root, console)
    except RefusedError as refused:
        raise UserError(f"the rerun was refused although its policy is warn: {refused}") from refused
    codes = {finding.code for finding in result.findings if finding.severity == "error"}
    metrics = result.results["validation"].metrics
    predicted = sum(any(row[k] for row in metrics.confusion) for k in range(len(metrics.confusion)))
    return tuple(sorted(codes)), metrics.accuracy, predicted


def _nested(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key, converted to nested mappings."""
    changes: dict[str, Any] = {}
    for key, value in setting.items():
        *parents, name = key.split(".")
        place = changes
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return changes


def confirmation_text(result: Confirmation) -> str:
    """The results of the two reruns, to print."""
    verdict = "confirmed: the symptoms disappear" if result.confirmed else "not confirmed: the symptoms remain"
    return (
        f"\n{result.code}, {verdict} with {result.change}\n"
        f"  as configured: accuracy {result.accuracy_before:.1%}, predicted classes: {result.predicted_classes_before}"
        f", errors {', '.join(result.codes_before) or 'none'}\n"
        f"  fixed:         accuracy {result.accuracy_after:.1%}, predicted classes: {result.predicted_classes_after}"
        f", errors {', '.join(result.codes_after) or 'none'}"
    )
