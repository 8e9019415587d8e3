"""The launchers themselves: torchrun and accelerate start a run; what they do to it when a process is killed or they
are stopped leaves one message and a checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from small_runs import write_config
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import list_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TORCHRUN = ("torch.distributed.run", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
LONG = ("training.epochs=1000", "training.batch_size=2", "training.evaluate_every=1.0")
"""Far longer than any test waits."""


@contextmanager
def launched(launcher: tuple[str, ...], folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A launcher that runs `tenor WORDS` in `folder`; ended after the block, with all that it started."""
    paths = os.pathsep.join(path for path in sys.path if path)
    with open(folder / "output.txt", "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *launcher, "-m", "tenor", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
            text=True,
        )
        try:
            yield process
        finally:
            for child in workers(process):
                child.kill()
            process.kill()
            process.wait()


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that the launcher started, by rank."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    ranks = {}
    for child in children:
        with_rank = child.environ().get("RANK") if child.is_running() else None
        if with_rank is not None:
            ranks[int(with_rank)] = child
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> RunDirectory:
    for _ in range(1200):
        assert process.poll() is None, output(folder)
        if (runs := list_runs(folder / "runs")) and list_checkpoints(runs[0].checkpoints):
            return runs[0]
        time.sleep(0.1)
    raise AssertionError(output(folder))


def output(folder: Path) -> str:
    return (folder / "output.txt").read_text(encoding="utf-8")


def message(folder: Path) -> str:
    """The only one of its kind, up to what the launcher prints after it."""
    before, found, after = output(folder).partition("\ntenor: ")
    assert found, output(folder)
    assert "\ntenor: " not in after
    assert "Traceback" not in before
    return after.partition("\n")[0]


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE])
def test_a_launcher_starts_a_run(launcher: tuple[str, ...], small_model: Path, tmp_path: Path) -> None:
    with launched(launcher, tmp_path, "train", str(write_config(tmp_path, small_model))) as process:
        assert process.wait(timeout=300) == 0, output(tmp_path)
    (row,) = read_summary(tmp_path / "runs")
    (run,) = list_runs(tmp_path / "runs")
    assert (row.status, read_manifest(run).processes) == ("completed", 2)
    assert output(tmp_path).count("\nResults") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_when_a_process_is_killed_all_end_within_30_seconds(rank: int, small_model: Path, tmp_path: Path) -> None:
    with launched(TORCHRUN, tmp_path, "train", str(write_config(tmp_path, small_model)), *LONG) as process:
        run = wait_for_checkpoint(tmp_path, process)
        others = workers(process)
        others[rank].kill()
        assert process.wait(timeout=30) == 1
        assert not any(other.is_running() for other in others)
    resume = message(tmp_path).partition("Resume with: ")[2]
    assert resume.startswith("torchrun --nproc-per-node 2 -m tenor train --resume ")
    assert resume.endswith(run.run_id)
    # The main process hears of the death by itself, or of torchrun's signal first.
    assert read_manifest(run).status in (("running",) if rank == 0 else ("failed", "interrupted"))
    assert list_checkpoints(run.checkpoints)


def test_a_launcher_that_is_terminated_leaves_a_checkpoint(small_model: Path, tmp_path: Path) -> None:
    with launched(TORCHRUN, tmp_path, "train", str(write_config(tmp_path, small_model)), *LONG) as process:
        run = wait_for_checkpoint(tmp_path, process)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    words = message(tmp_path)
    step = int(words.partition(" after step ")[2].partition(",")[0])
    assert words.startswith("SIGTERM")
    assert (run.checkpoint(step) / "manifest.json").is_file()
    assert read_manifest(run).status == "interrupted"
