"""Arrays that a program saved of an evaluation with NumPy: y_true.npy, y_pred.npy, probs.npy, cm.npy, or all in a .npz.

They are read without pickle, so arrays of Python objects are refused.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.predictions_file import LABEL, PREDICTED, has_prediction_columns
from tenor.checks.diagnosis.result_files import read_json_results
from tenor.checks.diagnosis.results_json import CONFUSION_KEYS
from tenor.errors import UserError

SUFFIXES = (".npy", ".npz")
SCORES = ("y_prob", "y_proba", "prob", "probs", "proba", "probabilities", "y_score", "scores", "logits")
OTHER_NAMES = {"preds": "y_pred", "predictions": "y_pred", "y_hat": "y_pred", "targets": "y_true", "conf_mat": "cm"}
KNOWN = frozenset((*LABEL, *PREDICTED, *SCORES, *CONFUSION_KEYS, *OTHER_NAMES))
MAX_BYTES = 2**28


def array_files(folder: Path) -> list[Path]:
    """The files with arrays of results in a folder, by their names; of a `.npz` by the names in it."""
    return [file for file in sorted(folder.glob("*.np[yz]")) if file.is_file() and KNOWN & set(_names_in(file))]


def read_array_folder(folder: Path) -> list[Artifacts]:
    """The results in a folder's arrays. Raises UserError for arrays that cannot be read, or are no result together."""
    files = array_files(folder)
    arrays = {name: array for file in files for name, array in _arrays(file) if name in KNOWN}
    return _read({OTHER_NAMES.get(name, name): array for name, array in arrays.items()}, folder, files)


def read_array_file(path: Path) -> list[Artifacts]:
    """The same of one file: a confusion matrix, or all arrays of a `.npz`."""
    arrays = {OTHER_NAMES.get(name, name): array for name, array in _arrays(path)}
    if len(arrays) == 1 and path.suffix.lower() == ".npy":
        [array] = arrays.values()
        arrays = {"confusion_matrix": array} if array.ndim == 2 and array.shape[0] == array.shape[1] else arrays
    return _read(arrays, path, [path])


def _read(arrays: Mapping[str, np.ndarray], path: Path, files: list[Path]) -> list[Artifacts]:
    matrices = [name for name in arrays if name in CONFUSION_KEYS]
    rows = {name: array for name, array in arrays.items() if name not in matrices}
    lengths = {name: array.shape[0] if array.ndim else 0 for name, array in rows.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise UserError(f"{path}: the arrays have different numbers of rows: {listed}. Save those of one evaluation.")
    value: Any = {name: array.tolist() for name, array in rows.items()}
    if not rows and len(matrices) == 1:
        value = arrays[matrices[0]].tolist()
    elif not has_prediction_columns(list(rows)) and not (set(rows) & set(LABEL) and set(rows) & set(SCORES)):
        raise UserError(
            f"{path}: contains the arrays {', '.join(arrays) or '(none)'}; expected true and predicted classes "
            f"(y_true.npy and y_pred.npy in one folder), or a confusion matrix (cm.npy)."
        )
    found = read_json_results(value, path)
    if not found:
        raise UserError(f"{path}: the arrays {', '.join(arrays)} are no result: expected a class or a score per row.")
    return [Artifacts("arrays of NumPy", found[0].evidence, notes=found[0].notes, files=tuple(files))]


def _names_in(file: Path) -> list[str]:
    if file.suffix.lower() == ".npy":
        return [file.stem.lower()]
    try:
        with zipfile.ZipFile(file) as archive:
            return [Path(name).stem.lower() for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return []


def _arrays(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of each array. Raises UserError for one that is too large, of objects, or broken."""
    try:
        size = file.stat().st_size
        if file.suffix.lower() == ".npz":
            with zipfile.ZipFile(file) as archive:
                size = sum(one.file_size for one in archive.infolist())
        if size > MAX_BYTES:
            raise UserError(f"{file}: {size:,} bytes; arrays of results are read up to {MAX_BYTES:,}.")
        loaded = np.load(file, allow_pickle=False)
        arrays = {file.stem: loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{file}: not an array without Python objects ({' '.join(str(error).split())[:100]}). Save numbers or "
            f"texts: np.save(NAME, np.asarray(VALUES.tolist()))."
        ) from error
    for name, array in arrays.items():
        yield name.lower(), np.atleast_1d(array.squeeze()) if array.ndim > 1 and 1 in array.shape else array
