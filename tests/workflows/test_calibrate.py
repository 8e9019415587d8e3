"""All files of a run agree on one temperature, however often it is fitted or folded."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from small_runs import quiet
from tenor.checks.diagnosis import diagnose
from tenor.config.loading import load_config
from tenor.console.numbers import show_abstention, show_calibration
from tenor.console.run import show_evaluation
from tenor.data.sources import read_source
from tenor.errors import UserError
from tenor.inference.predictor import Predictor
from tenor.measures.calibration import choose_temperature, log_probabilities, negative_log_likelihood, with_temperature
from tenor.runs.directory import RunDirectory
from tenor.runs.files import digest_folder, read_json, sha256_file, write_json
from tenor.runs.manifest import read_manifest
from tenor.runs.model_notes import read_model_notes, update_model_notes
from tenor.runs.predictions import read_predictions, write_predictions
from tenor.runs.summary import read_summary
from tenor.workflows.calibrate import (
    Calibrated,
    calibrate,
    calibration_record,
    choose_threshold,
    fold,
    remove_threshold,
)
from tenor.workflows.evaluate import abstention_record, evaluate, evaluation_record
from tenor.workflows.export import export
from tenor.workflows.train import RunResult


def _state(run: RunDirectory) -> dict[str, str]:
    """The digest of every file that a calibration may change."""
    files = [*run.predictions.iterdir(), run.evaluation, run.model / "tenor.json", run.model / "model.safetensors"]
    return {file.name: sha256_file(file) for file in files}


def _uncalibrate(run: RunDirectory, *kept: str) -> None:
    """As a run from before calibration left its files; those of the splits in `kept` stay calibrated."""
    for name in ("validation", "test"):
        if name not in kept:
            found = read_predictions(run.predictions / f"{name}.parquet")
            raw = with_temperature(found.probabilities, found.temperature, 1.0)
            write_predictions(run.predictions / f"{name}.parquet", found.ids, found.labels, raw, found.class_names)
    update_model_notes(run.model, temperature=1.0)
    evaluation = read_json(run.evaluation)
    for split in ("val", "test"):
        evaluation[split]["loss"] = evaluation[split].pop("calibration")["raw"]["nll"]
    write_json(run.evaluation, evaluation)


def test_a_run_ends_calibrated_on_its_validation_rows(completed: RunResult) -> None:
    notes = read_model_notes(completed.run.model)
    found = {name: read_predictions(completed.run.predictions / f"{name}.parquet") for name in ("validation", "test")}
    validation = found["validation"]
    raw = completed.results["validation"].raw_probabilities
    assert notes.temperature == pytest.approx(choose_temperature(log_probabilities(raw), validation.labels), rel=1e-6)
    assert notes.temperature != 1.0
    stored = read_json(completed.run.evaluation)
    for name, key in (("validation", "val"), ("test", "test")):
        calibration = stored[key]["calibration"]
        assert found[name].temperature == calibration["temperature"] == notes.temperature
        expected = negative_log_likelihood(found[name].probabilities, found[name].labels)
        assert stored[key]["loss"] == calibration["calibrated"]["nll"] == pytest.approx(expected)
    assert stored["val"]["calibration"]["calibrated"]["nll"] <= stored["val"]["calibration"]["raw"]["nll"]


def test_a_second_calibration_changes_nothing(copied: RunDirectory) -> None:
    before = _state(copied)
    assert not calibrate(copied).changed
    assert _state(copied) == before


@pytest.mark.parametrize("kept", [(), ("validation",), ("validation", "test")])
def test_calibrate_updates_older_and_interrupted_runs(
    kept: tuple[str, ...], completed: RunResult, copied: RunDirectory
) -> None:
    _uncalibrate(copied, *kept)
    found = calibrate(copied)
    assert found.changed
    expected = read_model_notes(completed.run.model)
    assert found.notes.temperature == pytest.approx(expected.temperature, rel=1e-6)
    for name, rows in found.predictions.items():
        np.testing.assert_allclose(rows.probabilities, completed.results[name].probabilities, atol=1e-6)
    stored = read_json(completed.run.evaluation)
    for key in ("val", "test"):
        assert getattr(found.evaluation, key).loss == pytest.approx(stored[key]["loss"], rel=1e-5)
        assert [list(row) for row in getattr(found.evaluation, key).confusion_matrix] == stored[key]["confusion_matrix"]
        assert getattr(found.evaluation, key).baselines == stored[key]["baselines"]
    (row,) = read_summary(copied.path.parent.parent)
    assert row.test_metrics["loss"] == found.evaluation.test.loss
    assert read_manifest(copied).digests["model"] == digest_folder(copied.model)
    assert not calibrate(copied).changed


def test_folded_the_plain_model_is_calibrated_and_tenor_gives_the_same(
    completed: RunResult, copied: RunDirectory
) -> None:
    from transformers import pipeline

    found = fold(calibrate(copied))
    assert found.notes.temperature == 1.0
    assert found.notes.total_temperature == pytest.approx(completed.results["test"].temperature)
    rows = read_source(completed.config.data).test
    scores = pipeline("text-classification", model=str(copied.model), top_k=None, device="cpu")(list(rows.texts))
    plain = [[{one["label"]: one["score"] for one in row}[name] for name in ("bad", "good")] for row in scores]
    expected = completed.results["test"].probabilities
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    again = evaluate(str(copied.path), console=quiet())
    np.testing.assert_allclose(again.result.probabilities, expected, atol=1e-5)
    record = evaluation_record(again)["result"]["calibration"]
    stored = read_json(copied.evaluation)["test"]["calibration"]
    assert record["temperature"] == pytest.approx(stored["temperature"])
    assert record["raw"] == pytest.approx(stored["raw"], abs=1e-5)


def test_folding_is_reported_and_not_an_error(completed: RunResult, copied: RunDirectory) -> None:
    fold(calibrate(copied))
    folded = read_json(copied.model / "tenor.json")["folded"]
    assert folded["checkpoint_sha256"] == completed.checkpoint_sha256
    assert folded["into"] == ["classifier.weight", "classifier.bias"]
    assert read_manifest(copied).digests["model"] == digest_folder(copied.model)
    codes = {cause.code for cause in diagnose(copied.path).causes}
    assert not {code for code in codes if code.startswith("CKP")}
    before = _state(copied)
    assert not fold(calibrate(copied)).changed
    assert _state(copied) == before, "a second fold changed something"


def test_a_model_that_changed_is_not_calibrated(copied: RunDirectory) -> None:
    with open(copied.model / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(UserError, match="no known quality"):
        calibrate(copied)


def test_a_run_without_a_model_says_so(copied: RunDirectory) -> None:
    shutil.rmtree(copied.model)
    with pytest.raises(UserError, match="no saved model"):
        calibrate(copied)


def test_a_threshold_is_stored_with_the_model(copied: RunDirectory) -> None:
    found = calibrate(copied)
    choose_threshold(found, "bad", "recall", 0.5, 0.95)
    recall = choose_threshold(found, "good", "recall", 0.9, 0.95)
    kept = read_json(copied.model / "tenor.json")["threshold"]
    assert (kept["class"], kept["threshold"]) == ("good", recall.threshold)
    for name, rows in found.predictions.items():
        member = rows.labels == 1
        share = (rows.probabilities[member, 1] >= recall.threshold).mean()
        assert kept[name]["recall"]["value"] == pytest.approx(share)
    assert kept["validation"]["recall"]["value"] >= 0.9
    assert read_manifest(copied).digests["model"] == digest_folder(copied.model)
    fold(found)
    assert read_json(copied.model / "tenor.json")["threshold"] == kept
    assert "threshold" in _shown(show_calibration, calibrate(copied))
    remove_threshold(calibrate(copied))
    assert "threshold" not in read_json(copied.model / "tenor.json")
    assert read_manifest(copied).digests["model"] == digest_folder(copied.model)


def test_prediction_decides_by_the_threshold_and_evaluation_does_not(
    completed: RunResult, copied: RunDirectory, tmp_path: Path
) -> None:
    rows = read_source(completed.config.data).test
    found = calibrate(copied)
    scores = completed.results["test"].probabilities[:, 1]
    chosen = choose_threshold(found, "good", "recall", 0.5, 0.95)
    assert not np.array_equal(scores >= chosen.threshold, scores >= 0.5), "the threshold changes nothing here"

    predictor = Predictor.load(copied.path, engine="torch", device="cpu")
    assert predictor.threshold is not None
    labels = [one.label for one in predictor.predict(rows.texts)]
    assert labels == ["good" if score >= chosen.threshold else "bad" for score in scores]
    plain = Predictor.load(copied.path, engine="torch", device="cpu", ignore_threshold=True)
    assert [one.label for one in plain.predict(list(rows.texts))] == ["good" if s >= 0.5 else "bad" for s in scores]

    exported = export(str(copied.path), tmp_path / "copy", "safetensors", console=quiet())
    assert Predictor.load(exported.folder, engine="torch", device="cpu").threshold == predictor.threshold
    again = evaluate(str(copied.path), console=quiet())
    assert again.result.metrics.confusion == completed.results["test"].metrics.confusion
    record = evaluation_record(again)["threshold"]
    assert record["test"]["called"] == labels.count("good")
    assert "most probable class" in _shown(show_evaluation, again)
    assert not [one for one in again.checks.findings if one.code == "EVL004"]


def test_the_card_describes_threshold_and_temperature_to_pipeline_users(copied: RunDirectory) -> None:
    def section() -> str:
        card = ModelCard.load(copied.model / "README.md")
        assert card.text.count("## Probabilities") == 1
        return card.text.partition("## Probabilities")[2].partition("\n## ")[0]

    before = (copied.model / "README.md").read_text(encoding="utf-8")
    assert "not calibrated" in section()
    found = calibrate(copied)
    chosen = choose_threshold(found, "good", "recall", 0.9, 0.95)
    assert f"{chosen.threshold:.6f}" in section()
    assert "Fold the temperature in first" in section()
    fold(found)
    assert "Calibrated, in a plain `pipeline` too" in section()
    assert "Fold the temperature" not in section()
    remove_threshold(calibrate(copied))
    assert "threshold" not in section()
    after = (copied.model / "README.md").read_text(encoding="utf-8")
    assert after.partition("## Probabilities")[0] == before.partition("## Probabilities")[0]
    assert after.partition("## Intended use")[2] == before.partition("## Intended use")[2]


def test_a_threshold_for_other_probabilities_is_removed_and_reported(copied: RunDirectory) -> None:
    choose_threshold(calibrate(copied), "good", "recall", 0.9, 0.95)
    _uncalibrate(copied)
    found = calibrate(copied)
    assert found.changed
    assert found.notes.threshold is None
    assert "choose a new one" in _shown(show_calibration, found)


@pytest.mark.parametrize(
    "threshold", [0.5, {}, {"class": "good", "threshold": 2, "wanted": {"recall": 0.9}}, {"class": "?", "wanted": {}}]
)
def test_an_invalid_threshold_is_refused(threshold: Any, copied: RunDirectory) -> None:
    notes = copied.model / "tenor.json"
    write_json(notes, {**read_json(notes), "threshold": threshold})
    with pytest.raises(UserError, match=r"tenor\.json"):
        Predictor.load(copied.path)


def test_a_threshold_for_an_unknown_class_is_refused(copied: RunDirectory) -> None:
    update_model_notes(copied.model, threshold={"class": "great", "threshold": 0.5, "wanted": {"recall": 0.9}})
    with pytest.raises(UserError, match=r"'great', the model's classes are bad, good"):
        Predictor.load(copied.path)


@pytest.mark.parametrize(
    ("class_name", "wanted", "value", "words"),
    [
        ("great", "recall", 0.9, "bad, good"),
        ("good", "recall", 1.5, "up to 1"),
        ("good", "precision", 0.0, "above 0"),
        ("good", "precision", 1.0, "the highest is"),
    ],
)
def test_an_impossible_threshold_is_refused(
    class_name: str, wanted: str, value: float, words: str, copied: RunDirectory
) -> None:
    rows = read_predictions(copied.predictions / "validation.parquet")
    best = rows.probabilities[:, 1].argmax()
    labels = rows.labels.copy()
    labels[best] = 0  # The surest of all is wrong, so no threshold is without mistakes.
    labels[(best + 1) % len(labels)] = 1
    path = copied.predictions / "validation.parquet"
    write_predictions(path, rows.ids, labels, rows.probabilities, rows.class_names, temperature=rows.temperature)
    with pytest.raises(UserError, match=words):
        choose_threshold(_without_refit(copied), class_name, wanted, value, 0.95)


def _without_refit(run: RunDirectory) -> Calibrated:
    found = {name: read_predictions(run.predictions / f"{name}.parquet") for name in ("validation", "test")}
    return Calibrated(run, read_model_notes(run.model), found, read_json(run.evaluation), changed=False)


def test_abstention_counts_the_rows_it_answers(completed: RunResult) -> None:
    found = evaluate(str(completed.run.path), console=quiet())
    probabilities, labels = found.result.probabilities, found.result.labels
    below = float(np.median(probabilities.max(axis=1)))
    record = abstention_record(found, below)
    chosen = probabilities.max(axis=1) >= below
    assert record["answered"] == chosen.sum()
    assert record["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == labels)[chosen].mean())
    assert record["curve"][0]["coverage"] == 1.0
    assert record["curve"][0]["accuracy"] == found.result.metrics.accuracy
    assert "missing" in abstention_record(found, 1.0)["accuracy"]
    assert _shown(show_abstention, found, below).count("%") > 10
    assert "abstain on all rows" in _shown(show_abstention, found, 1.0)


def test_the_output_says_where_the_temperature_is_applied(copied: RunDirectory) -> None:
    found = calibrate(copied)
    assert "--fold" in _shown(show_calibration, found)
    folded = fold(found)
    assert "every program that loads it" in _shown(show_calibration, folded)
    assert calibration_record(folded)["folded"] is True
    assert load_config(copied.config).name in str(calibration_record(found)["run"])


def _shown(show: Any, *arguments: object) -> str:
    console = quiet()
    show(console, *arguments)
    return str(console.file.getvalue())  # type: ignore[attr-defined]
