"""A run whose model is a hybrid: evaluation, prediction, files, calibration and export give the same numbers."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from small_models import BAD, GOOD
from small_runs import quiet, small_config, small_run
from tenor.errors import UserError
from tenor.inference.file_job import FileJob
from tenor.inference.predictor import Predictor
from tenor.runs.files import read_json
from tenor.runs.predictions import read_predictions
from tenor.workflows.calibrate import calibrate, calibration_record, choose_threshold, fold
from tenor.workflows.compare import compare
from tenor.workflows.evaluate import evaluate
from tenor.workflows.export import export
from tenor.workflows.predict import predict_to_file
from tenor.workflows.train import RunResult, train

KNOWN = {"bad": BAD, "good": GOOD, "mixed": ("film", "scene")}
"""Words that the small encoder knows …"""
UNKNOWN = {"bad": ("flat", "weak"), "good": ("warm", "rich"), "mixed": ("odd", "loud")}
"""… and words that only the text baseline can tell apart."""


def write_reviews(path: Path, count: int, seed: int, labels: Sequence[str]) -> Path:
    """Reviews with one known and three unknown words, each of which is of the review's class in five of six."""
    rng = np.random.default_rng(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        for number in range(count):
            label = rng.choice(labels)
            shown = [label if rng.random() < 5 / 6 else rng.choice(labels) for _ in range(4)]
            words = [rng.choice(KNOWN[shown[0]]), *(rng.choice(UNKNOWN[one]) for one in shown[1:])]
            writer.writerow([f"film {number} was {' and '.join(words)}", label])
    return path


def hybrid_run(folder: Path, model: Path, *overrides: str, labels: Sequence[str] = ("bad", "good")) -> RunResult:
    folder.mkdir(exist_ok=True)
    config = small_config(
        folder,
        model,
        f"data.path={write_reviews(folder / 'many.csv', 400, 0, labels)}",
        f"data.test_path={write_reviews(folder / 'others.csv', 100, 1, labels)}",
        "data.validation.size=120",
        "data.max_length=24",
        "training.epochs=3",
        "model.hybrid=on",
        *overrides,
    )
    return train(config, folder / "runs", quiet())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hybrid")


@pytest.fixture(scope="module")
def hybrid(folder: Path, small_model: Path) -> RunResult:
    return hybrid_run(folder, small_model)


def texts_of(result: RunResult, name: str = "others.csv") -> list[str]:
    with open(result.run.path.parents[2] / name, newline="", encoding="utf-8") as file:
        return [row["review"] for row in csv.DictReader(file)]


def test_evaluation_prediction_and_stored_predictions_are_one(hybrid: RunResult) -> None:
    stored = read_predictions(hybrid.run.predictions / "test.parquet")
    predictor = Predictor.load(hybrid.run.path)
    np.testing.assert_allclose(predictor.probabilities(texts_of(hybrid)), stored.probabilities, atol=1e-6)
    again = evaluate(str(hybrid.run.path), console=quiet())
    np.testing.assert_allclose(again.result.probabilities, stored.probabilities, atol=1e-6)
    assert again.result.baselines == hybrid.results["test"].baselines
    assert again.result.temperature == hybrid.results["test"].temperature == 1.0


def test_it_is_the_weighted_sum_of_encoder_and_text_baseline(hybrid: RunResult) -> None:
    predictor, texts = Predictor.load(hybrid.run.path), texts_of(hybrid)
    source = predictor.source
    assert source.hybrid is not None
    alone = Predictor.load(hybrid_without_text(hybrid))
    encoder, text = np.log(alone.probabilities(texts)), source.hybrid.baseline.log_probabilities(texts)
    weights = source.hybrid.stacker
    expected = softmax(weights.encoder * encoder + weights.text * text + np.array(weights.bias), axis=1)
    np.testing.assert_allclose(predictor.probabilities(texts), expected, atol=1e-6)
    labels = hybrid.results["test"].labels
    assert hybrid.results["test"].baselines.encoder == float((encoder.argmax(axis=1) == labels).mean())


def hybrid_without_text(hybrid: RunResult) -> Path:
    """A copy of the model folder that is the encoder alone."""
    folder = hybrid.run.path.parents[2] / "encoder"
    if not folder.exists():
        shutil.copytree(hybrid.run.model, folder)
        notes = read_json(folder / "tenor.json")
        del notes["hybrid"]
        (folder / "tenor.json").write_text(json.dumps(notes), encoding="utf-8")
    return folder


def test_the_encoder_remains_a_plain_folder_and_the_card_gives_its_accuracy(hybrid: RunResult) -> None:
    from transformers import pipeline

    texts = texts_of(hybrid)
    found = pipeline("text-classification", model=str(hybrid.run.model), device="cpu")(texts)
    names = hybrid.results["test"].metrics.per_class
    right = [names[label].name == one["label"] for label, one in zip(hybrid.results["test"].labels, found, strict=True)]
    encoder = hybrid.results["test"].baselines.encoder
    assert encoder == pytest.approx(np.mean(right))
    card = (hybrid.run.model / "README.md").read_text(encoding="utf-8")
    assert isinstance(encoder, float)
    assert f"which reaches {encoder:.2%} on the test rows" in card
    assert "tenor.Predictor" in card
    assert "this model (hybrid)" in card


def test_windows_and_files_use_the_text_baseline_of_the_whole_text(hybrid: RunResult, tmp_path: Path) -> None:
    predictor = Predictor.load(hybrid.run.path)
    source = hybrid.run.path.parents[2] / "others.csv"
    output = tmp_path / "labelled.csv"
    predict_to_file(str(hybrid.run.path), FileJob(source, output, text_column="review"), console=quiet())
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = predictor.probabilities(texts_of(hybrid))
    np.testing.assert_allclose([float(row["probability_bad"]) for row in rows], expected[:, 0], atol=1e-5)
    long = " ".join(texts_of(hybrid)[:12])
    truncated, windows = predictor.predict([long]), predictor.predict([long], long_text="windows")
    assert windows[0].windows > 1
    assert truncated[0].probabilities != windows[0].probabilities


@pytest.mark.slow
def test_calibrate_leaves_it_and_a_threshold_and_folding_work(folder: Path, small_model: Path) -> None:
    result = hybrid_run(folder / "calibrated", small_model)
    before = Predictor.load(result.run.path).probabilities(texts_of(result))
    calibrated = calibrate(result.run)
    assert not calibrated.changed
    choose_threshold(calibrated, "good", "recall", 0.9, 0.95)
    assert Predictor.load(result.run.path).threshold is not None
    fold(calibrated)
    after = Predictor.load(result.run.path, ignore_threshold=True).probabilities(texts_of(result))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert calibration_record(calibrated)["changed"] is False


@pytest.mark.slow
def test_a_changed_or_missing_text_baseline_is_refused(folder: Path, small_model: Path) -> None:
    result = hybrid_run(folder / "damaged", small_model)
    vocabulary = result.run.model / "text_baseline" / "vocabulary.txt"
    vocabulary.write_bytes(vocabulary.read_bytes() + b"x")
    for use in (lambda: Predictor.load(result.run.path), lambda: evaluate(str(result.run.path), console=quiet())):
        with pytest.raises(UserError, match="is not what was saved"):
            use()


@pytest.mark.parametrize("form", ["safetensors", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_export_contains_the_text_baseline(hybrid: RunResult, tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    made = export(str(hybrid.run.path), tmp_path / form, form=form, console=quiet())  # type: ignore[arg-type]
    exported, original = Predictor.load(made.folder), Predictor.load(hybrid.run.path)
    texts = texts_of(hybrid)
    np.testing.assert_allclose(exported.probabilities(texts), original.probabilities(texts), atol=1e-4)
    assert exported.source.hybrid is not None


@pytest.mark.slow
def test_three_classes(folder: Path, small_model: Path) -> None:
    result = hybrid_run(folder / "three", small_model, labels=("bad", "good", "mixed"))
    stored = read_predictions(result.run.predictions / "test.parquet")
    assert stored.probabilities.shape == (100, 3)
    np.testing.assert_allclose(
        Predictor.load(result.run.path).probabilities(texts_of(result)), stored.probabilities, atol=1e-6
    )


def test_auto_keeps_it_where_it_is_better_and_says_why(folder: Path, small_model: Path) -> None:
    better = hybrid_run(folder / "auto", small_model, "model.hybrid=auto")
    choice = read_json(better.run.evaluation)["hybrid"]
    assert choice["used"]
    assert "cross-fitted, n = 120" in choice["why"]
    test = better.results["test"]
    assert isinstance(test.baselines.encoder, float)
    assert test.metrics.accuracy > test.baselines.encoder
    alone = hybrid_run(folder / "off", small_model, "model.hybrid=off")
    assert read_json(alone.run.evaluation)["hybrid"] == {"used": False, "why": "switched off by model.hybrid"}
    assert not (alone.run.model / "text_baseline").exists()
    assert alone.results["test"].metrics.accuracy == test.baselines.encoder
    assert compare(alone.run, better.run) is not None


@pytest.mark.slow
def test_where_no_hybrid_is_possible_the_run_says_why(tmp_path: Path, small_model: Path) -> None:
    few = small_run(tmp_path / "few", small_model, "model.hybrid=on")
    assert "16 validation rows are too few" in read_json(few.run.evaluation)["hybrid"]["why"]
    without = hybrid_run(tmp_path, small_model, "model.hybrid=auto", "evaluation.text_baseline=false")
    assert "there is no text baseline" in read_json(without.run.evaluation)["hybrid"]["why"]
    with pytest.raises(UserError, match="'on' needs the text baseline"):
        hybrid_run(tmp_path, small_model, "evaluation.text_baseline=false")


@pytest.mark.slow
def test_a_collapsed_encoder_stays_visible(tmp_path: Path, small_model: Path) -> None:
    """The text baseline is right in nearly every row, and would hide that the encoder predicts one class."""
    result = hybrid_run(tmp_path, small_model, "training.learning_rate=1e-12", "training.head_learning_rate=null")
    choice = read_json(result.run.evaluation)["hybrid"]
    assert not choice["used"]
    assert "not significantly above that of the majority class" in choice["why"]
    text = result.results["test"].baselines.text
    assert isinstance(text, float)
    assert result.results["test"].metrics.accuracy < text - 0.2
