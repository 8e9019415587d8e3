"""Workers on a study in a real PostgreSQL, which the tests start in a folder of their own, reached by a Unix socket."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_sweep_processes import start, wait_for

from forked import Commands, Fault
from sweeps import write_sweep
from tenor.config.sweep import SweepPlan, load_sweep
from tenor.runs.directory import list_runs
from tenor.runs.manifest import read_manifest
from tenor.workflows.sweep.study import open_studies, propose, trials_of
from tenor.workflows.sweep.worker import work

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")]

LONGEST_SECONDS = 300


def binaries() -> Path:
    """The folder of initdb and pg_ctl; Debian keeps it out of the path."""
    if (found := shutil.which("initdb")) is not None and Path(found).with_name("pg_ctl").exists():
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not folders:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return folders[-1]


def other_user() -> dict[str, Any]:
    """Arguments of a process by whom it is run: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'tenor[postgresql]'")
    programs, user = binaries(), other_user()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # A short path: that of a socket has at most 107 characters.
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if user:
        os.chown(folder, user["user"], user["group"])
        os.chown(data, user["user"], user["group"])

    def run(program: str, *arguments: str) -> None:
        output = folder / f"{program}.txt"
        with open(output, "ab") as file:
            ended = subprocess.run(
                [str(programs / program), "-D", str(data), *arguments],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                check=False,
                **user,
            )
        assert ended.returncode == 0, output.read_text()

    try:
        run("initdb", "--username=tenor", "--auth=trust", "--encoding=UTF8", "--no-sync")
        run("pg_ctl", "start", "-w", "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
        yield f"postgresql+psycopg://tenor@/postgres?host={folder}"
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)


def nothing() -> None:
    pass


Planned = Callable[..., SweepPlan]


def together(count: int, job: Callable[[], None]) -> None:
    """A job in several threads; the first error of any is raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_SECONDS)
    assert not errors, errors


def test_workers_share_the_trials_exactly(
    server: str, no_training: list[int], planned: Planned, tmp_path: Path
) -> None:
    plan = planned(f"storage={server}", "name=shared", "phases.a.trials=24")
    open_studies(plan, tmp_path, join=False)
    together(4, lambda: work(plan, open_studies(plan, tmp_path, join=True), tmp_path, nothing, wait=False))
    found = trials_of(plan, "a", open_studies(plan, tmp_path, join=True)["a"])
    assert [trial.status for trial in found] == ["completed"] * 24, "a trial was lost"
    assert sorted(no_training) == sorted(set(no_training)), "a trial was run twice"
    assert len(no_training) == 24, "one trial too many was run"
    assert len({str(trial.tried) for trial in found}) == 24, "two workers were given the same proposal"


@pytest.mark.filterwarnings("ignore:Heartbeat")
def test_lost_trials_are_taken_over_once_by_workers_that_notice_at_once(
    server: str, no_training: list[int], planned: Planned, tmp_path: Path
) -> None:
    plan = planned(f"storage={server}", "name=lost", "phases.a.trials=8")
    study = open_studies(plan, tmp_path, join=False)["a"]
    tried = []
    for _ in range(6):  # Of workers that give no sign of life any more.
        trial = study.ask()
        tried.append(propose(trial, plan.sweep.phases["a"].space))
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    time.sleep(5.5)
    together(4, lambda: work(plan, open_studies(plan, tmp_path, join=True), tmp_path, nothing, wait=False))
    found = trials_of(plan, "a", study)
    assert [trial.status for trial in found] == ["completed"] * 8
    assert [trial.attempts for trial in found] == [2] * 6 + [1] * 2
    assert [trial.tried for trial in found[:6]] == tried
    assert len(no_training) == 8


def test_a_killed_worker_costs_no_trial(server: str, commands: Commands, small_model: Path, tmp_path: Path) -> None:
    """Two processes of two machines, which share the database alone."""
    sweep = str(write_sweep(tmp_path, small_model))
    changed = ("phases.a.trials=6", "name=killed", f"storage={server}")
    first = start(tmp_path, "sweep", sweep, *changed)
    wait_for(tmp_path / "runs" / "killed" / "logs")
    other = ("--worker", "--runs", "elsewhere")
    killed = commands.run(tmp_path, "sweep", sweep, *changed, *other, fault=Fault("tenor.training.loop.set_rates", 5))
    assert killed.status == -signal.SIGKILL, killed.output
    assert first.wait(LONGEST_SECONDS) == 0, (tmp_path / "output-0.txt").read_text()
    plan = load_sweep(sweep, changed)
    found = trials_of(plan, "a", open_studies(plan, tmp_path / "runs", join=True)["a"])
    assert [trial.status for trial in found] == ["completed"] * 6, "a trial was lost"
    assert sorted(trial.attempts for trial in found) == [1, 1, 1, 1, 1, 2]
    here, there = list_runs(tmp_path / "runs"), list_runs(tmp_path / "elsewhere")
    assert {trial.run for trial in found} == {run.reference for run in here}
    assert len(here) == len({str(trial.tried) for trial in found}) == 6, "a trial was run twice"
    assert [read_manifest(run).status for run in there] == ["running"], "what was killed"


def test_without_a_database_the_message_has_the_next_step(
    commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'tenor[postgresql]'")
    sweep = str(write_sweep(tmp_path, small_model))
    ended = commands.run(tmp_path, "sweep", sweep, f"storage=postgresql+psycopg://u:secret@/db?host={tmp_path}")
    assert ended.status == 2, ended.output
    assert "can't be used" in ended.output
    assert "start the database, or fix the URL" in ended.output
    assert "secret" not in ended.output
