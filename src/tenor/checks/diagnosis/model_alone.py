"""A model without a record of its training or a result: what it is, and how to get something that can be diagnosed."""

import shlex
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from tenor.checks.diagnosis.unread_files import CHECKPOINT_FOLDERS, PICKLES, REASONS, WEIGHTS
from tenor.errors import UserError
from tenor.model.foreign import KINDS, refuse_foreign_folder, refuse_other_weights

MAX_FILES = 2_000
MODELS = tuple(
    dict.fromkeys(
        (
            *(pattern for reason, patterns in REASONS if reason in (WEIGHTS, PICKLES) for pattern in patterns),
            *(f"*{suffix}" for kind in KINDS for suffix in kind.suffixes),
        )
    )
)
"""Names of files that contain a model or its weights."""
MARKS = ("config.json", "adapter_config.json", "config.cfg", "modules.json", "MLmodel")


def refuse_model_folder(path: Path) -> None:
    """Raises UserError if a folder contains a model: the way to its predictions, which can be diagnosed."""
    files = [file for pattern in ("*", "*/*") for file in islice(path.glob(pattern), MAX_FILES)]
    if not any(file.name in MARKS or _is_model(file) for file in files):
        return
    try:
        refuse_foreign_folder(str(path), path)
        refuse_other_weights(str(path), str(path))
    except UserError as error:
        raise UserError(f"{_way(path, None)} Tenor itself cannot predict with it yet: {error}") from error
    raise UserError(_way(path, path))


def refuse_model_file(path: Path) -> None:
    """Raises UserError if a file contains a model or its weights."""
    if _is_model(path):
        raise UserError(_way(path, path.parent if (path.parent / MARKS[0]).is_file() else None))


def _is_model(file: Path) -> bool:
    return any(fnmatch(file.name.lower(), pattern) for pattern in MODELS)


def _way(path: Path, model: Path | None) -> str:
    """What to diagnose instead; with the command for predictions if `model` is a folder that may be loaded."""
    is_checkpoint = any(fnmatch(path.name, pattern) for pattern in CHECKPOINT_FOLDERS)
    where = f" (often {path.resolve().parent})" if is_checkpoint else ""
    rows = (
        "a CSV file with its predictions (columns label and prediction)."
        if model is None
        else "its predictions of rows with true labels: tenor predict "
        f"{shlex.quote(str(model))} --input ROWS.csv --output predictions.csv, then tenor diagnose predictions.csv."
    )
    return (
        f"{path}: a model without a record of its training or a result, so there is nothing to diagnose. Give the "
        f"folder to which the training wrote its log{where}, or {rows}"
    )
