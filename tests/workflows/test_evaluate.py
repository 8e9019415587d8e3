"""A saved model that is evaluated again gives the stored results; a changed model is refused."""

import json
from pathlib import Path

import pytest
import torch

from small_runs import nulls, quiet, small_run, write_csv
from tenor.config.loading import load_config
from tenor.config.schema import Data
from tenor.console.run import show_evaluation
from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.workflows.evaluate import MODEL_KEYS, EvaluationResult, config_for_rows, evaluate, evaluation_record
from tenor.workflows.train import RunResult


def _evaluate(run: RunDirectory, *overrides: str, split: str = "test") -> EvaluationResult:
    return evaluate(str(run.path), overrides, split, console=quiet())


@pytest.mark.parametrize(("split", "key"), [("test", "test"), ("validation", "val")])
def test_the_run_s_own_rows_give_the_stored_numbers(split: str, key: str, completed: RunResult) -> None:
    record = evaluation_record(_evaluate(completed.run, split=split))
    stored = json.loads(completed.run.evaluation.read_text())[key]
    found = record["result"]
    assert found["accuracy"] == stored["accuracy"]
    assert found["confusion_matrix"] == stored["confusion_matrix"]
    assert found["loss"] == pytest.approx(stored["loss"], abs=1e-5)
    assert found["baselines"] == stored["baselines"]
    assert record["checkpoint"] == {"digest": completed.weights_sha256, "step": completed.best_step}
    assert nulls(record) == []
    json.dumps(record, allow_nan=False)


def test_training_rows_can_be_measured_too(completed: RunResult) -> None:
    found = _evaluate(completed.run, split="train")
    assert found.result.metrics.n == 44


def test_other_data_of_the_same_classes(completed: RunResult) -> None:
    overrides = ("data.source=rotten_tomatoes", "data.test_size=40", "data.class_names=[bad, good]")
    found = _evaluate(completed.run, *overrides)
    assert found.result.metrics.n == 40
    assert "otten" in found.origin
    assert found.overrides == overrides
    assert completed.run.config.read_text().count("rotten") == 0


@pytest.mark.slow
def test_all_rows_of_another_source_are_measured(small_model: Path, tmp_path: Path) -> None:
    """The README's form, on a run that measured 20 of its own test rows alone."""
    smoke = "data={source: embedded, subset: {size: 40}, validation: {size: 20}, test_size: 20, max_length: 16}"
    few = ("training.epochs=1", "training.token_budget=auto", "evaluation.text_baseline=false")
    small_run(tmp_path, small_model, smoke, *few)
    found = evaluate("latest", ["data.source=rotten_tomatoes"], root=tmp_path / "runs", console=quiet())
    assert found.result.metrics.n == 8530
    assert found.lengths[0].max() > 16
    assert (found.lengths[0] - found.lengths[1]).max() == 16


@pytest.mark.parametrize("source", ["rotten_tomatoes", "embedded", "imdb", "sst2"])
def test_another_source_keeps_only_the_truncation_settings(source: str, copied: RunDirectory) -> None:
    written = copied.config.read_text()
    copied.config.write_text(
        written.replace("test_size: null", "test_size: 5").replace("id_column: null", "id_column: n")
    )
    recorded = load_config(copied.config).data
    assert (recorded.test_size, recorded.id_column, recorded.max_length) == (5, "n", 16)
    found = config_for_rows(copied, [f"data.source={source}", "data.validation.size=7"]).data
    kept = {name: getattr(recorded, name) for name in MODEL_KEYS}
    assert found == Data.model_validate({"source": source, "validation": {"size": 7}, **kept})


def test_the_same_source_keeps_the_run_s_settings(completed: RunResult) -> None:
    overrides = ["data.source=file", "data.path=other.csv"]
    found = config_for_rows(completed.run, overrides).data
    assert found == completed.config.data.model_copy(update={"path": "other.csv"})


def test_another_file(completed: RunResult, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "other.csv", 8, start=300)
    found = _evaluate(completed.run, f"data.test_path={other}")
    assert found.result.metrics.n == 8
    assert "other.csv" in found.origin


def test_all_rows_of_a_file_whatever_the_run_s_own_data_were(completed: RunResult, tmp_path: Path) -> None:
    other = write_csv(tmp_path / 'a "quoted": name.csv', 8, start=300)
    found = evaluate(str(completed.run.path), ["data.test_size=null"], console=quiet(), file=other)
    assert found.result.metrics.n == 8
    one_class = tmp_path / "numbers.csv"
    one_class.write_text("review,verdict\nfilm 3 was superb,1\nfilm 5 was funny,1\n")
    assert evaluate(str(completed.run.path), console=quiet(), file=one_class).result.labels.tolist() == [1, 1]
    with pytest.raises(UserError, match="leave out --split validation"):
        evaluate(str(completed.run.path), split="validation", console=quiet(), file=other)


def test_other_classes_are_refused(completed: RunResult, tmp_path: Path) -> None:
    train, test = (write_csv(tmp_path / name, 8, labels=("no", "yes")) for name in ("a.csv", "b.csv"))
    with pytest.raises(UserError, match=r"has the classes bad, good; .* has no, yes"):
        _evaluate(completed.run, f"data.path={train}", f"data.test_path={test}")


def test_classes_are_the_model_s_whatever_their_case(completed: RunResult, tmp_path: Path) -> None:
    same = write_csv(tmp_path / "same.csv", 8)
    expected = _evaluate(completed.run, f"data.path={same}", f"data.test_path={same}").result
    other = write_csv(tmp_path / "other.csv", 8, labels=("bad ", "Good"))  # "Good" sorts before "bad".
    found = _evaluate(completed.run, f"data.path={other}", f"data.test_path={other}")
    assert found.rows.class_names == ("bad", "good")
    assert found.result.labels.tolist() == expected.labels.tolist()
    assert found.result.metrics.accuracy == expected.metrics.accuracy


def test_settings_of_the_model_are_not_overridden(completed: RunResult) -> None:
    with pytest.raises(UserError, match=r"only the overrides data\.…, evaluation\.token_budget, training\.device"):
        _evaluate(completed.run, "model.name=minilm")


def test_a_run_from_a_gpu_is_measured_without_one(copied: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    written = copied.config.read_text()
    assert "device: cpu" in written
    copied.config.write_text(written.replace("device: cpu", "device: cuda"))
    with pytest.raises(UserError, match=r"cuda is not available here.*Set training\.device=auto"):
        _evaluate(copied)
    assert len(_evaluate(copied, "training.device=auto").rows) > 0


@pytest.mark.parametrize("override", ["data.max_length=32", "data.truncation=head", "data.head_share =0.1"])
def test_truncation_overrides_are_refused(override: str, completed: RunResult) -> None:
    with pytest.raises(UserError, match=f"truncates texts as in training; observed '{override}'"):
        _evaluate(completed.run, "data.test_size=4", override)


def test_a_run_without_a_test_split_says_why(completed: RunResult) -> None:
    with pytest.raises(UserError, match="--split validation"):
        _evaluate(completed.run, "data.test_path=null")


@pytest.mark.parametrize("at", [0, 100, -1])
def test_weights_that_were_tampered_with_are_refused(at: int, copied: RunDirectory) -> None:
    file = copied.model / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="no known quality"):
        _evaluate(copied)


def test_a_run_that_did_not_complete_has_no_model(copied: RunDirectory) -> None:
    import shutil

    shutil.rmtree(copied.model)
    with pytest.raises(UserError, match="no saved model"):
        _evaluate(copied)


def test_a_run_without_a_text_baseline_says_so(copied: RunDirectory) -> None:
    import shutil

    shutil.rmtree(copied.baseline)
    record = evaluation_record(_evaluate(copied))
    assert "missing" in record["result"]["baselines"]["text"]


def test_the_output_names_the_weights(completed: RunResult) -> None:
    console = quiet()
    show_evaluation(console, _evaluate(completed.run))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert completed.weights_sha256 in shown.replace("\n", "").replace(" ", "")
    assert "majority class" in shown
