"""A worker of a sweep: starts trials, takes over those of dead workers, and runs each as an ordinary run."""

import gc
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from rich.console import Console

from tenor.checks.finding import Finding
from tenor.config.sweep import KNOWN_WHILE_TRAINING, SweepPlan
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError
from tenor.runs.best_evaluation import read_evaluation
from tenor.runs.directory import RunDirectory
from tenor.runs.files import make_folder
from tenor.runs.findings import read_findings
from tenor.runs.manifest import process_lives, read_manifest
from tenor.runs.missing import Missing
from tenor.runs.process_state import warnings_ignored
from tenor.runs.summary import drop_weights
from tenor.training.checkpoint import Validation
from tenor.workflows.sweep.study import (
    SweepTrial,
    best_of,
    is_surplus,
    propose,
    requeue,
    spent_seconds,
    sweep_folder,
    trials_of,
)
from tenor.workflows.train import RunObserver, resume, train


class TrialTakenOverError(InterruptedRunError):
    """This worker sent no heartbeat for so long that another one was given its trial."""


@dataclass
class Attempt:
    """A trial that this worker runs."""

    plan: SweepPlan
    phase: str
    study: optuna.Study
    trial: optuna.Trial
    root: Path
    on_change: Callable[[], None]
    """Called after every change to show."""
    run: RunDirectory | None = None
    pruned: str = ""
    """Why it was pruned; empty if it was not."""
    started: float = field(default_factory=time.perf_counter)

    def value(self, console: Console) -> float:
        """Train, and return the objective.

        Raises:
            optuna.TrialPruned: it was ended early, was refused, or failed. Optuna's samplers ignore failed trials
                and propose similar ones again; a pruned trial counts as worse than completed ones.
            TrialTakenOverError: another worker has the trial.
            InterruptedRunError: this worker was interrupted.
        """
        self._record(seconds=0.0, reason="", ended="")
        try:
            value = self._train(console)
        except InterruptedRunError as error:
            if not self.pruned:
                raise
            raise self._without_result("pruned", self.pruned) from error
        except RefusedError as error:
            raise self._without_result("refused", str(error)) from error
        except TenorError as error:
            raise self._without_result("failed", str(error)) from error
        except Exception as error:  # A defect in one trial must not end the others; its log has the traceback.
            console.print(traceback.format_exc(), markup=False, soft_wrap=True)
            raise self._without_result("failed", f"{type(error).__name__}: {error}") from error
        finally:
            self._record(seconds=time.perf_counter() - self.started)
        return value

    def _train(self, console: Console) -> float:
        config = self.plan.config(self.phase, propose(self.trial, self.plan.sweep.phases[self.phase].space))
        self.on_change()
        observer = RunObserver(on_begin=self._on_begin, on_validation=self._on_validation)
        earlier = self._earlier_run()
        if earlier is not None and read_manifest(earlier).status == "completed":
            run = self.run = earlier
            findings = [finding for report in read_findings(run.findings) for finding in report.findings]
        else:
            if earlier is None:
                result = train(config, self.root, console, observer=observer)
            else:
                result = resume(earlier.reference, self.root, console, observer=observer)
            run, findings = result.run, list(result.findings)
        refuse_errors(findings)
        return objective(self.plan, run)

    def _earlier_run(self) -> RunDirectory | None:
        """The run of an earlier attempt, if it is on this machine and no other process continues it."""
        reference = self.trial.user_attrs.get("run")
        if reference is None or not (self.root / reference / "manifest.json").is_file():
            return None
        run = RunDirectory(self.root / reference)
        return None if process_lives(read_manifest(run)) else run

    def _on_begin(self, run: RunDirectory) -> None:
        self.run = run
        self._record(run=run.reference)
        self._require_same_inputs(run)
        self.on_change()

    def _require_same_inputs(self, run: RunDirectory) -> None:
        """Raises UserError if this machine has other data or weights under the same name."""
        space = self.plan.sweep.phases[self.phase].space
        fixed = {
            "data": not any(key.startswith("data.") for key in space),
            "encoder_weights": "model.name" not in space,
            "tokenizer": "model.name" not in space,
        }
        fingerprints = read_manifest(run).fingerprints
        here = {name: fingerprints[name] for name, is_fixed in fixed.items() if is_fixed}
        known = self.study.user_attrs.get("fingerprints")
        if known is None:
            self.study.set_user_attr("fingerprints", here)
        elif differing := sorted(name for name in here if known.get(name) != here[name]):
            raise UserError(f"{' and '.join(differing)} on this machine differ from those of the study's first trial")

    def _on_validation(self, validation: Validation) -> None:
        elapsed = time.perf_counter() - self.started
        self._record(seconds=elapsed)
        settings, phase = self.plan.settings[self.phase]["training"], self.plan.sweep.phases[self.phase]
        epochs, interval = (self._setting(name, settings[name]) for name in ("epochs", "evaluate_every"))
        if self.plan.sweep.objective in KNOWN_WHILE_TRAINING:
            self._report(validation.metrics[self.plan.sweep.objective], max(1, round(validation.epoch / interval)))
        self.on_change()
        if validation.epoch >= epochs:
            return  # Pruning would save nothing.
        spent = elapsed + spent_seconds(self.study, but=self.trial.number)
        if phase.budget_minutes is not None and spent > 60 * phase.budget_minutes:
            self.pruned = f"the phase's {phase.budget_minutes:g} minutes were spent"
        elif validation.epoch >= phase.pruner_warmup * epochs and self._should_prune():
            rank = "worse than the median" if phase.pruner == "median" else "not in the best quarter"
            self.pruned = f"{rank} at epoch {validation.epoch:.3g}"
        if self.pruned:
            raise InterruptedRunError(f"pruned: {self.pruned}")

    def _should_prune(self) -> bool:
        return self.plan.sweep.phases[self.phase].pruner != "none" and self.trial.should_prune()

    def _setting(self, name: str, otherwise: Any) -> float:
        return float(self.trial.params.get(f"training.{name}", otherwise))

    def _report(self, value: float, step: int) -> None:
        with_owner(lambda: self.trial.report(value, step))

    def _record(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            with_owner(lambda name=name, value=value: self.trial.set_user_attr(name, value))  # type: ignore[misc]

    def _without_result(self, ended: str, reason: str) -> optuna.TrialPruned:
        self._record(ended=ended, reason=reason)
        return optuna.TrialPruned(reason)


def with_owner(write: Callable[[], None]) -> None:
    """Write to the trial. Raises TrialTakenOverError if another worker has taken it over."""
    try:
        write()
    except UpdateFinishedTrialError as error:
        raise TrialTakenOverError(
            "no heartbeat reached the study for too long; another worker has the trial"
        ) from error


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Refuse a run that completed although a check found an error in it.

    Raises:
        RefusedError: there is an error that was not allowed; under `checks.policy=warn` the run itself continued.
    """
    if errors := [finding for finding in findings if finding.severity == "error" and not finding.allowed]:
        raise RefusedError(", ".join(f"{error.code} {error.title}: {error.observed}" for error in errors))


def objective(plan: SweepPlan, run: RunDirectory) -> float:
    """The objective of a completed run.

    Raises:
        TenorError: its evaluation has no such number.
    """
    evaluation = read_evaluation(run.evaluation)
    value: Any = {} if isinstance(evaluation.val, Missing) else asdict(evaluation.val)
    for name in plan.metric.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TenorError(f"objective {plan.sweep.objective}: there is no such number below val in {run.evaluation}")
    return float(value)


POLL_SECONDS = 1.0
FAILED_TRIALS_LIMIT = 5
"""Number of failed trials, without any success, after which a phase stops: the cause is probably common to all."""


class SurplusError(Exception):
    """Other workers had already started the last requested trials."""


def work(
    plan: SweepPlan, studies: Mapping[str, optuna.Study], root: Path, on_change: Callable[[], None], wait: bool
) -> None:
    """Start trials, phase by phase, until none is left; with `wait`, also until those of other workers have ended.

    Raises:
        RefusedError: checks refused all first trials of a phase.
        TenorError: all first trials of a phase failed.
        InterruptedRunError: this worker was interrupted; the running trial can be continued.
    """
    while True:
        for phase, study in studies.items():
            while _start_one(plan, phase, study, root, on_change):
                pass
        if not wait or not _others_are_running(plan, studies):
            for phase, study in studies.items():  # Others may have found better ones after this worker's last trial.
                _drop_weights_of_losers(plan, trials_of(plan, phase, study), root)
            return
        time.sleep(POLL_SECONDS)
        on_change()


def _others_are_running(plan: SweepPlan, studies: Mapping[str, optuna.Study]) -> bool:
    return any(trial.status == "running" for phase, study in studies.items() for trial in trials_of(plan, phase, study))


def _start_one(plan: SweepPlan, phase: str, study: optuna.Study, root: Path, on_change: Callable[[], None]) -> bool:
    """Run one trial, new or continued; False if there is none to start."""
    with warnings_ignored(ExperimentalWarning):
        optuna.storages.fail_stale_trials(study)
    trials = trials_of(plan, phase, study)
    settings = plan.sweep.phases[phase]
    _require_a_result(phase, trials)
    if settings.budget_minutes is not None and spent_seconds(study) > 60 * settings.budget_minutes:
        return False
    if len(trials) >= settings.trials and all(trial.status != "waiting" for trial in trials):
        return False
    study.pruner = _pruner(settings.pruner, settings.startup_trials)
    attempts: list[Attempt] = []

    def run(trial: optuna.Trial) -> float:
        if is_surplus(plan, phase, study, trial.number):
            trial.set_user_attr("surplus", True)
            raise SurplusError
        # Proposals depend on the trial's number and the earlier trials, not on the worker or the time.
        study.sampler = _sampler(plan, phase, trial.number)
        attempts.append(Attempt(plan, phase, study, trial, root, on_change))
        with _log(plan, root, phase, trial.number) as console:
            return attempts[0].value(console)

    try:
        study.optimize(run, n_trials=1, catch=(SurplusError,))
    except (InterruptedRunError, KeyboardInterrupt):
        if attempts:
            requeue(study, attempts[0].trial.number)
        raise
    except (ValueError, AssertionError) as error:
        if isinstance(error.__context__, StorageInternalError):
            raise error.__context__ from None
        # Optuna raises these if another worker was given the trial before this one recorded its end.
        if not attempts or study.trials[attempts[0].trial.number].state == TrialState.RUNNING:
            raise
    gc.collect()  # As between experiments: the model's memory.
    _drop_weights_of_losers(plan, trials_of(plan, phase, study), root)
    on_change()
    return True


def _drop_weights_of_losers(plan: SweepPlan, trials: list[SweepTrial], root: Path) -> None:
    """Remove the weights of runs below `root` that no trial continues and that are not the best of their phase."""
    if plan.sweep.keep_weights != "best":
        return
    best = best_of(plan, trials)
    for trial in trials:
        if trial.run is not None and trial is not best and trial.status not in ("running", "waiting"):
            reason = f"removed: not the best of its sweep. To train it again: tenor train --repeat {trial.run}"
            drop_weights(root, RunDirectory(root / trial.run), reason)
        for run in (RunDirectory(root / reference) for reference in trial.abandoned):
            if run.manifest.is_file() and not process_lives(read_manifest(run)):
                drop_weights(root, run, f"removed: another worker started trial {trial.name} again")


def _require_a_result(phase: str, trials: list[SweepTrial]) -> None:
    ended = [trial for trial in trials if trial.status not in ("running", "waiting")]
    if len(ended) >= FAILED_TRIALS_LIMIT and all(trial.status in ("failed", "refused", "lost") for trial in ended):
        raise no_result(ended)(
            f"phase {phase}: none of {len(ended)} trials has a result, so no more are started. The last one was "
            f"{ended[-1].status}: {ended[-1].reason}"
        )


def no_result(ended: Sequence[SweepTrial]) -> type[TenorError]:
    """The error of a sweep without a result: RefusedError if checks refused every trial, else TenorError."""
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
    """A console for the output of a run; the sweep's own console shows the table."""
    folder = sweep_folder(root, plan) / "logs"
    make_folder(folder)
    with open(folder / f"{phase}-{number:04}.txt", "a", encoding="utf-8") as file:
        yield Console(file=file, width=120)
