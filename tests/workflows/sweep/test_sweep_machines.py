"""Workers that share only a study: each keeps its runs in its own folder."""

import signal
from pathlib import Path

import pytest

from forked import Commands, Fault
from report_runs import Page
from sweeps import write_sweep
from tenor.config.sweep import load_sweep
from tenor.runs.directory import RunDirectory, list_runs
from tenor.runs.manifest import read_manifest
from tenor.workflows.sweep.study import best_of, open_studies, trials_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")]


def with_weights(root: Path) -> set[str]:
    """The runs below `root` that keep any."""
    return {run.reference for run in list_runs(root) if run.checkpoints.exists() or run.model.exists()}


def test_a_trial_lost_on_another_machine_is_started_again(
    commands: Commands, small_model: Path, tmp_path: Path
) -> None:
    sweep, storage = str(write_sweep(tmp_path, small_model)), f"storage=sqlite:///{tmp_path / 'shared.db'}"
    here, there = tmp_path / "here", tmp_path / "there"
    killed = commands.run(
        tmp_path, "sweep", sweep, storage, "--runs", "here", fault=Fault("tenor.training.loop.set_rates", 18)
    )
    assert killed.status == -signal.SIGKILL, killed.output
    ended = commands.run(tmp_path, "sweep", sweep, storage, "--runs", "there")
    assert ended.status == 0, ended.output

    plan = load_sweep(Path(sweep), [storage])
    found = trials_of(plan, "a", open_studies(plan, there, join=True)["a"])
    assert [(trial.status, trial.attempts) for trial in found] == [("completed", 1), ("completed", 2), ("completed", 1)]
    assert {run.reference for run in list_runs(there)} == {found[1].run, found[2].run}
    complete, cut = list_runs(here)
    assert complete.reference == found[0].run
    assert read_manifest(cut).status == "running", "the other process changed it"

    again = commands.run(tmp_path, "sweep", sweep, storage, "--runs", "here")
    assert again.status == 0, again.output
    best = best_of(plan, found)
    assert best is not None
    assert with_weights(here) | with_weights(there) == {best.run}, "only the best of all keeps its weights"
    for root, output in ((here, again.output), (there, ended.output)):
        html = (root / "search" / "sweep.html").read_text(encoding="utf-8")
        linked = {str(a["href"]) for a in Page(html).all("a") if "report.html" in str(a["href"])}
        lying = {trial.run for trial in found if trial.run and RunDirectory(root / trial.run).path.is_dir()}
        assert linked == {f"{str(run).rpartition('/')[2]}/report.html" for run in lying}
        assert html.count("the run is with another worker") == 3 - len(lying)
        assert ("with another worker" in output) == (best.run not in lying)
