"""An interrupted run resumes to the result of an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from same_end import differences, tensorboard, timeless
from small_runs import quiet, small_config, small_run, write_config
from tenor.errors import InterruptedRunError, TenorError, UserError
from tenor.runs.directory import RunDirectory, list_runs, locked
from tenor.runs.manifest import read_manifest, update_manifest
from tenor.runs.step_records import read_records
from tenor.runs.summary import read_summary
from tenor.training import checkpoint as checkpoint_module
from tenor.training.checkpoint import FILES, MANIFEST, list_checkpoints
from tenor.training.recorder import Recorder
from tenor.workflows.train import RunResult, resume, train


def assert_same_end(resumed: RunDirectory, whole: RunDirectory) -> None:
    """Weights, checkpoints, records, predictions and numbers agree to the bit."""
    assert [name for name in differences(resumed, whole) if name != "tensorboard"] == []


class Killed(BaseException):
    """As a process that is killed: nothing may catch it and tidy up."""


def _kill_at_record(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Die when the record `number` (from 1) has been written."""
    real, calls = Recorder.record, []

    def record(self: Recorder, kind: str, step: int, **values: float) -> None:
        real(self, kind, step, **values)
        calls.append(step)
        if len(calls) == number:
            raise Killed

    monkeypatch.setattr(Recorder, "record", record)


def _killed(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, at_record: int) -> RunDirectory:
    with monkeypatch.context() as patch:
        _kill_at_record(patch, at_record)
        with pytest.raises(Killed):
            small_run(folder, model)
    (run,) = list_runs(folder / "runs")
    return run


@pytest.mark.parametrize("at_record", [1, 4, 10])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    at_record: int, completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _killed(tmp_path, small_model, monkeypatch, at_record)
    result = resume("latest", tmp_path / "runs", quiet())
    assert result.run.run_id == run.run_id
    assert_same_end(run, completed.run)
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == "completed"
    assert read_manifest(run).status == "completed"


def test_a_signal_leaves_an_interrupted_run_that_can_be_resumed(
    completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Recorder.record

    def record(self: Recorder, kind: str, step: int, **values: float) -> None:
        real(self, kind, step, **values)
        if (kind, step) == ("train", 4):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", record)
        with pytest.raises(InterruptedRunError, match="SIGTERM after step 4"):
            small_run(tmp_path, small_model, "training.trackers=[tensorboard]")
    (run,) = list_runs(tmp_path / "runs")
    (row,) = read_summary(tmp_path / "runs")
    assert read_manifest(run).status == row.status == "interrupted"
    resume(run.run_id, tmp_path / "runs", quiet())
    assert_same_end(run, completed.run)
    shown = tensorboard(run)
    assert shown == tensorboard(completed.run)
    assert [step for step, _ in shown["validation/confusion"]] == [3, 6, 9, 12]
    for events in shown.values():
        assert len({step for step, _ in events}) == len(events)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(
    name: str, damage: str, completed: RunResult, copied: RunDirectory
) -> None:
    from tenor.workflows.train import newest_checkpoint

    *_, before, newest = list_checkpoints(copied.checkpoints)
    file = newest / name
    match damage:
        case "flip":
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        case "truncate":
            os.truncate(file, file.stat().st_size // 2)
        case "delete":
            file.unlink()
    console = quiet()
    found = newest_checkpoint(copied, console)
    assert found is not None
    assert found.path == before
    message = console.file.getvalue()  # type: ignore[attr-defined]
    assert "damaged checkpoint" in message
    assert str(newest) in message


def test_a_run_with_a_damaged_newest_checkpoint_ends_the_same(
    completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _killed(tmp_path, small_model, monkeypatch, 8)
    newest = list_checkpoints(run.checkpoints)[-1]
    (newest / "optimizer.safetensors").write_bytes(b"")
    (run.checkpoints / ".tmp-0123-step-000099").mkdir()  # As a process leaves it that is killed while it writes.
    console = quiet()
    resume("latest", tmp_path / "runs", console)
    assert "damaged checkpoint" in console.file.getvalue()  # type: ignore[attr-defined]
    assert list(run.path.rglob(".tmp-*")) == []
    assert_same_end(run, completed.run)


def test_a_run_whose_checkpoints_are_all_damaged_starts_over(
    completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _killed(tmp_path, small_model, monkeypatch, 8)
    for path in list_checkpoints(run.checkpoints):
        (path / "model.safetensors").unlink()
    resume("latest", tmp_path / "runs", quiet())
    assert_same_end(run, completed.run)


def test_a_damaged_best_checkpoint_is_reported(
    completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest is whole, but the best one, which the end of the run needs, is not."""
    run = _killed(tmp_path, small_model, monkeypatch, 8)
    newest = list_checkpoints(run.checkpoints)[-1]
    best = run.checkpoint(json.loads((newest / "state.json").read_text())["best"]["step"])
    assert best != newest
    (best / "model.safetensors").unlink()
    console = quiet()
    resume("latest", tmp_path / "runs", console)
    assert best.name in console.file.getvalue()  # type: ignore[attr-defined]
    assert_same_end(run, completed.run)


def test_a_full_disk_fails_the_run_and_it_resumes_when_there_is_space(
    completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint_module.save_file

    def full(tensors: Any, path: Path, **options: Any) -> None:
        if "step-000008" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "save_file", full)
        with pytest.raises(TenorError, match="No space left"):
            small_run(tmp_path, small_model)
    (run,) = list_runs(tmp_path / "runs")
    assert read_manifest(run).status == "failed"
    resume("latest", tmp_path / "runs", quiet())
    assert_same_end(run, completed.run)


def test_a_complete_run_is_not_resumed(copied: RunDirectory) -> None:
    with pytest.raises(UserError, match="is complete"):
        resume("latest", copied.path.parent.parent, quiet())


def test_a_run_under_way_is_not_resumed(copied: RunDirectory) -> None:
    update_manifest(copied, status="running")
    with locked(copied), pytest.raises(UserError, match="locked by another process"):
        resume("latest", copied.path.parent.parent, quiet())
    parent = psutil.Process(os.getppid())
    update_manifest(copied, pid=parent.pid, pid_born=parent.create_time())
    with pytest.raises(UserError, match="still running as process"):
        resume("latest", copied.path.parent.parent, quiet())


def test_an_unknown_run_is_reported_with_the_existing_ones(copied: RunDirectory) -> None:
    with pytest.raises(UserError, match=copied.run_id):
        resume("2099", copied.path.parent.parent, quiet())


def test_data_that_changed_since_is_refused(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _killed(tmp_path, small_model, monkeypatch, 4)
    csv = tmp_path / "train.csv"
    csv.write_text(csv.read_text().replace("film 3 ", "movie 3 "))
    with pytest.raises(UserError, match="data changed"):
        resume("latest", tmp_path / "runs", quiet())


@pytest.mark.slow
def test_early_stopping_continues_after_an_interruption(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("training.learning_rate=0.0", "training.patience=3", "training.epochs=5")
    whole = small_run(tmp_path / "whole", small_model, *overrides)
    with monkeypatch.context() as patch:
        _kill_at_record(patch, 6)
        with pytest.raises(Killed):
            small_run(tmp_path / "cut", small_model, *overrides)
    result = resume("latest", tmp_path / "cut" / "runs", quiet())
    assert timeless(result.run) == timeless(whole.run)
    validations = [r for r in timeless(whole.run) if r["kind"] == "validation"]
    assert len(validations) == 4


# Real processes.


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tenor.cli.main", *arguments, "--runs", "runs"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        records = [r for file in folder.glob("runs/*/*/metrics.jsonl") for r in read_records(file)]
        if any(record["step"] >= step for record in records):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("no such step within a minute")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_resumed_exactly(number: signal.Signals, small_model: Path, tmp_path: Path) -> None:
    overrides = ["training.epochs=12"]
    config = write_config(tmp_path, small_model)
    whole = train(small_config(tmp_path, small_model, *overrides), tmp_path / "whole", quiet())
    process = _start(tmp_path, "train", str(config), *overrides)
    _wait_for_step(tmp_path, 20, process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    (run,) = list_runs(tmp_path / "runs")
    if number == signal.SIGTERM:
        assert process.returncode == 130, output
        assert "--resume" in output
        assert read_manifest(run).status == "interrupted"
    else:
        assert process.returncode == -signal.SIGKILL
        assert read_manifest(run).status == "running"
    assert not run.evaluation.exists()

    again = _start(tmp_path, "train", "--resume", "latest")
    assert again.wait(timeout=120) == 0, again.communicate()[0]
    assert_same_end(run, whole.run)
    assert np.isfinite([r["loss"] for r in read_records(run.metrics)]).all()
