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
    """Raises UserError if a folder contains a model: the way to a diagnosis, and first to predictions if needed."""
    files = [file for pattern in ("*", "*/*") for file in islice(path.glob(pattern), MAX_FILES)]
    if not any(file.name in MARKS or _is_model(file) for file in files):
        return
    try:
        refuse_foreign_folder(str(path), path)
        refuse_other_weights(str(path), str(path))
    except UserError as error:
        raise UserError(f"{_way(path, 'MODEL')}\nAbout this model: {error}") from error
    raise UserError(_way(path, shlex.quote(str(path))))


def refuse_model_file(path: Path) -> None:
    """Raises UserError if a file contains a model or its weights."""
    if _is_model(path):
        raise UserError(_way(path, "MODEL"))


def _is_model(file: Path) -> bool:
    return any(fnmatch(file.name.lower(), pattern) for pattern in MODELS)


def _way(path: Path, model: str) -> str:
    is_checkpoint = any(fnmatch(path.name, pattern) for pattern in CHECKPOINT_FOLDERS)
    where = f", such as {path.resolve().parent}" if is_checkpoint else ""
    return (
        f"{path}: a model without a record of its training or a result, which alone cannot be diagnosed. Give the "
        f"folder that the training wrote its log to{where}; or let the model predict rows with a column of true "
        f"labels, and diagnose the predictions: tenor predict {model} --input ROWS.csv --output predictions.csv, then "
        "tenor diagnose predictions.csv"
    )
