"""`tenor diagnose --confirm`: a short rerun with the suspected fault mended shows whether the symptom goes."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.dataset import Absent, LabelledText, SourceData
from tenor.data.sources import read_source
from tenor.errors import RefusedError, UserError
from tenor.model.classifier import RANDOM
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json
from tenor.workflows.train import train

ROWS = 1000
"""Training rows of a rerun: enough to learn from, few enough for minutes."""

EPOCHS, EPOCHS_FROM_RANDOM = 2, 8
"""Passes of a rerun: random weights need more of them before they predict anything."""

VALIDATION_ROWS = 200
"""Rows that a rerun is judged on; of few rows a quarter."""

TEST_ROWS = 20
"""Test rows of a rerun: it is judged on the validation rows, so a handful is enough."""

MENDS: Mapping[str, Mapping[str, Any]] = {
    "DAT001": {"data": {"subset": {"strategy": "stratified"}}},
    "DAT002": {"data": {"subset": {"strategy": "stratified"}}},
    "DAT020": {"data": {"validation": {"strategy": "stratified"}}},
    "FRZ001": {"model": {"keep_trainable": ()}},
    "FRZ003": {"model": {"freeze": "none"}},
    "OPT005": {"training": {"learning_rate": 8e-5, "head_learning_rate": 1e-3}},
    "OPT006": {"training": {"learning_rate": 8e-5, "head_learning_rate": 1e-3}},
    "OPT007": {"training": {"learning_rate": 8e-5, "head_learning_rate": 1e-3}},
    "PRC001": {"training": {"precision": "auto"}},
    "TOK009": {"data": {"truncation": "head_tail"}},
}
"""What to change in a Tenor configuration, by the code of the cause."""


@dataclass(frozen=True)
class Confirmation:
    """The same short training twice: as it was, and with one fault mended."""

    code: str
    change: str
    codes_before: tuple[str, ...]
    """Errors of the rerun as it was."""
    codes_after: tuple[str, ...]
    accuracy_before: float
    accuracy_after: float
    predicted_classes_before: int
    """Classes that were ever predicted on the validation rows."""
    predicted_classes_after: int

    @property
    def confirmed(self) -> bool:
        """Whether the symptoms, which are errors on results, are there with the fault and gone without it."""
        symptoms = {code for code in self.codes_before if code.startswith("EVL")}
        return bool(symptoms) and not symptoms & set(self.codes_after)


def confirm(run: RunDirectory, code: str, root: Path, console: Console) -> Confirmation:
    """Train twice on few rows, below `root`: as the run was configured, and with the cause `code` mended.

    Raises:
        UserError: a cause that no change of the configuration mends.
    """
    if code not in MENDS:
        raise UserError(f"{code} is mended outside the configuration, so no rerun can confirm it; `tenor rule {code}`")
    config = load_config(run.config)
    short = _shortened(config, read_source(config.data))
    mended = _changed(short, MENDS[code])
    before = _outcome(short, root, console)
    gc.collect()  # As between experiments: the first model's memory.
    after = _outcome(mended, root, console)
    return Confirmation(code, _described(MENDS[code]), before[0], after[0], before[1], after[1], before[2], after[2])


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
        "evaluation": {"text_baseline": False},
        "checks": {"policy": "warn", "probe_seconds": 0.0},
    }
    return _changed(config, changes)


def _count(split: LabelledText | Absent) -> int:
    return 0 if isinstance(split, Absent) else len(split)


def _changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with nested values replaced, validated anew."""
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
    """Codes of all errors, validation accuracy, and how many classes were predicted."""
    try:
        result = train(config, root, console)
    except RefusedError as refused:
        raise UserError(f"the rerun was refused although its policy is to warn: {refused}") from refused
    occasions = read_json(result.run.findings)["occasions"]
    codes = {f["code"] for occasion in occasions for f in occasion["findings"] if f["severity"] == "error"}
    metrics = result.results["validation"].metrics
    predicted = sum(any(row[k] for row in metrics.confusion) for k in range(len(metrics.confusion)))
    return tuple(sorted(codes)), metrics.accuracy, predicted


def _described(change: Mapping[str, Any], prefix: str = "") -> str:
    parts = [
        _described(value, f"{prefix}{name}.") if isinstance(value, Mapping) else f"{prefix}{name}={value}"
        for name, value in change.items()
    ]
    return " ".join(parts)


def confirmation_text(found: Confirmation) -> str:
    """What the two reruns showed, for people."""
    verdict = "confirmed: the symptom goes" if found.confirmed else "not confirmed: the symptom stays"
    return (
        f"\n{found.code}, {verdict} with {found.change}\n"
        f"  as it was: accuracy {found.accuracy_before:.1%}, {found.predicted_classes_before} classes predicted, "
        f"errors {', '.join(found.codes_before) or 'none'}\n"
        f"  mended:    accuracy {found.accuracy_after:.1%}, {found.predicted_classes_after} classes predicted, "
        f"errors {', '.join(found.codes_after) or 'none'}"
    )
