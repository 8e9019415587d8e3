"""A whole run: every file exists, every number can be traced, and a failure is reported as one."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.tracking import TensorBoardTracker
from safetensors.torch import load_file

from report_runs import Page
from small_runs import nulls, quiet, small_config, small_run, write_csv
from tenor.config.loading import load_config
from tenor.errors import TenorError, UserError
from tenor.model import features
from tenor.model.device import DevicePlan
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import read_json, sha256_file
from tenor.runs.manifest import read_manifest
from tenor.runs.step_records import read_records
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import list_checkpoints, verify_checkpoint
from tenor.workflows import prepare as prepare_module
from tenor.workflows import train as train_module
from tenor.workflows.train import RunResult, train


def test_a_run_leaves_every_file(completed: RunResult) -> None:
    run = completed.run
    for path in (run.config, run.manifest, run.metrics, run.evaluation, run.text_keys):
        assert path.is_file(), path
    names = {path.name for path in run.model.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "tenor.json"} <= names
    assert {path.name for path in run.predictions.iterdir()} == {"validation.parquet", "test.parquet"}
    assert list(run.tensorboard.rglob("events.out.*"))
    assert any(run.baseline.iterdir())
    assert list_checkpoints(run.checkpoints)
    assert list(run.path.rglob(".tmp-*")) == []
    assert [path for path in run.path.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".bin", ".joblib")] == []


def test_the_configuration_it_kept_is_the_one_it_ran(completed: RunResult) -> None:
    assert load_config(completed.run.config) == completed.config


def test_nothing_is_null_and_every_number_is_traced(completed: RunResult) -> None:
    run = completed.run
    written = json.loads(run.evaluation.read_text())
    assert nulls(written) == []
    assert nulls(json.loads(run.manifest.read_text())) == []
    for split in ("val", "test"):
        found = written[split]
        matrix = np.array(found["confusion_matrix"])
        assert matrix.shape == (2, 2)
        assert matrix.sum() == found["n"] == {"val": 16, "test": 20}[split]
        assert found["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
        assert {"0", "1", "accuracy", "macro avg", "weighted avg"} == set(found["report"])
        assert found["report"]["0"]["support"] == matrix[0].sum()
    best = verify_checkpoint(run.checkpoint(written["checkpoint"]["step"]))
    assert written["checkpoint"]["digest"] == best.digest == completed.checkpoint_sha256


def test_the_predictions_are_those_of_the_numbers(completed: RunResult) -> None:
    written = json.loads(completed.run.evaluation.read_text())
    for split, key in (("validation", "val"), ("test", "test")):
        table = pq.read_table(completed.run.predictions / f"{split}.parquet").to_pydict()
        label = next(name for name in table if "label" in name and "pred" not in name)
        predicted = next(name for name in table if "predict" in name)
        found = np.mean([a == b for a, b in zip(table[label], table[predicted], strict=True)])
        assert found == pytest.approx(written[key]["accuracy"])


def test_the_manifest_describes_the_run(completed: RunResult) -> None:
    manifest = read_manifest(completed.run)
    assert manifest.status == "completed"
    assert manifest.seed == 34
    assert manifest.threads == 1
    assert all(isinstance(digest, str) for digest in manifest.fingerprints.values())
    assert manifest.digests["model"]
    assert {"read", "tokenize", "train", "evaluate"} <= set(manifest.timings)
    assert manifest.error == {"missing": "no error"}
    assert manifest.hardware["accelerators"] == []


def test_manifest_and_report_name_the_accelerator(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DevicePlan, "accelerators", ("NVIDIA H100 80GB HBM3",))
    run = small_run(tmp_path, small_model, "training.epochs=1", "evaluation.text_baseline=false").run
    assert read_manifest(run).hardware["accelerators"] == ["NVIDIA H100 80GB HBM3"]
    assert "accelerators NVIDIA H100 80GB HBM3" in Page(run.report.read_text(encoding="utf-8")).text


def test_the_summary_has_its_row(completed: RunResult) -> None:
    root = completed.run.path.parent.parent
    (row,) = read_summary(root)
    assert (row.run_id, row.config_name, row.status) == (completed.run.run_id, "small", "completed")
    assert isinstance(row.ckpt_path, str)
    assert verify_checkpoint(root / row.ckpt_path).step == completed.best_step
    assert row.val_metrics["accuracy"] == completed.results["validation"].metrics.accuracy
    assert row.test_metrics["accuracy"] == completed.results["test"].metrics.accuracy
    assert {kept.path for kept in row.checkpoints} == {
        path.relative_to(root).as_posix() for path in list_checkpoints(completed.run.checkpoints)
    }
    assert row.config["training"]["batch_size"] == 8


def test_the_best_checkpoint_is_the_one_with_the_best_validation(completed: RunResult) -> None:
    validations = [r for r in read_records(completed.run.metrics) if r["kind"] == "validation"]
    assert len(validations) == 4
    best = max(validations, key=lambda record: (record["accuracy"], -record["loss"]))
    assert completed.best_step == best["step"]
    assert completed.results["validation"].metrics.accuracy == best["accuracy"]


def test_metrics_hold_no_step_twice_and_grow(completed: RunResult) -> None:
    records = read_records(completed.run.metrics)
    for kind in ("train", "validation"):
        steps = [record["step"] for record in records if record["kind"] == kind]
        assert steps == sorted(set(steps))
        assert steps


def test_the_saved_weights_are_those_of_the_checkpoint(completed: RunResult) -> None:
    saved = load_file(completed.run.model / "model.safetensors")
    kept = load_file(completed.run.checkpoint(completed.best_step) / "model.safetensors")
    assert saved.keys() == kept.keys()
    assert all(torch.equal(saved[name], kept[name]) for name in saved)
    assert completed.weights_sha256 == sha256_file(completed.run.model / "model.safetensors")


def test_the_same_configuration_gives_the_same_run(completed: RunResult, small_model: Path, tmp_path: Path) -> None:
    again = small_run(tmp_path, small_model)
    assert again.weights_sha256 == completed.weights_sha256
    np.testing.assert_array_equal(again.results["test"].probabilities, completed.results["test"].probabilities)
    one, other = (read_manifest(result.run).fingerprints for result in (again, completed))
    assert {**one, "config": ""} == {**other, "config": ""}  # The paths of the two are not the same.


def test_a_missing_test_split_has_a_reason(small_model: Path, tmp_path: Path) -> None:
    result = small_run(tmp_path, small_model, "data.test_path=null", "training.epochs=1")
    written = json.loads(result.run.evaluation.read_text())
    assert set(written["test"]) == {"missing"}
    assert written["test"]["missing"]
    assert nulls(written) == []
    assert "test" not in result.results
    assert not (result.run.predictions / "test.parquet").exists()
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == "completed"
    assert set(row.test_metrics) == {"missing"}


def test_the_text_baseline_can_be_switched_off(small_model: Path, tmp_path: Path) -> None:
    result = small_run(tmp_path, small_model, "evaluation.text_baseline=false", "training.epochs=1")
    written = json.loads(result.run.evaluation.read_text())
    assert "switched off" in written["test"]["baselines"]["text"]["missing"]
    assert not result.run.baseline.exists()


def test_embedded_reviews_need_no_files(tiny_bert: Path, tmp_path: Path) -> None:
    overrides = [
        "data.source=embedded",
        "data.path=null",
        "data.test_path=null",
        "data.text_column=text",
        "data.label_column=label",
        "data.subset.size=64",
        "data.validation.size=32",
        "data.test_size=32",
        "data.max_length=32",
        "training.epochs=1",
        "training.token_budget=auto",
    ]
    result = small_run(tmp_path, tiny_bert, *overrides)
    written = json.loads(result.run.evaluation.read_text())
    assert written["class_names"] == ["negative", "positive"]
    assert (written["val"]["n"], written["test"]["n"]) == (32, 32)
    assert sum(map(sum, written["test"]["confusion_matrix"])) == 32


@pytest.mark.parametrize("kind", ["small_model", "small_bert"])
def test_cached_features_train_the_same_head(
    kind: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    overrides = ("model.freeze=base", "model.dropout=0.3", "training.learning_rate=1e-2")
    cached = small_run(tmp_path / "cached", model, *overrides)
    assert list((own_cache / "features").glob("*.npy"))
    monkeypatch.setattr(prepare_module, "can_cache_features", lambda *arguments: False)
    uncached = small_run(tmp_path / "uncached", model, *overrides)

    one, two = (load_file(result.run.model / "model.safetensors") for result in (cached, uncached))
    encoder = [name for name in one if ".layer." in name or "embeddings" in name]
    assert encoder
    assert all(torch.equal(one[name], two[name]) for name in encoder)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-4, msg=name)
    start = load_file(model / "model.safetensors")
    heads = [name for name in one if name not in encoder and name.split(".", 1)[-1] not in start]
    assert heads


def test_a_second_run_reads_the_features_of_the_first(
    small_model: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_run(tmp_path / "a", small_model, "model.freeze=base", "training.epochs=1")

    def refuse(*arguments: object) -> None:
        raise AssertionError("the encoder ran again")

    monkeypatch.setattr(prepare_module, "first_token_state", refuse)
    second = small_run(tmp_path / "b", small_model, "model.freeze=base", "training.epochs=1")
    assert first.weights_sha256 == second.weights_sha256
    assert features.can_cache_features is not None


def test_frozen_layers_of_the_saved_model_are_the_source_s(small_model: Path, tmp_path: Path) -> None:
    result = small_run(tmp_path, small_model, "model.freeze=1", "training.epochs=1")
    before, after = load_file(small_model / "model.safetensors"), load_file(result.run.model / "model.safetensors")
    after = {name.removeprefix("distilbert."): tensor for name, tensor in after.items()}
    frozen = [name for name in before if "embeddings" in name or ".layer.0." in name]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["transformer.layer.1.ffn.lin1.weight"], after["transformer.layer.1.ffn.lin1.weight"])


# Failures are reported and recorded.


def _only_run(root: Path) -> RunDirectory:
    (run,) = list_runs(root)
    return run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=nowhere.csv"], "nowhere.csv"),
        (["data.label_column=stars"], "stars"),
        (["data.class_names=[bad, great]"], "good"),
        (["data.subset.size=500"], "data.subset.size is 500"),
        (["data.validation.size=60"], "data.validation.size"),
        (["model.name=no-such/model"], "no-such/model"),
        (["model.freeze=9"], "model.freeze"),
        (["training.class_weights=[1.0, 2.0, 3.0]"], "class_weights"),
        (["data.max_length=1000"], "data.max_length=1000"),
        (
            ["data={source: rotten_tomatoes, max_length: 16}"],
            "evaluation only",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_input_that_can_t_be_used_is_refused_with_a_reason_and_leaves_nothing(
    overrides: list[str], message: str, small_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        small_run(tmp_path, small_model, *overrides)
    assert not (tmp_path / "runs").exists()


def test_a_failure_after_the_start_leaves_a_row_with_the_reason(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker that is installed, but can't be imported."""
    monkeypatch.setattr(prepare_module, "missing_trackers", lambda names: [])
    message = "swanlab"
    with pytest.raises(UserError, match=message):
        small_run(tmp_path, small_model, "training.trackers=[swanlab]")
    run = _only_run(tmp_path / "runs")
    manifest = read_manifest(run)
    assert manifest.status == "failed"
    assert message in str(manifest.error)
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == "failed"
    assert message in str(row.error)
    assert set(row.val_metrics) == {"missing"}
    assert not run.model.exists()


def test_a_failure_in_the_middle_is_a_failed_run(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise TenorError("the loss of a batch is nan")

    monkeypatch.setattr(train_module, "save_model", fail)
    with pytest.raises(TenorError):
        small_run(tmp_path, small_model, "training.epochs=1")
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == "failed"
    assert "nan" in str(row.error)
    assert read_manifest(_only_run(tmp_path / "runs")).status == "failed"


def test_an_unexpected_error_is_recorded_and_raised_to_the_caller(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(train_module, "show_overview", fail)
    with pytest.raises(ZeroDivisionError):
        small_run(tmp_path, small_model)
    (row,) = read_summary(tmp_path / "runs")
    assert (row.status, row.error) == ("failed", "ZeroDivisionError: a defect")


def test_diverging_training_fails(small_model: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, small_model, "training.learning_rate=10.0", "training.max_grad_norm=null")
    run_config = config.model_copy(
        update={"training": config.training.model_copy(update={"learning_rate": 1e30, "epochs": 4})}
    )
    with pytest.raises(TenorError, match="the loss of a batch is nan, expected a finite number"):
        train(run_config, tmp_path / "runs", quiet())
    assert read_manifest(_only_run(tmp_path / "runs")).status == "failed"


def test_a_tracker_that_can_t_close_hides_no_error_and_loses_no_finding(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ConnectionError("no route to the server")

    def diverge(*arguments: object) -> None:
        raise TenorError("training can't go on")

    monkeypatch.setattr(TensorBoardTracker, "finish", fail)
    monkeypatch.setattr(train_module, "fit", diverge)
    console = quiet()
    with pytest.raises(TenorError, match="can't go on"):
        train(small_config(tmp_path, small_model, "training.trackers=[tensorboard]"), tmp_path / "runs", console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "tensorboard did not close: no route to the server; metrics.jsonl contains" in shown
    occasions = read_json(_only_run(tmp_path / "runs").findings)["stages"]
    assert [one["stage"] for one in occasions][-1] == "training"


def test_the_overview_lists_unused_settings(small_model: Path, tmp_path: Path) -> None:
    console = quiet()
    overrides = ("data.truncation=tail", "data.head_share=0.3", "training.epochs=1", "evaluation.text_baseline=false")
    train(small_config(tmp_path, small_model, *overrides), tmp_path / "runs", console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\ndata.head_share=0.3 has no effect: data.truncation is tail\n" in shown
    assert shown.count("has no effect") == 1


def test_a_run_shorter_than_a_record_shows_its_loss(small_model: Path, tmp_path: Path) -> None:
    console = quiet()
    config = small_config(tmp_path, small_model, "training.epochs=1", "data.subset.size=24", "training.log_every=10")
    result = train(config, tmp_path / "runs", console)
    (record,) = [record for record in read_records(result.run.metrics) if record["kind"] == "train"]
    assert record["step"] == 3
    assert 0 < record["loss"] < 5
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    # Of the first step at once, and of the whole run at its end.
    assert re.search(r"^step 1/3  loss \d\.\d{3}  [\d,]+ tokens/s  \d+:\d\d left$", shown, re.MULTILINE)
    last = r"^step 3/3  loss (\d\.\d{3})  lr \d\.\de-\d\d  [\d,]+ tokens/s  0:00 left$"
    (output,) = re.findall(last, shown, re.MULTILINE)
    assert output == f"{record['loss']:.3f}"


def test_a_label_column_of_strings_names_the_classes(completed: RunResult) -> None:
    assert json.loads(completed.run.evaluation.read_text())["class_names"] == ["bad", "good"]


def test_a_csv_that_changed_is_other_data(small_model: Path, tmp_path: Path, completed: RunResult) -> None:
    config = small_config(tmp_path, small_model, "training.epochs=1")
    write_csv(tmp_path / "train.csv", 62)
    again = train(config, tmp_path / "runs", quiet())
    assert read_manifest(again.run).fingerprints["data"] != read_manifest(completed.run).fingerprints["data"]
