"""Workers in separate processes on real runs: trials are shared, and resumed after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forked import Commands, Fault
from sweeps import write_sweep
from tenor.config.sweep import load_sweep
from tenor.runs.directory import find_run, list_runs
from tenor.runs.manifest import read_manifest
from tenor.runs.summary import read_summary
from tenor.workflows.sweep.study import SweepTrial, open_studies, trials_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")]

LONGEST_SECONDS = 600


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`tenor ARGUMENTS` in a process of its own."""
    paths = [str(Path(__file__).parents[3] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tenor.cli.main", *arguments]
    with open(folder / f"output-{len(list(folder.glob('output-*')))}.txt", "w", encoding="utf-8") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, text=True, env=environment)


def trials(folder: Path, count: int) -> list[SweepTrial]:
    plan = load_sweep(folder / "search.yaml", [f"phases.a.trials={count}"])
    return trials_of(plan, "a", open_studies(plan, folder / "runs", join=True)["a"])


def wait_for(path: Path) -> None:
    ends = time.monotonic() + LONGEST_SECONDS
    while not path.exists():
        assert time.monotonic() < ends, f"{path} does not come"
        time.sleep(0.1)


@pytest.mark.parametrize("other", ["runs", "elsewhere"])
def test_two_workers_run_every_trial_once(other: str, small_model: Path, tmp_path: Path) -> None:
    sweep, requested = str(write_sweep(tmp_path, small_model)), "phases.a.trials=8"
    # Of one machine, or of two that share the study alone.
    study = tmp_path / "runs" / "search" / "study.db"
    storage = [] if other == "runs" else [f"storage=sqlite:///{study}"]
    study.parent.mkdir(parents=True)
    first = start(tmp_path, "sweep", sweep, requested, *storage)
    wait_for(tmp_path / "runs" / "search" / "logs")
    second = start(tmp_path, "sweep", sweep, requested, *storage, "--worker", "--runs", other)
    assert [process.wait(LONGEST_SECONDS) for process in (first, second)] == [0, 0]
    found = trials(tmp_path, 8)
    roots = {tmp_path / "runs", tmp_path / other}
    runs = [run for root in roots for run in list_runs(root)]
    assert [trial.status for trial in found] == ["completed"] * 8, "a trial was lost"
    assert {trial.run for trial in found} == {run.reference for run in runs}
    assert len(runs) == len({str(trial.tried) for trial in found}) == 8, "a trial was run twice"
    assert len({read_manifest(run).pid for run in runs}) == 2, "one worker did it all"
    assert all(row.status == "completed" for root in roots for row in read_summary(root))


MOMENTS = {
    "before its run": Fault("tenor.workflows.train.create_run", 2),
    "in training": Fault("tenor.training.loop.set_rates", 18),  # A run has 12 steps and a checkpoint at every second.
    "in evaluation": Fault("tenor.workflows.train.save_model", 2),
    "between its run and the study": Fault("tenor.workflows.sweep.worker.refuse_errors", 2),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_trial_of_a_killed_worker_is_started_again(
    moment: str, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    sweep = str(write_sweep(tmp_path, small_model))
    killed = commands.run(tmp_path, "sweep", sweep, fault=MOMENTS[moment])
    assert killed.status == -signal.SIGKILL, killed.output
    completed, lost = trials(tmp_path, 3)
    assert (completed.status, lost.status) == ("completed", "running")
    ended = commands.run(tmp_path, "sweep", sweep)
    assert ended.status == 0, ended.output
    found = trials(tmp_path, 3)
    assert [trial.status for trial in found] == ["completed"] * 3
    assert found[0] == completed, "what was complete was run again"
    assert (found[1].attempts, found[1].tried) == (2, lost.tried)
    # The interrupted run is resumed; no second one is started.
    assert lost.run in (None, found[1].run)
    assert len(list_runs(tmp_path / "runs")) == 3
    assert read_manifest(find_run(tmp_path / "runs", str(found[1].run))).status == "completed"


def test_a_running_worker_takes_over_the_trial_of_a_killed_one(
    commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    sweep, requested = str(write_sweep(tmp_path, small_model)), "phases.a.trials=6"
    first = start(tmp_path, "sweep", sweep, requested)
    wait_for(tmp_path / "runs" / "search" / "logs")
    killed = commands.run(
        tmp_path, "sweep", sweep, requested, "--worker", fault=Fault("tenor.training.loop.set_rates", 5)
    )
    assert killed.status == -signal.SIGKILL, killed.output
    assert first.wait(LONGEST_SECONDS) == 0
    found = trials(tmp_path, 6)
    assert [trial.status for trial in found] == ["completed"] * 6
    assert sorted(trial.attempts for trial in found) == [1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_is_resumed_exactly(
    number: signal.Signals, commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    sweep = str(write_sweep(tmp_path, small_model))
    fault = Fault("tenor.training.loop.set_rates", 18, number=number)
    stopped = commands.run(tmp_path, "sweep", sweep, fault=fault)
    assert stopped.status == 130, stopped.output
    assert "Traceback" not in stopped.output
    assert (tmp_path / "runs" / "search" / "sweep.html").is_file()
    cut = trials(tmp_path, 3)[1]
    assert cut.status == "waiting"
    assert commands.run(tmp_path, "sweep", sweep).status == 0
    found = trials(tmp_path, 3)
    assert [trial.status for trial in found] == ["completed"] * 3
    assert found[1].run == cut.run
