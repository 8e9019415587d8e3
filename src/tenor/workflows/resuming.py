"""Whether an interrupted run can be resumed, and what is different now."""

import os
from collections.abc import Mapping

from rich.console import Console

from tenor.errors import UserError
from tenor.runs.directory import RunDirectory
from tenor.runs.manifest import Job, Manifest, process_lives
from tenor.workflows.prepare import RunInputs, changed_device, changed_inputs, changed_versions
from tenor.workflows.run_checks import refuse_stopped


def require_resumable(run: RunDirectory, manifest: Manifest, job: Job) -> None:
    """Check that the run, which this process has locked, was interrupted, and is of this kind.

    Raises:
        UserError: it is of another kind, complete or still running.
        RefusedError: the watchdog stopped it.
    """
    if manifest.job != job:
        right = f"tenor {manifest.job} --resume {run.path}"
        raise UserError(f"{run.reference} was started by `tenor {manifest.job}`; resume it with: {right}")
    # This process has the lock, so a run that is recorded as running with this process id has ended.
    if manifest.pid != os.getpid() and process_lives(manifest):
        raise UserError(
            f"{run.reference} is still running as process {manifest.pid} on {manifest.host}; wait or stop it first"
        )
    if manifest.status == "completed":
        raise UserError(f"{run.reference} is complete; start a new run with `tenor {job} {run.config}`")
    if manifest.status == "refused":
        refuse_stopped(run)


def require_unchanged(run: RunDirectory, manifest: Manifest, fingerprints: Mapping[str, str]) -> None:
    """Raises UserError if data, weights or tokenizer changed since the run started."""
    if changed := changed_inputs(manifest, fingerprints):
        what = " and ".join(changed)
        raise UserError(
            f"{run.reference} can't be resumed: {what} changed since it started; restore that, or start a new run"
        )


def show_differences(console: Console, manifest: Manifest, inputs: RunInputs) -> None:
    """Print every difference of versions, device, precision and threads from the run as it started."""
    for difference in (*changed_versions(manifest), *changed_device(manifest, inputs)):
        console.print(
            f"{difference}: the run continues, but not bit for bit as before", style="yellow", highlight=False
        )
