"""Several configurations: a failure does not affect the others."""

import io
import json
import weakref
from pathlib import Path

import pytest
from rich.console import Console

from small_runs import quiet, write_config
from tenor.cli.main import main
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.console.run_list import experiments_table
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError, run_of
from tenor.runs.directory import list_runs
from tenor.runs.findings import read_findings
from tenor.runs.summary import read_summary
from tenor.workflows import experiments as module
from tenor.workflows import train as train_module
from tenor.workflows.experiments import run_experiments
from tenor.workflows.prepare import Prepared
from tenor.workflows.train import RunResult

pytestmark = pytest.mark.slow

SHORT = ["training.epochs=1", "evaluation.text_baseline=false"]


def _two(tmp_path: Path, model: Path) -> list[str]:
    """A configuration that fails, and one that doesn't."""
    bad = write_config(tmp_path / "bad", model, name="broken")
    bad.write_text(bad.read_text().replace("label_column: verdict", "label_column: stars"))
    return [str(bad), str(write_config(tmp_path / "good", model))]


def test_a_failed_configuration_is_reported_and_the_next_one_runs(small_model: Path, tmp_path: Path) -> None:
    console = quiet()
    rows = run_experiments(_two(tmp_path, small_model), SHORT, tmp_path / "runs", console)
    assert [(row.config_name, row.status) for row in rows] == [("broken", "failed"), ("small", "completed")]
    assert "broken did not complete" in console.file.getvalue()  # type: ignore[attr-defined]
    assert read_summary(tmp_path / "runs") == rows[1:], "what could not be read left something"
    assert "stars" in str(rows[0].error)

    out = Console(file=io.StringIO(), width=200)
    out.print(experiments_table(rows))
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert "stars" in shown
    assert f"{rows[1].val_metrics['accuracy']:.2%}" in shown


def test_memory_of_a_run_is_freed_before_the_next_starts(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, models = train_module.prepare, []

    def watched(*arguments: object, **options: object) -> Prepared:
        assert all(model() is None for model in models)
        prepared: Prepared = real(*arguments, **options)  # type: ignore[arg-type]
        models.append(weakref.ref(prepared.classifier.model))
        return prepared

    monkeypatch.setattr(train_module, "prepare", watched)
    config = str(write_config(tmp_path, small_model))
    rows = run_experiments([config, config], SHORT, tmp_path / "runs", quiet())
    assert [row.status for row in rows] == ["completed", "completed"]
    assert len(models) == 2


def test_a_bug_in_one_run_does_not_end_the_others(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module.train, []

    def fragile(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError("a defect")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train", fragile)
    config = str(write_config(tmp_path, small_model))
    console = quiet()
    rows = run_experiments([config, config], SHORT, tmp_path / "runs", console)
    assert [(row.config_name, row.status) for row in rows] == [("small", "failed"), ("small", "completed")]
    assert rows[0].error == "ZeroDivisionError: a defect"
    assert rows[0].config == rows[1].config
    assert read_summary(tmp_path / "runs") == rows[1:], "what was no run stands among the runs"
    assert "Traceback" in console.file.getvalue(), "a defect is not shown whole"  # type: ignore[attr-defined]


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_before_a_run_starts_is_reported_by_the_command(
    as_json: bool,
    small_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def defective(*arguments: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(module, "train", defective)
    config = str(write_config(tmp_path, small_model))
    options = ["--runs", str(tmp_path / "runs"), *(["--json"] if as_json else [])]
    assert main(["experiments", config, *options]) == 1
    shown = capsys.readouterr().out
    if as_json:
        (row,) = json.loads(shown)
        assert (row["config_name"], row["status"]) == ("small", "failed")
        assert row["error"] == "ZeroDivisionError: a defect"
        assert row["config"]["name"] == "small"
    else:
        assert all(word in shown for word in ("small", "failed", "ZeroDivisionError: a defect"))
    assert not (tmp_path / "runs" / "experiments_summary.json").exists()


def test_a_configuration_that_can_t_be_read_ends_it_before_anything_runs(small_model: Path, tmp_path: Path) -> None:
    config = str(write_config(tmp_path, small_model))
    with pytest.raises(UserError, match="epoch"):
        run_experiments([config], ["training.epoch=1"], tmp_path / "runs", quiet())
    with pytest.raises(UserError):
        run_experiments([config, "no-such-config"], [], tmp_path / "runs", quiet())
    assert list_runs(tmp_path / "runs") == []


def test_an_interrupt_ends_all_runs(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        raise InterruptedRunError("SIGINT after step 1, which was checkpointed")

    monkeypatch.setattr(module, "train", interrupted)
    config = str(write_config(tmp_path, small_model))
    with pytest.raises(InterruptedRunError):
        run_experiments([config, config], [], tmp_path / "runs", quiet())
    assert len(calls) == 1


def test_earlier_runs_are_not_among_the_rows(small_model: Path, tmp_path: Path) -> None:
    config = str(write_config(tmp_path, small_model))
    (first,) = run_experiments([config], SHORT, tmp_path / "runs", quiet())
    (second,) = run_experiments([config], SHORT, tmp_path / "runs", quiet())
    assert first.run_id != second.run_id
    assert len(read_summary(tmp_path / "runs")) == 2


def test_a_run_of_another_process_with_the_same_configuration_is_not_among_the_rows(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, root = module.train, tmp_path / "runs"

    def with_a_second_process(config: Config, *arguments: object) -> RunResult:
        real(config, root, quiet())  # Its run starts and ends meanwhile, in the same root.
        return real(config, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train", with_a_second_process)
    rows = run_experiments([str(write_config(tmp_path, small_model))], SHORT, root, quiet())
    other, own = read_summary(root)
    assert rows == [own]
    assert other.config == own.config


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError("a defect"), "failed"),
        (TenorError("the loss is not a number"), "failed"),
        (RefusedError("stopped by a check"), "refused"),
    ],
)
def test_an_error_carries_its_run(
    error: Exception, status: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    config = load_config(str(write_config(tmp_path, small_model)), SHORT)
    train_module.train(config, tmp_path / "runs", quiet())
    monkeypatch.setattr(train_module, "fit_with_checks", fail)
    with pytest.raises(type(error)) as caught:
        train_module.train(config, tmp_path / "runs", quiet())
    _, failed = list_runs(tmp_path / "runs")
    assert run_of(caught.value) == failed.path
    (row,) = run_experiments([str(write_config(tmp_path, small_model))], SHORT, tmp_path / "runs", quiet())
    assert row == read_summary(tmp_path / "runs")[-1]
    assert (row.status, row.error) == (status, f"{type(error).__name__}: {error}")


def test_a_failure_before_there_is_a_run_carries_none(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        train_module.train(load_config(_two(tmp_path, small_model)[0], SHORT), tmp_path / "runs", quiet())
    assert caught.value.run is None


def test_a_completed_run_has_the_findings_of_all_its_stages(small_model: Path, tmp_path: Path) -> None:
    config = load_config(str(write_config(tmp_path, small_model)), SHORT)
    result = train_module.train(config, tmp_path / "runs", quiet())
    reports = read_findings(result.run.findings)
    assert result.findings == tuple(finding for report in reports for finding in report.findings)
