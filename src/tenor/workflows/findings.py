"""What the checks found in a run, on every occasion: shown, kept in `findings.json`, and acted upon."""

import numpy as np
from rich.console import Console

from tenor.checks.diagnosis.material import earlier_reports
from tenor.checks.evidence import CheckpointEvidence, EvaluationEvidence, SplitClaims, ValidationPoint
from tenor.checks.finding import Finding, Report, merge
from tenor.checks.run import run_rules
from tenor.checks.show import findings_view, summary_line
from tenor.config.schema import Config
from tenor.errors import RefusedError
from tenor.evaluation.evaluate import SplitResult
from tenor.runs.directory import RunDirectory
from tenor.runs.files import write_json
from tenor.training.state import TrainState


class RunFindings:
    """The reports of one run, in the order of its occasions."""

    def __init__(self, run: RunDirectory, config: Config, console: Console) -> None:
        self._run, self._console, self._checks = run, console, config.checks
        self._reports: list[Report] = []

    @property
    def found(self) -> tuple[Finding, ...]:
        """All findings so far."""
        return tuple(finding for report in self._reports for finding in report.findings)

    def keep(self, report: Report) -> None:
        """Keep a report that was shown and acted upon already, as the watchdog's is."""
        self._reports.append(report)
        self._write()

    def add(self, report: Report) -> None:
        """Keep a report, show it, and act upon it.

        Raises:
            RefusedError: it holds an error that was not allowed, and the policy is to stop.
        """
        self.keep(report)
        self._console.print(summary_line(report), highlight=False)
        self._console.print(findings_view(report.findings))
        if report.errors and self._checks.policy == "stop":
            code = report.errors[0].code
            found = ", ".join(f"{finding.code} ({finding.title})" for finding in report.errors)
            raise RefusedError(
                f"stopped by {found}. Mend it, or accept it with a reason: "
                f"'checks.allow.{code}=why this is meant'; `tenor rule {code}` explains"
            )

    def close(self) -> None:
        """Say which allowances were never needed: they may hide something one day."""
        for code in self.unused_allowances:
            self._console.print(f"checks.allow.{code} was not needed: the rule found nothing", style="yellow")
        self._write()

    @property
    def unused_allowances(self) -> list[str]:
        return [code for code in self._checks.allow if code not in {f.code for f in self.found}]

    def _write(self) -> None:
        write_json(self._run.findings, {**merge(self._reports), "unused_allowances": self.unused_allowances})


def refuse_to_pass_by(run: RunDirectory) -> None:
    """Keep a run that the watchdog stopped from going on before what stopped it, where it may not show again.

    Raises:
        RefusedError: names what stopped it, and what to do.
    """
    training = [report for report in earlier_reports(run.findings) if report.stage == "training"]
    if stopping := [error for report in training for error in report.errors]:
        found = ", ".join(f"{error.code} ({error.title})" for error in stopping)
        raise RefusedError(
            f"{run.reference} was stopped in training by {found}, and can't go on as if it had not been. Mend it and "
            f"start a new run, or accept it with a reason in one: tenor train {run.config} "
            f"'checks.allow.{stopping[0].code}=why this is meant'; `tenor rule {stopping[0].code}` explains"
        )


def evaluation_report(
    config: Config, results: dict[str, SplitResult], state: TrainState, digest: str, earlier: tuple[Finding, ...]
) -> Report:
    """Apply the rules on results: is what was measured a trained model, and the one that was chosen?"""
    splits = {name: split_claims(result) for name, result in results.items()}
    n_classes = len(next(iter(results.values())).metrics.per_class)
    metric, best_step = config.training.select_by, state.best.step if state.best else None
    checkpoints = CheckpointEvidence(
        validations=tuple(ValidationPoint(point.step, getattr(point, metric)) for point in state.validations),
        metric=metric,
        chosen_step=best_step,
        evaluated_step=best_step,
        chosen_digest=digest,
        evaluated_digest=digest,
    )
    evidence = [EvaluationEvidence(splits, n_classes), checkpoints]
    return run_rules(evidence, "evaluation", config.checks.allow, earlier=earlier)


def split_claims(result: SplitResult) -> SplitClaims:
    """A split's result as the rules take it."""
    text, majority = result.baselines.text, result.baselines.majority
    return SplitClaims(
        n=result.metrics.n,
        confusion=np.asarray(result.metrics.confusion),
        accuracy=result.metrics.accuracy,
        labels=result.labels,
        predicted=result.predictions,
        probabilities=result.probabilities,
        text_baseline_accuracy=text if isinstance(text, float) else None,
        majority_accuracy=majority if isinstance(majority, float) else None,
    )
