"""Folders of Sacred's `FileStorageObserver`: `metrics.json` with the steps and values of each metric."""

from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.history import classes_in, history_evidence
from tenor.checks.diagnosis.history_files import MAX_BYTES, history_of_steps_and_values, is_steps_and_values
from tenor.checks.diagnosis.trainer_arguments import settings_in
from tenor.errors import UserError

METRICS, CONFIG = "metrics.json", "config.json"
FURTHER = ("run.json", "cout.txt")
"""What the program printed, and about its machine: the same metrics, if any."""


def is_sacred_folder(path: Path) -> bool:
    """Whether a folder is a run with metrics; one without is read by what the program printed."""
    file = path / METRICS
    if not (path / FURTHER[0]).is_file() or not file.is_file() or file.stat().st_size > MAX_BYTES:
        return False
    try:
        return is_steps_and_values(read_any_json(file))
    except UserError:
        return True  # Its reader says what is wrong with the file.


def read_sacred_folder(path: Path) -> list[Artifacts]:
    """The metrics and the configuration of a run. Raises UserError if no metric is known."""
    metrics, settings = read_any_json(path / METRICS), settings_in(path / CONFIG)
    evidence = history_evidence(history_of_steps_and_values(metrics), classes_in(settings))
    if not evidence:
        raise UserError(
            f"{path / METRICS}: the metrics {', '.join(list(metrics)[:8])}, of which none is known. Expected a loss, "
            f"or an accuracy with val or test in its name, such as _run.log_scalar('val.accuracy', value, step)."
        )
    files = tuple(path / name for name in (METRICS, CONFIG, *FURTHER))
    return [Artifacts("a run of Sacred", evidence, settings=settings, files=files)]
