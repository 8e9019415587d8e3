"""Arrays that a program saved of an evaluation with NumPy."""

from pathlib import Path

import numpy as np
import pytest

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.errors import UserError

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 400)
POSITIVE = np.clip(0.5 + (LABELS - 0.5) * 0.6 + RNG.normal(0, 0.2, 400), 0.01, 0.99)
SOUND = {"y_true": LABELS, "y_pred": (POSITIVE > 0.5).astype(int), "y_prob": POSITIVE}


def found(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnosis.findings}


def save(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_arrays_of_one_folder_are_one_evaluation(tmp_path: Path) -> None:
    sound = diagnose(save(tmp_path / "sound", SOUND))
    assert found(sound) == {}
    assert "400 rows" in sound.conclusion
    shifted = {"labels": np.roll(LABELS, 3), "preds": SOUND["y_pred"], "probs": np.stack([1 - POSITIVE, POSITIVE], 1)}
    assert found(diagnose(save(tmp_path / "shifted", shifted)))["EVL017"] == "error"
    np.savez(tmp_path / "all.npz", **SOUND)
    assert found(diagnose(tmp_path / "all.npz")) == {}


def test_a_matrix_is_read_alone_and_other_results_come_first(tmp_path: Path) -> None:
    folder = save(tmp_path, {"cm": np.array([[12, 70], [72, 6]])})
    assert found(diagnose(folder))["EVL007"] == "error"
    assert found(diagnose(folder / "cm.npy"))["EVL007"] == "error"
    (folder / "confusion_matrix.csv").write_text(",neg,pos\nneg,70,12\npos,6,72\n")
    diagnosis = diagnose(folder)
    assert found(diagnosis) == {}
    assert any("cm.npy" in note and "given alone" in note for note in diagnosis.notes)


def test_arrays_of_other_numbers_of_rows_and_of_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="y_pred 399, y_prob 400, y_true 400"):
        diagnose(save(tmp_path / "short", {**SOUND, "y_pred": SOUND["y_pred"][1:]}))
    objects = save(tmp_path / "objects", {"y_true": LABELS})
    np.save(objects / "y_pred.npy", np.array([{"label": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="without Python objects"):
        diagnose(objects)
    with pytest.raises(UserError, match="expected true and predicted classes"):
        diagnose(save(tmp_path / "alone", {"y_true": LABELS}))
