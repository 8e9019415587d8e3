"""A run in 16 bits on a GPU: what can be tested on a CPU."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_runs import quiet, small_config, small_run
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.model.device import plan_device
from tenor.runs.predictions import read_predictions
from tenor.workflows.check import run_preflight
from tenor.workflows.evaluate import evaluate
from tenor.workflows.prepare import make_accelerator, prepare


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_the_loop_scales_fp16_itself_and_is_not_refused_for_it(
    precision: str, small_model: Path, tmp_path: Path
) -> None:
    prepared = prepare(small_config(tmp_path, small_model))
    report = run_preflight(replace(prepared, plan=replace(prepared.plan, precision=precision)))  # type: ignore[arg-type]
    assert "PRC002" in report.checked
    assert "PRC002" not in {finding.code for finding in report.findings}


def test_another_device_than_the_planned_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the environment set ACCELERATE_USE_CPU, or on a machine without a GPU."""
    monkeypatch.setitem(os.environ, "ACCELERATE_USE_CPU", "true")
    with pytest.raises(UserError, match="Accelerate would train on cpu, expected cuda"):
        make_accelerator(replace(plan_device("cpu", threads=1), device="cuda"))
    assert make_accelerator(plan_device("cpu", threads=1)).device.type == "cpu"


@pytest.mark.parametrize("freeze", ["none", "base"])
def test_a_run_in_bf16_reports_the_probabilities_that_its_model_gives(
    freeze: str, small_model: Path, tmp_path: Path
) -> None:
    """Evaluation, calibration and prediction compute in float32, whatever type the training used."""
    run = small_run(tmp_path, small_model, "training.precision=bf16", f"model.freeze={freeze}").run
    stored = read_predictions(run.predictions / "test.parquet")
    texts = _column(tmp_path / "test.csv", "review")
    delivered = Predictor.load(run.path).probabilities(texts)
    np.testing.assert_allclose(stored.probabilities, delivered, atol=1e-6)
    again = evaluate(str(run.path), root=tmp_path / "runs", console=quiet())
    np.testing.assert_allclose(again.result.probabilities, delivered, atol=1e-6)


def _column(path: Path, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]
