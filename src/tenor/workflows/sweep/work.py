"""What a worker does: begin trials as long as some are asked for, and take up those of workers that died."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from rich.console import Console

from tenor.config.sweep import SweepPlan
from tenor.errors import InterruptedRunError, RefusedError, TenorError
from tenor.runs.directory import RunDirectory
from tenor.runs.files import make_folder
from tenor.runs.manifest import process_lives, read_manifest
from tenor.runs.process_state import warnings_ignored
from tenor.runs.prune import drop_weights
from tenor.workflows.sweep.attempt import Attempt
from tenor.workflows.sweep.study import begin_again, sweep_folder
from tenor.workflows.sweep.trials import SweepTrial, best_of, is_surplus, spent_seconds, trials_of

POLL_SECONDS = 1.0
HOPELESS = 5
"""Trials of a phase that all failed before it is given up: what they share is wrong, and not what they try."""


class SurplusError(Exception):
    """Other workers had begun the last trials that were asked for."""


def work(
    plan: SweepPlan, studies: Mapping[str, optuna.Study], root: Path, on_change: Callable[[], None], wait: bool
) -> None:
    """Begin trials, phase by phase, until none is left to begin; with `wait`, until those of other workers ended, too.

    Raises:
        RefusedError: checks refused all first trials of a phase.
        TenorError: all first trials of a phase failed.
        InterruptedRunError: someone asked to stop; the trial under way can be taken up again.
    """
    while True:
        for phase, study in studies.items():
            while _begin_one(plan, phase, study, root, on_change):
                pass
        if not wait or not _others_work(plan, studies):
            for phase, study in studies.items():  # Others may have found better ones after this worker's last trial.
                _drop_beaten(plan, trials_of(plan, phase, study), root)
            return
        time.sleep(POLL_SECONDS)
        on_change()


def _others_work(plan: SweepPlan, studies: Mapping[str, optuna.Study]) -> bool:
    return any(trial.status == "running" for phase, study in studies.items() for trial in trials_of(plan, phase, study))


def _begin_one(plan: SweepPlan, phase: str, study: optuna.Study, root: Path, on_change: Callable[[], None]) -> bool:
    """Run one trial, new or taken up again; False where there is none to begin."""
    with warnings_ignored(ExperimentalWarning):
        optuna.storages.fail_stale_trials(study)
    trials = trials_of(plan, phase, study)
    settings = plan.sweep.phases[phase]
    _require_hope(phase, trials)
    if settings.budget_minutes is not None and spent_seconds(study) > 60 * settings.budget_minutes:
        return False
    if len(trials) >= settings.trials and all(trial.status != "waiting" for trial in trials):
        return False
    study.pruner = _pruner(settings.pruner, settings.startup_trials)
    held: list[Attempt] = []

    def run(trial: optuna.Trial) -> float:
        if is_surplus(plan, phase, study, trial.number):
            trial.set_user_attr("surplus", True)
            raise SurplusError
        # What is proposed depends on the trial's number and the trials before, not on which worker asks, or when.
        study.sampler = _sampler(plan, phase, trial.number)
        held.append(Attempt(plan, phase, study, trial, root, on_change))
        with _log(plan, root, phase, trial.number) as console:
            return held[0].value(console)

    try:
        study.optimize(run, n_trials=1, catch=(SurplusError,))
    except (InterruptedRunError, KeyboardInterrupt):
        if held:
            begin_again(study, held[0].trial.number)
        raise
    except (ValueError, AssertionError) as error:
        if isinstance(error.__context__, StorageInternalError):
            raise error.__context__ from None
        # Both are Optuna's answers where another worker was given the trial before this one told how it ended.
        if not held or study.trials[held[0].trial.number].state == TrialState.RUNNING:
            raise
    gc.collect()  # As between experiments: the model's memory.
    _drop_beaten(plan, trials_of(plan, phase, study), root)
    on_change()
    return True


def _drop_beaten(plan: SweepPlan, trials: list[SweepTrial], root: Path) -> None:
    """Remove the weights of the runs below `root` that no trial goes on with and that are not their phase's best."""
    if plan.sweep.keep_weights != "best":
        return
    best = best_of(plan, trials)
    for trial in trials:
        if trial.run is not None and trial is not best and trial.status not in ("running", "waiting"):
            reason = f"removed: it was not the best of its sweep. Again: tenor train --repeat {trial.run}"
            drop_weights(root, RunDirectory(root / trial.run), reason)
        for run in (RunDirectory(root / reference) for reference in trial.abandoned):
            if run.manifest.is_file() and not process_lives(read_manifest(run)):
                drop_weights(root, run, f"removed: another worker began trial {trial.name} anew")


def _require_hope(phase: str, trials: list[SweepTrial]) -> None:
    ended = [trial for trial in trials if trial.status not in ("running", "waiting")]
    if len(ended) >= HOPELESS and all(trial.status in ("failed", "refused", "lost") for trial in ended):
        raise no_result(ended)(
            f"phase {phase}: none of {len(ended)} trials came to a result, so no more are begun. The last one was "
            f"{ended[-1].status}: {ended[-1].reason}"
        )


def no_result(ended: Sequence[SweepTrial]) -> type[TenorError]:
    """How a sweep ends without a result: refused where a check refused every trial, else failed."""
    return RefusedError if ended and all(trial.status == "refused" for trial in ended) else TenorError


def _sampler(plan: SweepPlan, phase: str, number: int) -> BaseSampler:
    place = list(plan.sweep.phases).index(phase)
    seed = int(np.random.SeedSequence([plan.sweep.seed, place, number]).generate_state(1)[0])
    if plan.sweep.phases[phase].sampler == "random":
        return RandomSampler(seed)
    return TPESampler(n_startup_trials=plan.sweep.phases[phase].startup_trials, seed=seed)


def _pruner(kind: str, startup_trials: int) -> BasePruner:
    match kind:
        case "median":
            return MedianPruner(n_startup_trials=startup_trials)
        case "halving":
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=4)
        case _:
            return NopPruner()


@contextmanager
def _log(plan: SweepPlan, root: Path, phase: str, number: int) -> Iterator[Console]:
    """A console for what a run says; the sweep's own shows the table."""
    folder = sweep_folder(root, plan) / "logs"
    make_folder(folder)
    with open(folder / f"{phase}-{number:04}.txt", "a", encoding="utf-8") as file:
        yield Console(file=file, width=120)
