"""How a run ends, whatever happens: a status in the manifest and a row in the summary, never silence."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenor.config.schema import Config
from tenor.errors import InterruptedRunError, RefusedError, TenorError, UserError, system_refusal
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import absent
from tenor.runs.files import digest_folder
from tenor.runs.manifest import read_manifest, update_manifest
from tenor.runs.summary import CheckpointRow, SummaryRow, upsert_row
from tenor.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    list_checkpoints,
    read_state,
    verify_checkpoint,
)
from tenor.training.signals import terminate_as_interrupt
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
    """Record how the block ends: completed, refused, interrupted or failed. Errors go on to the caller.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM ended it.
        TenorError: the system kept a file from being written, or the run can't be traced.
    """
    outcome = Outcome()
    try:
        with terminate_as_interrupt():
            yield outcome
        _record(run, root, config, outcome, "completed", None)
    except BaseException as error:
        told = _for_people(error, run)
        try:
            _record(run, root, config, outcome, _status(told), f"{type(told).__name__}: {told}")
        except (OSError, UserError) as unwritten:
            # Where the disk is full the run's end can't be written down either; it can be resumed all the same.
            if not isinstance(told, TenorError):
                raise told from unwritten
        if told is error:
            raise
        raise told from error


def _for_people(error: BaseException, run: RunDirectory) -> BaseException:
    """The error with the next step, where a person ended the run or can mend what did."""
    go_on = f"Go on with: tenor train --resume {run.path}"
    if isinstance(error, KeyboardInterrupt | InterruptedRunError):
        return InterruptedRunError(f"{str(error) or 'SIGINT'}. {go_on}")
    if (refusal := system_refusal(error)) is not None:
        return TenorError(f"{refusal}. The checkpoints in {run.checkpoints} are untouched. {go_on}")
    return error


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
    if isinstance(error, InterruptedRunError):
        return "interrupted"
    return "refused" if isinstance(error, RefusedError) else "failed"


def _record(run: RunDirectory, root: Path, config: Config, outcome: Outcome, status: str, error: str | None) -> None:
    told = absent("no error") if error is None else error
    started = datetime.fromisoformat(read_manifest(run).started)
    seconds = (datetime.now(UTC) - started).total_seconds()
    row = SummaryRow(
        run_id=run.run_id,
        config_name=run.config_name,
        config=config.model_dump(mode="json"),
        status=status,  # type: ignore[arg-type]
        duration_sec=seconds,
        ckpt_path=relative(outcome.best.path, root) if outcome.best else absent("no checkpoint was chosen"),
        val_metrics=outcome.val_metrics,
        test_metrics=outcome.test_metrics,
        findings=outcome.findings,
        checkpoints=outcome.checkpoints or _kept(run, root),
        error=told,
    )
    digests = {"model": digest_folder(run.model)} if run.model.is_dir() else {}
    try:
        # The manifest last: a run that says it is complete can't be resumed, so all else must be written by then.
        upsert_row(root, row)
    except ValueError as incomplete:
        # A run that can't be traced is a failed one, whatever else went well.
        raise TenorError(f"{run.path}: {incomplete}") from incomplete
    update_manifest(run, status=status, error=told, digests=digests, duration_sec=seconds)


def _kept(run: RunDirectory, root: Path) -> tuple[CheckpointRow, ...]:
    """The whole checkpoints of a run that ended before it named them."""
    whole = []
    for path in list_checkpoints(run.checkpoints):
        with suppress(DamagedCheckpointError):  # What resumes the run tells of a damaged one.
            whole.append(verify_checkpoint(path))
    return checkpoint_rows(root, whole, read_state(whole[-1])) if whole else ()
