"""`tenor export`: an export predicts the same and is self-contained, or nothing is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_runs import quiet, small_config, write_csv
from tenor.data.sources import read_source
from tenor.errors import TenorError, UserError
from tenor.inference.predictor import Predictor
from tenor.runs.directory import RunDirectory
from tenor.runs.files import read_json, sha256_file, write_json
from tenor.runs.model_notes import update_model_notes
from tenor.workflows import export as module
from tenor.workflows.calibrate import calibrate, choose_threshold
from tenor.workflows.export import Checked, export
from tenor.workflows.train import RunResult, train


@pytest.mark.slow
@pytest.mark.parametrize(("form", "quantize"), [("onnx", "none"), ("onnx", "int8"), ("safetensors", "none")])
def test_an_export_predicts_as_the_run_does(
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
        monkeypatch.setattr("tenor.workflows.export.INT8_AGREEMENT", 0.95)  # One of 20 reviews is at the boundary.
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
    with pytest.raises(UserError, match=r"is not what was saved|was changed after the export"):
        Predictor.load(tmp_path / "out")


def test_an_export_of_a_file_in_another_folder_is_refused(copied: RunDirectory, tmp_path: Path) -> None:
    export(str(copied.path), tmp_path / "out", "safetensors", console=quiet())
    (tmp_path / "out" / "tenor.json").unlink()
    stored = read_json(tmp_path / "out" / "export.json")
    for file in ("../model.onnx", "/etc/hostname", "sub/model.onnx", "..", ""):
        write_json(tmp_path / "out" / "export.json", {**stored, "file": file})
        with pytest.raises(UserError, match=r"export\.json"):
            Predictor.load(tmp_path / "out")


def test_an_export_that_differs_fails_with_figures_and_writes_nothing(
    copied: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLOAT_TOLERANCE", -1.0)
    with pytest.raises(TenorError, match=r"nothing was written: on 20 reviews .* differ by up to .*100\.00% of labels"):
        export(str(copied.path), tmp_path / "out", "safetensors", console=quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_existing_folder_is_not_overwritten(copied: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists; name another folder"):
        export(str(copied.path), tmp_path / "out", "safetensors", console=quiet())


# The rows of the check.


def test_a_run_with_rows_from_python_needs_an_input_file(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model, "training.epochs=1", "evaluation.text_baseline=false")
    run = train(config, tmp_path / "runs", quiet(), data=read_source(config.data)).run
    with pytest.raises(UserError, match=r"given in Python.*tenor export .* --input FILE"):
        export(str(run.path), tmp_path / "out", "safetensors", console=quiet())
    assert not (tmp_path / "out").exists()
    rows = write_csv(tmp_path / "rows.csv", 12, start=300)
    columns = ["data.text_column=review", "data.label_column=verdict"]
    done = export(str(run.path), tmp_path / "out", "safetensors", console=quiet(), file=rows, overrides=columns)
    assert (done.checked.reviews, done.checked.agreement) == (12, 1.0)
    assert "rows.csv" in done.checked.origin
    assert isinstance(done.checked.accuracy_before, float)


def test_a_file_may_have_other_columns_and_no_other_classes(copied: RunDirectory, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("words,verdict\nfilm 3 was superb,good\nfilm 4 was dull,bad\n")
    with pytest.raises(UserError, match=r"data\.text_column"):
        export(str(copied.path), tmp_path / "out", "safetensors", console=quiet(), file=rows)
    settings = ["data.text_column=words"]
    done = export(str(copied.path), tmp_path / "out", "safetensors", console=quiet(), file=rows, overrides=settings)
    assert done.checked.reviews == 2
    rows.write_text("review,verdict\nfilm 3 was superb,excellent\n")
    with pytest.raises(UserError, match="expected bad, good"):
        export(str(copied.path), tmp_path / "other", "safetensors", console=quiet(), file=rows)
    with pytest.raises(UserError, match=r"tenor export accepts only the overrides data\.…"):
        export(str(copied.path), tmp_path / "other", "safetensors", console=quiet(), overrides=["seed=3"])
    with pytest.raises(UserError, match="tenor export truncates texts as in training"):
        export(str(copied.path), tmp_path / "other", "safetensors", console=quiet(), overrides=["data.max_length=9"])
    assert not (tmp_path / "other").exists()


# What is not the same model.

CHECKED = Checked(500, "reviews", 0.0, 1.0, 0.9, 0.9, (), 0)


@pytest.mark.parametrize(
    ("quantize", "found"),
    [
        ("int8", {"agreement": 0.99, "largest_difference": 0.4}),
        ("int8", {"agreement": 1.0, "largest_difference": 0.0}),
        ("none", {"largest_difference": 1e-4}),
        ("none", {"largest_difference": 0.0, "agreement": 1.0}),
    ],
)
def test_differences_within_the_limit_are_accepted(quantize: str, found: dict[str, float]) -> None:
    module._refuse_difference(replace(CHECKED, **found), quantize)


@pytest.mark.parametrize(
    ("quantize", "found", "words"),
    [
        ("int8", {"agreement": 0.988, "largest_difference": 0.4}, r"98\.80% of labels agree.*99% of labels"),
        ("int8", {"agreement": 0.98999}, r"99% of labels.*without --quantize"),
        ("int8", {"agreement": float("nan")}, "nan% of labels agree"),
        ("int8", {"agreement": 1.0, "largest_difference": float("nan")}, "differ by up to nan"),
        ("none", {"largest_difference": 1.01e-4, "agreement": 1.0}, r"up to 0\.000101, .*a difference of 0\.0001"),
        ("none", {"largest_difference": float("nan")}, "differ by up to nan"),
        ("none", {"largest_difference": float("inf")}, "differ by up to inf"),
    ],
)
def test_larger_differences_are_refused_with_figures(quantize: str, found: dict[str, float], words: str) -> None:
    with pytest.raises(TenorError, match=f"nothing was written: on 500 reviews .*{words}"):
        module._refuse_difference(replace(CHECKED, **found), quantize)
