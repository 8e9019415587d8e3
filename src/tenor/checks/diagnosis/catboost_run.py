"""`catboost_info/`: `learn_error.tsv` and `test_error.tsv`, a row per tree; the test is the `eval_set` of `fit`."""

from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history import History, Series, history_evidence
from tenor.checks.diagnosis.history_files import histories_in
from tenor.errors import UserError

SPLITS = {"learn_error.tsv": "train", "test_error.tsv": "val"}
FURTHER = ("catboost_training.json", "time_left.tsv", "learn", "test")
"""The same metrics again, and times."""
BINARY = "Logloss"


def is_catboost_folder(path: Path) -> bool:
    return (path / next(iter(SPLITS))).is_file()


def is_catboost_file(path: Path) -> bool:
    return path.name in SPLITS and path.is_file()


def read_catboost_folder(path: Path) -> list[Artifacts]:
    """The metrics of both splits as those of one run. Raises UserError if none of them is known."""
    files = [path / name for name in SPLITS if (path / name).is_file()]
    series: dict[str, Series] = {}
    for file in files:
        (history,) = histories_in(file)[0].values()
        series |= {f"{SPLITS[file.name]}/{name}": values for name, values in history.series.items()}
    is_binary = any(name.endswith(f"/{BINARY}") for name in series)
    # A tree is no optimizer step: the rules on few steps do not apply.
    evidence = history_evidence(History(series, numbered=True), 2 if is_binary else None)
    if not evidence:
        raise UserError(
            f"{path}: CatBoost's metrics {', '.join(series) or '(none)'}, of which none is known. Expected Logloss, "
            f"MultiClass or Accuracy: CatBoostClassifier(custom_metric=['Accuracy']), and fit with an eval_set."
        )
    return [Artifacts("a training of CatBoost", evidence, files=(*files, *(path / name for name in FURTHER)))]


def read_catboost_file(path: Path) -> list[Artifacts]:
    """The run of a file: the losses of one split alone show little."""
    return read_catboost_folder(path.parent)
