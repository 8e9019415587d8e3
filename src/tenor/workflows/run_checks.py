"""The checks of a run at every stage: findings are printed, written to `findings.json`, and may stop the run."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from tenor.checks.catalogue import RULES, run_rules
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence, ResumeEvidence
from tenor.checks.evidence.data_evidence import OverlapEvidence
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.process_evidence import RankEvidence
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.finding import Finding, Report, findings_view, summary_line
from tenor.checks.watchdog import Watchdog
from tenor.config.schema import Checks, Config
from tenor.data.batching import epoch_batches
from tenor.errors import RefusedError, UserError
from tenor.evaluation.results import SplitResult
from tenor.model.optimizer import parameter_groups, rate_factor
from tenor.runs.directory import RunDirectory
from tenor.runs.findings import parse_findings, read_findings, write_findings
from tenor.runs.missing import Missing
from tenor.runs.step_records import read_records
from tenor.training.checkpoint import TrainState, Window
from tenor.training.loop import Callbacks, EpochRows
from tenor.training.recorder import Recorder
from tenor.training.task import TrainingTask
from tenor.workflows.prepare import Prepared


class RunFindings:
    """The reports of one run, in the order of its stages."""

    def __init__(self, run: RunDirectory, config: Config, console: Console) -> None:
        self._run, self._console, self._checks = run, console, config.checks
        self._reports: list[Report] = []

    @property
    def all(self) -> tuple[Finding, ...]:
        """All findings so far."""
        return tuple(finding for report in self._reports for finding in report.findings)

    def keep(self, report: Report) -> None:
        """Add a report that was already printed and acted upon, such as the watchdog's."""
        self._reports.append(report)
        self._write()

    def add(self, report: Report) -> None:
        """Add a report, print it, and act upon it.

        Raises:
            RefusedError: it has an error that was not allowed, and the policy is to stop.
        """
        self.keep(report)
        self._console.print(summary_line(report), highlight=False)
        self._console.print(findings_view(report.findings))
        if report.errors and self._checks.policy == "stop":
            code = report.errors[0].code
            errors = ", ".join(f"{finding.code} ({finding.title})" for finding in report.errors)
            raise RefusedError(
                f"stopped by {errors}. Fix it, or accept it with a reason: "
                f"'checks.allow.{code}=why this is meant'; `tenor rule {code}` explains"
            )

    def close(self) -> None:
        """Report allowances without a finding: they might hide one in a later run."""
        for code in self.unused_allowances:
            self._console.print(
                f"checks.allow.{code} is not needed: the rule has no finding; remove it", style="yellow"
            )
        self._write()

    @property
    def unused_allowances(self) -> list[str]:
        return [code for code in self._checks.allow if code not in {f.code for f in self.all}]

    def _write(self) -> None:
        write_findings(self._run.findings, self._reports, self.unused_allowances)


def refuse_stopped(run: RunDirectory) -> None:
    """Refuse to resume a run that the watchdog stopped: after the checkpoint the finding might not occur again.

    Raises:
        RefusedError: with the findings that stopped it, and the next step.
    """
    training = [report for report in read_findings(run.findings) if report.stage == "training"]
    if stopping := [error for report in training for error in report.errors]:
        errors = ", ".join(f"{error.code} ({error.title})" for error in stopping)
        raise RefusedError(
            f"{run.reference} was stopped in training by {errors}, and can't be resumed. Fix it and start a new run, "
            f"or accept the finding in a new run with a reason: tenor train {run.config} "
            f"'checks.allow.{stopping[0].code}=why this is meant'; `tenor rule {stopping[0].code}` explains"
        )


def evaluation_report(
    config: Config, results: dict[str, SplitResult], state: TrainState, digest: str, earlier: tuple[Finding, ...]
) -> Report:
    """Apply the rules on results: is the evaluated model a trained one, and is it the selected checkpoint?"""
    splits = {name: reported_split(result) for name, result in results.items()}
    n_classes = len(next(iter(results.values())).metrics.per_class)
    metric, best_step = config.training.select_by, state.best.step if state.best else None
    checkpoints = CheckpointEvidence(
        validations=tuple(ValidationPoint(point.step, point.metrics[metric]) for point in state.validations),
        metric=metric,
        chosen_step=best_step,
        evaluated_step=best_step,
        chosen_digest=digest,
        evaluated_digest=digest,
    )
    evidence = [EvaluationEvidence(splits, n_classes), checkpoints]
    return run_rules(evidence, "evaluation", config.checks.allow, earlier=earlier)


def reported_split(result: SplitResult) -> ReportedSplit:
    """A split's result as evidence for the rules."""
    text, majority = result.baselines.text, result.baselines.majority
    return ReportedSplit(
        n=result.metrics.n,
        confusion=np.asarray(result.metrics.confusion),
        accuracy=result.metrics.accuracy,
        labels=result.labels,
        predicted=result.predictions,
        probabilities=result.probabilities,
        text_baseline_accuracy=text if isinstance(text, float) else None,
        majority_accuracy=majority if isinstance(majority, float) else None,
    )


WATCHDOG_VALUES = ("predicted_counts", "label_counts", "update_ratio", "skipped_steps")
"""Values of some steps that the watchdog records in addition to those of the loop."""
LOOP_VALUES = ("loss", "grad_norm", "learning_rate")
"""Values of the loop that the watchdog uses."""


def make_watchdog(
    prepared: Prepared, task: TrainingTask, findings: RunFindings, recorder: Recorder, console: Console
) -> Watchdog:
    """A watchdog over the run's model that prints and records findings immediately."""
    checks = prepared.config.checks

    def on_finding(finding: Finding) -> None:
        recorder.record("finding", watchdog.last_step, finding=asdict(finding))
        console.print(findings_view([finding]))

    watchdog = Watchdog(
        task.model,
        n_classes=len(task.class_names),
        total_steps=task.total_steps,
        clip_at=task.settings.max_grad_norm,
        every=task.settings.log_every,
        policy=checks.policy,
        allow=checks.allow,
        earlier=findings.all,
        on_finding=on_finding,
    )
    return watchdog


def record_and_check(
    recorder: Recorder, watchdog: Watchdog, step: int, values: Mapping[str, float], window: Window
) -> None:
    """Record the values of the steps up to `step`, and apply the rules to them.

    Raises:
        RefusedError: the watchdog found an error and the policy is to stop.
    """
    noted = watchdog.add_record(
        step,
        **{name: values[name] for name in LOOP_VALUES},
        predicted_counts=window.predicted_counts,
        label_counts=window.label_counts,
    )
    recorder.record("train", step, **values, **{name: noted[name] for name in WATCHDOG_VALUES if name in noted})
    watchdog.judge()


def restore_watchdog(run: RunDirectory, watchdog: Watchdog, done: int) -> None:
    """Restore the watchdog's records and findings up to step `done`, where the run is resumed.

    Otherwise it would take the first losses after the interruption for the first of the run, and lose findings.

    Raises:
        RefusedError: as `record_and_check`.
        UserError: a record is not as Tenor writes it.
    """
    records = [record for record in read_records(run.metrics) if record["step"] <= done]
    noted: list[dict[str, Any]] = [
        {"steps": record["step"], **{name: record[name] for name in (*LOOP_VALUES, *WATCHDOG_VALUES) if name in record}}
        for record in records
        if record["kind"] == "train"
    ]
    try:
        findings = parse_findings([record["finding"] for record in records if record["kind"] == "finding"])
        watchdog.resume(done, noted, findings)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(
            f"{run.metrics} contains a record that Tenor did not write ({type(error).__name__}: {what}). "
            f"Restore the file, or start a new run"
        ) from error


def silent_watchdog(task: TrainingTask) -> Callbacks:
    """Callbacks of every process but the main one: its watchdog only notes weights and gradients for the main one's."""
    watchdog = Watchdog(task.model, n_classes=len(task.class_names), every=task.settings.log_every, policy="warn")

    def on_record(step: int, values: Mapping[str, float], window: Window) -> None:
        watchdog.add_record(step, loss=values["loss"])  # Frees what the hooks have kept.

    return Callbacks(on_start=watchdog.watch, on_record=on_record)


class RowChecks:
    """Tells the watchdog which rows the processes saw in each epoch, and how a resumed run continued."""

    def __init__(self, task: TrainingTask, watchdog: Watchdog, done: int) -> None:
        self._task, self._watchdog, self._done = task, watchdog, done
        self._rate: float | None = None

    def on_step(self, state: TrainState) -> None:
        """After the first step of a resumed run: its learning rate.

        Raises:
            RefusedError: as `Watchdog.note`.
        """
        if self._done and state.step == self._done + 1:
            self._rate = self._watchdog.rate
            self._watchdog.note(self._resume())

    def on_epoch(self, seen: EpochRows) -> None:
        """The rows of an epoch; of one that was resumed within, also those before.

        Raises:
            RefusedError: as `Watchdog.note`.
        """
        task = self._task
        rows = {rank: one.tolist() for rank, one in enumerate(seen.by_rank)}
        if seen.first_batch == 0:
            if len(rows) > 1:
                self._watchdog.note(RankEvidence(rows, len(task.train)))
            return
        batches = epoch_batches(task.train.lengths, task.settings.batch_size, task.seed, seen.epoch)
        before = np.concatenate(batches[: seen.first_batch])
        after = np.concatenate(seen.by_rank)
        self._watchdog.note(self._resume(before, after))

    def _resume(self, before: np.ndarray | None = None, after: np.ndarray | None = None) -> ResumeEvidence:
        settings = self._task.settings
        peak = max(group["peak_lr"] for group in parameter_groups(self._task.model, settings))
        return ResumeEvidence(
            step_before=self._done,
            step_after=self._done + 1,
            rate_after=self._rate,
            planned_rate_after=peak * rate_factor(self._done, self._task.total_steps, settings),
            rows_before=before,  # type: ignore[arg-type]
            rows_after=after,  # type: ignore[arg-type]
            rows_in_epoch=None if before is None else len(self._task.train),
        )


KINDS = {EvaluationEvidence, OverlapEvidence}


def check_result(
    checks: Checks, split: str, result: SplitResult, overlap: OverlapEvidence | Missing
) -> Report | Missing:
    """Apply every rule on results to one evaluated split, and to its overlap with the run's own rows."""
    if split == "train":
        return Missing("the rules on results apply only to rows that the model was not trained on")
    evidence = [EvaluationEvidence({split: reported_split(result)}, len(result.metrics.per_class)), overlap]
    unreadable = {OverlapEvidence: overlap.reason} if isinstance(overlap, Missing) else {}
    rules = [rule for rule in RULES if set(rule.needs) <= KINDS]
    return run_rules(evidence, "evaluation", checks.allow, rules, unreadable=unreadable)


def refuse_errors(report: Report | Missing) -> None:
    """Raises RefusedError where the report has an error that was not allowed.

    `checks.policy` decides whether a training goes on; a result that is finished has nothing to continue.
    """
    if isinstance(report, Missing) or not report.errors:
        return
    code = report.errors[0].code
    errors = ", ".join(f"{finding.code} ({finding.title})" for finding in report.errors)
    raise RefusedError(
        f"the result has an error: {errors}. Fix the cause, or accept it with a reason: "
        f"'checks.allow.{code}=why this is meant'; `tenor rule {code}` explains"
    )
