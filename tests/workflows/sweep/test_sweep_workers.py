"""Workers on one study: no trial is lost or run twice, and each number has one proposal, whichever worker requests it.

The trials take no time, so that workers meet at every point; tests of real runs and processes are in
`test_sweep_processes.py`.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from tenor.config.sweep import SweepPlan
from tenor.errors import InterruptedRunError
from tenor.workflows.sweep import worker as module
from tenor.workflows.sweep.study import SweepTrial, best_of, open_studies, propose, spent_seconds, trials_of
from tenor.workflows.sweep.worker import Attempt, TrialTakenOverError, with_owner, work

pytestmark = pytest.mark.slow

Planned = Callable[..., SweepPlan]


def nothing() -> None:
    pass


def trials(plan: SweepPlan, root: Path) -> list[SweepTrial]:
    return trials_of(plan, "a", open_studies(plan, root, join=True)["a"])


def alone(plan: SweepPlan, root: Path) -> list[SweepTrial]:
    work(plan, open_studies(plan, root, join=False), root, nothing, wait=True)
    return trials(plan, root)


def test_workers_share_the_trials_exactly(no_training: list[int], planned: Planned, tmp_path: Path) -> None:
    plan, count = planned("phases.a.trials=9"), 3
    open_studies(plan, tmp_path, join=False)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work(plan, open_studies(plan, tmp_path, join=True), tmp_path, nothing, wait=False)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    found = trials(plan, tmp_path)
    assert [trial.status for trial in found] == ["completed"] * 9, "a trial was lost"
    assert len(no_training) == 9, "a trial was run twice, or one too many"
    assert len({str(trial.tried) for trial in found}) == 9, "two workers were given the same proposal"


def test_proposals_do_not_depend_on_interruptions(no_training: list[int], planned: Planned, tmp_path: Path) -> None:
    whole = alone(planned("phases.a.trials=5"), tmp_path / "whole")
    for trials_so_far in (1, 3, 5):
        parts = alone(planned(f"phases.a.trials={trials_so_far}"), tmp_path / "parts")
    assert [trial.tried for trial in parts] == [trial.tried for trial in whole]
    other = alone(planned("phases.a.trials=5", "seed=1"), tmp_path / "other")
    assert [trial.tried for trial in other] != [trial.tried for trial in whole]


def test_refused_settings_are_not_proposed_repeatedly(
    no_training: list[int], planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = Attempt.value

    def refused_below(attempt: Attempt, console: Any) -> float:
        reached = value(attempt, console)
        if attempt.trial.params["training.learning_rate"] < 0.03:
            raise attempt._without_result("refused", "EVL001")
        return reached

    monkeypatch.setattr(Attempt, "value", refused_below)
    space = "phases.a.space={training.learning_rate: {low: 1e-3, high: 1e-1, log: true}}"
    found = alone(planned(space, "phases.a.trials=20", "phases.a.startup_trials=4"), tmp_path)
    assert {"completed", "refused"} == {trial.status for trial in found}
    # A quarter of the space is sound. A sampler that learns nothing from the rest comes there 3 or 4 times.
    assert sum(trial.status == "completed" for trial in found[4:]) >= 6


def test_a_lost_trial_is_resumed_with_the_same_values(no_training: list[int], planned: Planned, tmp_path: Path) -> None:
    plan = planned("phases.a.trials=3")
    studies = open_studies(plan, tmp_path, join=False)
    with pytest.warns(UserWarning, match="Heartbeat"):
        lost = studies["a"].ask()  # A worker that gives no sign of life any more.
    tried = propose(lost, plan.sweep.phases["a"].space)
    lost.set_user_attr("seconds", 5.0)
    studies["a"]._storage.record_heartbeat(lost._trial_id)  # type: ignore[attr-defined]
    time.sleep(5.5)
    found = alone(plan, tmp_path)
    assert [trial.status for trial in found] == ["completed"] * 3
    assert (found[0].attempts, found[0].tried) == (2, tried)
    assert spent_seconds(studies["a"]) == sum(trial.seconds for trial in found) == 8.0, (
        "a cost was lost or counted twice"
    )
    with pytest.raises(TrialTakenOverError):
        with_owner(lambda: lost.set_user_attr("seconds", 6.0))


def test_an_interrupted_worker_returns_its_trial_to_the_queue(
    no_training: list[int], planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, value = planned(), Attempt.value

    def interrupted(attempt: Attempt, console: Any) -> float:
        value(attempt, console)
        raise InterruptedRunError("SIGINT")

    monkeypatch.setattr(Attempt, "value", interrupted)
    with pytest.raises(InterruptedRunError):
        alone(plan, tmp_path)
    assert trials(plan, tmp_path)[0].status == "waiting"
    monkeypatch.setattr(Attempt, "value", value)
    found = alone(plan, tmp_path)
    assert [(trial.status, trial.attempts) for trial in found] == [("completed", 2), ("completed", 1), ("completed", 1)]


def test_a_trial_that_was_taken_over_is_not_reported_twice(
    no_training: list[int], planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, value = planned("phases.a.trials=2"), Attempt.value

    def slow(attempt: Attempt, console: Any) -> float:
        if attempt.trial.number == 0:  # Another worker takes it for dead, and runs it to its end.
            attempt.study.tell(0, state=optuna.trial.TrialState.FAIL)
            module.requeue(attempt.study, 0)
        return value(attempt, console) if attempt.trial.number else 0.5

    monkeypatch.setattr(Attempt, "value", slow)
    found = alone(plan, tmp_path)
    assert [(trial.status, trial.attempts) for trial in found] == [("completed", 2), ("completed", 1)]


def test_of_several_phases_the_best_trial_wins(no_training: list[int], planned: Planned, tmp_path: Path) -> None:
    second = "phases.b={trials: 2, space: {training.learning_rate: {low: 0.009, high: 0.011}}}"
    plan = planned(second)
    studies = open_studies(plan, tmp_path, join=False)
    work(plan, studies, tmp_path, nothing, wait=True)
    found = [trial for phase, study in studies.items() for trial in trials_of(plan, phase, study)]
    best = best_of(plan, found)
    assert len(found) == 5
    assert best is not None
    assert best.value == max(trial.value or 0.0 for trial in found)
