"""Folders in which a history stands beside predictions, loggers with a name of their own, and further column names."""

import json
from pathlib import Path

import numpy as np
import pytest

from tenor.checks import diagnose


def predictions(path: Path, order: np.ndarray, named: str = "prediction") -> None:
    """A model that is right in nine of ten rows, with its rows in `order`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    predicted = np.where(rng.random(300) < 0.9, labels, 1 - labels)[order]
    score = np.where(predicted == 1, 0.95, 0.05)
    rows = [f"{k},{labels[k]},{predicted[k]},{1 - score[k]:.2f},{score[k]:.2f}" for k in range(300)]
    path.write_text("\n".join([f"id,label,{named},prob_0,prob_1", *rows]) + "\n")


@pytest.mark.parametrize("named", ["prediction", "yhat"])
@pytest.mark.parametrize("is_shuffled", [True, False])
def test_predictions_beside_a_history_are_judged(tmp_path: Path, is_shuffled: bool, named: str) -> None:
    history = {
        "loss": [0.69, 0.5, 0.35, 0.3],
        "val_loss": [0.68, 0.52, 0.4, 0.38],
        "val_accuracy": [0.6, 0.8, 0.88, 0.9],
    }
    (tmp_path / "history.json").write_text(json.dumps(history))
    order = np.random.default_rng(1).permutation(300) if is_shuffled else np.arange(300)
    predictions(tmp_path / "test_predictions.csv", order, named)
    diagnosis = diagnose(tmp_path)
    codes = {finding.code for finding in diagnosis.findings if finding.severity != "note"}
    assert "300" in diagnosis.conclusion
    assert bool(codes & {"EVL025", "EVL026"}) == is_shuffled, codes
    assert not any("test_predictions.csv" in note for note in diagnosis.notes)


def test_a_logger_with_a_name_of_its_own_is_found(tmp_path: Path) -> None:
    version = tmp_path / "my_experiment" / "version_0"
    version.mkdir(parents=True)
    (version / "hparams.yaml").write_text("lr: 0.001\n")
    rows = [f"{epoch},{epoch * 30 + 29},{0.7 - 0.05 * epoch:.3f},{0.7 - 0.04 * epoch:.3f}" for epoch in range(8)]
    (version / "metrics.csv").write_text("\n".join(["epoch,step,train_loss,val_loss", *rows]) + "\n")
    diagnosis = diagnose(tmp_path)
    assert "Lightning" in diagnosis.kind
    assert not diagnosis.errors
