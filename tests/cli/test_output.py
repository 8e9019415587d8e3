"""What the commands print: JSON on stdout and everything else on stderr."""

import io
import json
from pathlib import Path

import pytest

import tenor
from commands import Command
from small_runs import write_config
from tenor.config import builtin_names, load_config
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.files import read_json
from tenor.runs.manifest import read_manifest, update_manifest
from tenor.runs.summary import read_summary
from tenor.workflows.train import RunResult

SHORT = ["training.epochs=1", "evaluation.text_baseline=false"]


def test_training_prints_only_json_on_stdout(command: Command, small_model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, small_model)
    ended = command("train", str(config), *SHORT, "--json", "--runs", "elsewhere")
    assert ended.status == 0
    printed = json.loads(ended.out)
    (run,) = list_runs(tmp_path / "elsewhere")
    assert printed["run"].endswith(run.run_id)
    assert printed["test"] == read_json(run.evaluation)["test"]
    assert "validation accuracy" in ended.err


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_options_may_stand_anywhere_among_the_settings(
    place: str, command: Command, small_model: Path, tmp_path: Path
) -> None:
    config, options = str(write_config(tmp_path, small_model)), ["--runs", "elsewhere"]
    arguments = {
        "before": [*options, config, *SHORT],
        "between": [config, SHORT[0], *options, SHORT[1]],
        "after": [config, *SHORT, *options],
    }[place]
    ended = command("train", *arguments)
    assert ended.status == 0, ended.err
    (run,) = list_runs(tmp_path / "elsewhere")
    assert load_config(run.config) == load_config(config, SHORT)


def test_without_json_stdout_stays_clean(command: Command, small_model: Path, tmp_path: Path) -> None:
    ended = command("train", str(write_config(tmp_path, small_model)), *SHORT)
    assert ended.status == 0
    assert ended.out == ""
    assert "eval_best_model.json" in ended.err.replace("\n", "")


def test_a_run_is_resumed_by_its_name(
    command: Command, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.training.recorder import Recorder

    real = Recorder.record

    def interrupted(self: Recorder, kind: str, step: int, **values: float) -> None:
        real(self, kind, step, **values)
        if step == 4:
            raise KeyboardInterrupt

    config = str(write_config(tmp_path, small_model))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", interrupted)
        assert command("train", config, *SHORT).status == 130
    (run,) = list_runs(tmp_path / "runs")
    assert read_manifest(run).status == "interrupted"
    ended = command("train", "--resume", run.run_id, "--json")
    assert ended.status == 0
    assert "resuming from" in ended.err
    assert json.loads(ended.out)["run"].endswith(run.run_id)
    again = command("train", "--resume", run.run_id)
    assert again.status == 2
    assert "is complete" in again.message


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_settings_without_effect_are_reported_with_the_findings(
    options: tuple[str, ...], command: Command, small_model: Path, tmp_path: Path
) -> None:
    config = str(write_config(tmp_path, small_model))
    ended = command("check", config, "data.truncation=tail", "data.head_share=0.3", *options)
    assert ended.status == 0
    assert "data.head_share=0.3 has no effect: data.truncation is tail\n" in ended.err
    assert "has no effect" not in ended.out
    if options:
        json.loads(ended.out)


def test_evaluate_prints_a_table_or_json(command: Command, completed: RunResult) -> None:
    ended = command("evaluate", str(completed.run.path))
    assert ended.status == 0
    assert "majority class" in ended.out
    ended = command("evaluate", str(completed.run.path), "--json")
    stored = read_json(completed.run.evaluation)
    assert json.loads(ended.out)["result"]["accuracy"] == stored["test"]["accuracy"]


def test_evaluate_refuses_weights_that_changed(command: Command, copied: RunDirectory) -> None:
    file = copied.model / "model.safetensors"
    file.write_bytes(file.read_bytes() + b" ")
    ended = command("evaluate", "latest")
    assert ended.status == 2
    assert "is not what was saved" in ended.message


@pytest.mark.slow
def test_experiments_end_with_1_where_one_failed(command: Command, small_model: Path, tmp_path: Path) -> None:
    good = str(write_config(tmp_path / "good", small_model))
    bad = write_config(tmp_path / "bad", small_model)
    bad.write_text(bad.read_text().replace("label_column: verdict", "label_column: stars"))
    sets = [word for setting in SHORT for word in ("--set", setting)]
    ended = command("experiments", str(bad), good, *sets, "--json")
    assert ended.status == 1
    assert [row["status"] for row in json.loads(ended.out)] == ["failed", "completed"]
    assert len(read_summary(tmp_path / "runs")) == 1


@pytest.mark.slow
def test_experiments_end_with_0_where_all_completed(command: Command, small_model: Path, tmp_path: Path) -> None:
    config = str(write_config(tmp_path, small_model))
    ended = command("experiments", config, "--set", SHORT[0], "--set", SHORT[1])
    assert ended.status == 0
    assert "completed" in ended.out


def test_runs_are_listed(command: Command, copied: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = command("runs")
    assert ended.status == 0
    assert copied.run_id in ended.out
    rows = json.loads(command("runs", "--json").out)
    assert [row["run_id"] for row in rows] == [copied.run_id]


def test_an_empty_folder_of_runs_is_not_an_error(command: Command) -> None:
    ended = command("runs")
    assert ended.status == 0
    assert "no runs in runs" in ended.out
    assert json.loads(command("runs", "--json").out) == []


def test_old_runs_are_pruned_on_request(command: Command, copied: RunDirectory, tmp_path: Path) -> None:
    ended = command("runs", "--prune", "0", "--dry-run")
    assert ended.status == 0
    assert "would remove 1" in ended.out
    assert copied.path.exists()
    assert command("runs", "--prune", "1").status == 0
    assert copied.path.exists()
    ended = command("runs", "--prune", "0", "--json")
    assert json.loads(ended.out) == {"removed": [copied.reference], "still_running": []}
    assert not copied.path.exists()
    assert read_summary(tmp_path / "runs") == []


def test_a_run_that_was_kept_because_it_still_runs_is_named(command: Command, copied: RunDirectory) -> None:
    update_manifest(copied, status="running")
    assert command("runs", "--prune", "1").out == "removed 0 runs\n"
    for options in ((), ("--dry-run",)):
        removed, kept, reference = command("runs", "--prune", "0", *options).out.splitlines()
        assert "0 runs" in removed
        assert kept == "kept 1 that may still be running"
        assert reference == f"  {copied.reference}"
    assert copied.path.exists()


def test_configs_are_listed_and_printed_to_copy(command: Command, tmp_path: Path) -> None:
    listed = command("configs").out
    assert json.loads(command("configs", "--json").out) == list(builtin_names())
    for name in builtin_names():
        assert name in listed
        printed = command("configs", name)
        assert printed.status == 0
        (tmp_path / "mine.yaml").write_text(printed.out)
        assert load_config(tmp_path / "mine.yaml") == load_config(name)
        as_json = json.loads(command("configs", name, "--json").out)
        assert as_json == load_config(name).model_dump(mode="json")


def test_every_setting_is_explained(command: Command) -> None:
    text = command("configs", "--fields").out
    assert "training.learning_rate" in text
    fields = json.loads(command("configs", "--fields", "--json").out)
    assert all(field["doc"] for field in fields)


def test_version(command: Command) -> None:
    ended = command("--version")
    assert (ended.status, ended.out.strip()) == (0, f"tenor {tenor.__version__}")


def test_json_holds_no_nan() -> None:
    from contextlib import redirect_stdout

    from tenor.cli.options import print_json

    with redirect_stdout(io.StringIO()), pytest.raises(ValueError):
        print_json({"loss": float("nan")})


def test_report_names_what_it_wrote(command: Command, copied: RunDirectory, tmp_path: Path) -> None:
    ended = command("report", "latest", "--output", "mine.html")
    assert (ended.status, ended.out, ended.err) == (0, "mine.html\n", "")
    assert (tmp_path / "mine.html").read_text().startswith("<!doctype html>")
    ended = command("report", "runs", "--json")
    assert json.loads(ended.out) == {"report": "runs/index.html"}
    assert copied.run_id in (tmp_path / "runs" / "index.html").read_text()
    assert command("report", "latest", "--output", "runs").status == 2
