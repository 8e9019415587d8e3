"""How a run ends, whatever happens: a status in the manifest and a row in the summary, never silence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenor.config.schema import Config
from tenor.errors import InterruptedRunError, RefusedError, TenorError
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import absent
from tenor.runs.files import digest_folder
from tenor.runs.manifest import read_manifest, update_manifest
from tenor.runs.summary import CheckpointRow, SummaryRow, upsert_row
from tenor.training.checkpoint import Checkpoint
from tenor.training.state import TrainState


@dataclass
class Outcome:
    """What a run has reached so far; the summary's row is made from it."""

    val_metrics: dict[str, Any] = field(default_factory=lambda: absent("the run ended before its evaluation"))
    test_metrics: dict[str, Any] = field(default_factory=lambda: absent("the run ended before its evaluation"))
    best: Checkpoint | None = None
    checkpoints: tuple[CheckpointRow, ...] = ()
    findings: tuple[dict[str, Any], ...] = ()


@contextmanager
def recorded_outcome(run: RunDirectory, root: Path, config: Config) -> Iterator[Outcome]:
    """Record how the block ends: completed, refused, interrupted or failed. Errors go on to the caller."""
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        _record(run, root, config, outcome, _status(error), f"{type(error).__name__}: {error}")
        raise
    _record(run, root, config, outcome, "completed", None)


def checkpoint_rows(root: Path, kept: list[Checkpoint], state: TrainState) -> tuple[CheckpointRow, ...]:
    """The summary's account of the checkpoints that were kept."""
    measured = {v.step: {"accuracy": v.accuracy, "macro_f1": v.macro_f1, "loss": v.loss} for v in state.validations}
    return tuple(
        CheckpointRow(
            relative(checkpoint.path, root),
            checkpoint.step,
            measured.get(checkpoint.step, absent("not validated at this step")),
            checkpoint.digest,
        )
        for checkpoint in kept
    )


def headline(split: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a split of `eval_best_model.json` that the summary's row holds."""
    kept = ("absent", "n", "accuracy", "accuracy_interval", "macro_f1", "loss", "baselines", "confusion_matrix")
    return {name: split[name] for name in kept if name in split}


def relative(path: Path, root: Path) -> str:
    """A path as the summary holds it: below the runs' root."""
    return path.resolve().relative_to(root.resolve()).as_posix()


def _status(error: BaseException) -> str:
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return "interrupted"
    return "refused" if isinstance(error, RefusedError) else "failed"


def _record(run: RunDirectory, root: Path, config: Config, outcome: Outcome, status: str, error: str | None) -> None:
    told = absent("no error") if error is None else error
    digests = {"model": digest_folder(run.model)} if run.model.is_dir() else {}
    update_manifest(run, status=status, error=told, digests=digests)
    path = relative(outcome.best.path, root) if outcome.best else absent("no checkpoint was chosen")
    row = SummaryRow(
        run_id=run.run_id,
        config_name=run.config_name,
        config=config.model_dump(mode="json"),
        status=status,  # type: ignore[arg-type]
        duration_sec=read_manifest(run).duration_sec,
        ckpt_path=path,
        val_metrics=outcome.val_metrics,
        test_metrics=outcome.test_metrics,
        findings=outcome.findings,
        checkpoints=outcome.checkpoints,
        error=told,
    )
    try:
        upsert_row(root, row)
    except ValueError as incomplete:
        # A run that can't be traced is a failed one, whatever else went well.
        update_manifest(run, status="failed", error=str(incomplete))
        raise TenorError(f"{run.path}: {incomplete}") from incomplete
