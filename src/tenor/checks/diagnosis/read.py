"""Which reader a path is for."""

from collections.abc import Mapping
from pathlib import Path

from tenor.checks.diagnosis.evaluation_json import is_evaluation, read_evaluation
from tenor.checks.diagnosis.event_files import event_folders, read_event_folders
from tenor.checks.diagnosis.material import ACCEPTED, FINDINGS, Material, parse_reports, read_any_json
from tenor.checks.diagnosis.predictions_file import (
    has_prediction_columns,
    predictions_material,
    read_predictions_file,
)
from tenor.checks.diagnosis.sheet import SUFFIXES, sheet_of_records
from tenor.checks.diagnosis.summary_json import read_summary, runs_of
from tenor.checks.diagnosis.tenor_run import is_tenor_run, read_tenor_run
from tenor.checks.diagnosis.trainer_folder import is_trainer_folder, read_trainer_folder, read_trainer_state
from tenor.errors import UserError
from tenor.runs.summary import FILE_NAME

SHOWN = 8


def read_material(path: Path) -> list[Material]:
    """Every run that can be read from a path. Raises UserError, with what is accepted, where there is none."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: does not exist. Give {ACCEPTED}.")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return read_predictions_file(path)
    if "tfevents" in path.name:
        return read_event_folders(path.parent)
    if suffix == ".json":
        return _read_json(path)
    raise UserError(f"{path}: is a kind of file that is not known ({suffix or 'no suffix'}). Give {ACCEPTED}.")


def _read_folder(path: Path) -> list[Material]:
    if is_tenor_run(path):
        return read_tenor_run(path)
    if is_trainer_folder(path):
        return read_trainer_folder(path)
    if (path / FILE_NAME).is_file():
        return _read_json(path / FILE_NAME)
    if (path / FINDINGS).is_file():
        return _read_json(path / FINDINGS)
    if event_folders(path):
        return read_event_folders(path)
    names = sorted(one.name for one in path.iterdir())
    held = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "") if names else "nothing"
    raise UserError(f"{path}: is a folder that is not understood; it holds {held}. Give {ACCEPTED}, or one file.")


def _read_json(path: Path) -> list[Material]:
    found = read_any_json(path)
    if isinstance(found, Mapping) and "log_history" in found:
        return read_trainer_state(found, path)
    if isinstance(found, Mapping) and isinstance(found.get("occasions"), list):
        return [Material("findings of a run", (), earlier=parse_reports(found, path))]
    if runs_of(found):
        return read_summary(found, path)
    is_records = isinstance(found, list) and bool(found) and all(isinstance(one, Mapping) for one in found)
    if is_records and has_prediction_columns(list(found[0])):
        return predictions_material(sheet_of_records(path, found))
    if is_evaluation(found):
        return read_evaluation(found, path)
    if isinstance(found, Mapping):
        what = f"an object with the keys {', '.join(map(str, list(found)[:SHOWN])) or '(none)'}"
    else:
        what = f"a list of {len(found)} values" if isinstance(found, list) else f"the value {str(found)[:40]}"
    raise UserError(f"{path}: holds {what}, which is not understood. Give {ACCEPTED}.")
