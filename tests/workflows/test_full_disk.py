"""A disk that is full at any write ends the run with one clear error; with space, it resumes to the same result."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import Commands
from same_end import differences
from small_runs import quiet, small_run, write_config
from tenor.cli.main import main
from tenor.errors import TenorError
from tenor.runs import files
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary
from tenor.workflows.train import RunResult, resume


def fill_up(patch: pytest.MonkeyPatch, at_write: int) -> None:
    """From the write number `at_write` on, nothing more reaches the disk."""
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        seen.append(descriptor)
        if len(seen) >= at_write:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    patch.setattr(files.os, "fsync", fsync)


SLOW = pytest.mark.slow
# A small run flushes some 146 times: its first record, a checkpoint, the model, the summary, its last manifest.
MOMENTS = [14, pytest.param(60, marks=SLOW), 119, pytest.param(143, marks=SLOW), pytest.param(145, marks=SLOW)]


@pytest.mark.parametrize("at_write", MOMENTS)
def test_a_full_disk_is_one_error_and_the_run_can_be_resumed(
    at_write: int, completed: RunResult, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fill_up(patch, at_write)
        with pytest.raises(TenorError, match="No space left on device") as caught:
            small_run(tmp_path, small_model)
    assert "--resume" in str(caught.value)
    (run,) = list_runs(tmp_path / "runs")
    resume("latest", tmp_path / "runs", quiet())
    assert [name for name in differences(run, completed.run) if name != "tensorboard"] == []
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == read_manifest(run).status == "completed"


def test_a_failed_run_names_the_checkpoints_that_it_left(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenor.workflows import train as module

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/model/model.safetensors")

    monkeypatch.setattr(module, "save_model", fail)
    with pytest.raises(TenorError, match=r"runs/model/model\.safetensors: No space left"):
        small_run(tmp_path, small_model)
    (run,) = list_runs(tmp_path / "runs")
    (row,) = read_summary(tmp_path / "runs")
    assert row.status == read_manifest(run).status == "failed"
    assert [kept.step for kept in row.checkpoints] == sorted(
        int(path.name.removeprefix("step-")) for path in run.checkpoints.iterdir()
    )
    assert all(kept.digest for kept in row.checkpoints)


def test_a_command_that_may_not_write_says_where(
    small_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, small_model)
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    assert main(["train", str(config), "--runs", str(tmp_path / "runs")]) == 1
    message = capsys.readouterr().err
    assert f"tenor: {tmp_path / 'cache'}" in message
    assert not (tmp_path / "runs").exists()


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from tenor.cli import train

    def defect(options: object) -> int:
        raise FileNotFoundError(errno.ENOENT, "no such file", "something of Tenor's own")

    monkeypatch.setattr(train, "run", defect)
    with pytest.raises(FileNotFoundError):
        main(["train", "smoke"])


# A real file system of a given size.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 1 MiB at first."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85, 0.97])
def test_a_real_file_system_that_is_full(
    share: float, small_disk: Path, commands: Commands, completed: RunResult, small_model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    config = write_config(place, small_model)
    needed = _kilobytes(completed.run)
    resize(small_disk, max(40, int(share * needed)))
    tracked = "training.trackers=[tensorboard]"
    ended = commands.run(place, "train", str(config), tracked, "--runs", str(small_disk / "runs"))
    assert ended.status == 1, ended.output
    assert "Traceback" not in ended.output
    assert "No space left on device" in ended.output
    resize(small_disk, 4 * needed)
    (run,) = list_runs(small_disk / "runs")
    resumed = commands.run(place, "train", "--resume", str(run.path))
    assert resumed.status == 0, resumed.output
    assert differences(run, completed.run) == []


def _kilobytes(run: RunDirectory) -> int:
    """What the files of a run take in pages of 4 KiB, with the folders."""
    return sum(4 * -(-path.stat().st_size // 4096) + 4 for path in run.path.rglob("*"))
