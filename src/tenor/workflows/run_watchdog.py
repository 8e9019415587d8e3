"""A run's watchdog. What it notes and tells stands in `metrics.jsonl`, so that a resumed run goes on with all of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from tenor.checks.finding import Finding
from tenor.checks.show import findings_view
from tenor.checks.watchdog import Watchdog
from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.training.loop import TrainingTask
from tenor.training.recorder import Recorder, read_records
from tenor.training.state import Window
from tenor.workflows.findings import RunFindings
from tenor.workflows.prepare import Prepared

HEARD = ("predicted_counts", "label_counts", "update_ratio", "skipped_steps")
"""What the watchdog notes of some steps besides the numbers that the loop tells of them."""
JUDGED = ("loss", "grad_norm", "learning_rate")
"""Which of these numbers it takes."""


def make_watchdog(
    prepared: Prepared, task: TrainingTask, findings: RunFindings, recorder: Recorder, console: Console
) -> Watchdog:
    """A watchdog over the run's model that shows and records what it finds at once."""
    checks = prepared.config.checks

    def tell(finding: Finding) -> None:
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
        earlier=findings.found,
        on_finding=tell,
    )
    return watchdog


def record_and_judge(
    recorder: Recorder, watchdog: Watchdog, step: int, values: Mapping[str, float], window: Window
) -> None:
    """Record what the steps up to `step` held, and judge it.

    Raises:
        RefusedError: the watchdog found an error and the policy is to stop.
    """
    noted = watchdog.note(
        step,
        **{name: values[name] for name in JUDGED},
        predicted_counts=window.predicted_counts,
        label_counts=window.label_counts,
    )
    recorder.record("train", step, **values, **{name: noted[name] for name in HEARD if name in noted})
    watchdog.judge()


def recall(run: RunDirectory, watchdog: Watchdog, done: int) -> None:
    """Give the watchdog of a run that is resumed after `done` steps what the one before it noted and told until then.

    Otherwise it would take the first losses after the cut for the first of all, and what was told would be forgotten.

    Raises:
        RefusedError: as `record_and_judge`.
        UserError: a record is not as Tenor writes it.
    """
    records = [record for record in read_records(run.metrics) if record["step"] <= done]
    noted: list[dict[str, Any]] = [
        {"steps": record["step"], **{name: record[name] for name in (*JUDGED, *HEARD) if name in record}}
        for record in records
        if record["kind"] == "train"
    ]
    try:
        told = TypeAdapter(tuple[Finding, ...]).validate_python(
            [record["finding"] for record in records if record["kind"] == "finding"]
        )
        watchdog.go_on(done, noted, told)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = " ".join(str(error).split())[:200]
        raise UserError(
            f"{run.metrics}: holds a record that Tenor did not write ({type(error).__name__}: {what}). "
            f"Restore the file, or start a new run"
        ) from error
