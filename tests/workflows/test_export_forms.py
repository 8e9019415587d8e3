"""`tenor export`: what leaves Tenor predicts the same, carries what it needs, and says so; else nothing leaves."""

from pathlib import Path

import numpy as np
import pytest

from small_runs import quiet
from tenor.data.sources import read_source
from tenor.errors import TenorError, UserError
from tenor.inference.predictor import Predictor
from tenor.model.notes import update_model_notes
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json, sha256_file, write_json
from tenor.workflows import export as module
from tenor.workflows.calibrate import calibrate
from tenor.workflows.export import export
from tenor.workflows.thresholds import choose_threshold
from tenor.workflows.train import RunResult


@pytest.mark.slow
@pytest.mark.parametrize(("form", "quantize"), [("onnx", "none"), ("onnx", "int8"), ("safetensors", "none")])
def test_an_artefact_predicts_as_the_run_does(
    form: str,
    quantize: str,
    completed: RunResult,
    copied: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibrated = calibrate(copied)
    if quantize == "int8":  # The small run's temperature of 0.1 would magnify what int8 loses.
        update_model_notes(copied.model, temperature=2.0)
        monkeypatch.setattr("tenor.workflows.export.INT8_AGREEMENT", 0.95)  # Of 20 reviews one lies on the border.
    else:
        choose_threshold(calibrated, "good", "recall", 0.9, 0.95)
    done = export(str(copied.path), tmp_path / "out", form, quantize, console=quiet())  # type: ignore[arg-type]
    before = Predictor.load(copied.path, engine="torch", device="cpu")
    after = Predictor.load(tmp_path / "out", device="cpu")
    assert (after.labels, after.threshold) == (before.labels, before.threshold)
    assert after.source.temperature == before.source.temperature != 1.0
    assert after.source.truncation == before.source.truncation
    texts = [*read_source(completed.config.data).test.texts, "film " * 60]
    expected, found = before.probabilities(texts), after.probabilities(texts)
    np.testing.assert_allclose(found, expected, atol=0.15 if quantize == "int8" else 1e-4)

    stored = read_json(tmp_path / "out" / "export.json")
    assert stored["sha256"] == sha256_file(tmp_path / "out" / stored["file"])
    assert stored["checked"]["instruction_sets"] == list(done.checked.instruction_sets)
    assert stored["checked"]["reviews"] == 20
    assert stored["checked"]["agreement"] >= 0.95
    assert stored["checked"]["accuracy_before"] == completed.results["test"].metrics.accuracy
    assert {"tokenizer.json", stored["file"], "export.json"} <= set(done.files)

    file = tmp_path / "out" / stored["file"]
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(UserError, match="is not what was"):
        Predictor.load(tmp_path / "out")


def test_an_artefact_names_no_file_elsewhere(copied: RunDirectory, tmp_path: Path) -> None:
    export(str(copied.path), tmp_path / "out", "safetensors", console=quiet())
    (tmp_path / "out" / "tenor.json").unlink()
    stored = read_json(tmp_path / "out" / "export.json")
    for file in ("../model.onnx", "/etc/hostname", "sub/model.onnx", "..", ""):
        write_json(tmp_path / "out" / "export.json", {**stored, "file": file})
        with pytest.raises(UserError, match=r"export\.json"):
            Predictor.load(tmp_path / "out")


def test_one_that_differs_fails_with_the_figures_and_leaves_nothing(
    copied: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLOAT_TOLERANCE", -1.0)
    with pytest.raises(TenorError, match=r"nothing was written: on 20 reviews .* differ by up to .*100\.00% of labels"):
        export(str(copied.path), tmp_path / "out", "safetensors", console=quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_is_there_is_not_overwritten(copied: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists; name another folder"):
        export(str(copied.path), tmp_path / "out", "safetensors", console=quiet())
