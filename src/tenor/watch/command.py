"""`tenor watch -- COMMAND`: runs the command with the hooks in its Python processes, and says what they saw."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tenor.errors import UserError
from tenor.runs.files import write_text
from tenor.runs.findings import FINDINGS
from tenor.watch.outputs import RECORD, REPORT, junit, records_below, sarif, write_report
from tenor.watch.session import STOPPED
from tenor.watch.settings import WatchSettings

FORWARDED = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)


def run_watched(
    command: Sequence[str], settings: WatchSettings, sarif_file: Path | None = None, junit_file: Path | None = None
) -> int:
    """Run the command to its end and return its exit status; 128 + N if signal N ended it, 3 if a finding stopped it.

    Standard input, output and error are the command's own.

    Raises:
        UserError: the command does not exist.
    """
    _forget(settings.folder)
    status = _run(_with_python(command), {**os.environ, **settings.environment()})
    records = records_below(settings.folder) if settings.folder.exists() else []
    if not records:
        _say(
            "no training and no evaluation in PyTorch was seen, so nothing was checked. Reasons can be: the program "
            "runs another Python than one with tenor, with `python -I`, `-E` or `-S`, or on another machine; or it "
            "ended before its first optimizer step."
        )
        return status
    outcome = _outcome(status)
    for folder, record in records:
        write_report(folder, record, outcome)
    if len(records) > 1:
        _say(
            f"{len(records)} processes were watched; each has a report: "
            f"{', '.join(str(folder / REPORT) for folder, _ in records)}"
        )
    if status < 0 or status > 128:
        _say(f"{outcome} Report of what was seen before: {records[0][0] / REPORT}")
    for file, make in ((sarif_file, sarif_text), (junit_file, junit)):
        if file is not None:
            write_text(file, make(_merged([record for _, record in records])))
    return STOPPED if any(record["stopped"] for _, record in records) else status


def sarif_text(record: dict[str, Any]) -> str:
    import tenor

    return sarif(record, tenor.__version__)


def _with_python(command: Sequence[str]) -> list[str]:
    """A script or a module runs with the Python that runs this."""
    if not command:
        raise UserError("no command was given; for example: tenor watch -- python train.py")
    words = list(command)
    if words[0] == "-m" or words[0].endswith(".py"):
        words = [sys.executable, *words]
    if shutil.which(words[0]) is None:
        raise UserError(f"the command {words[0]!r} was not found; give it as you run it, for example: python train.py")
    return words


def _run(words: list[str], environment: dict[str, str]) -> int:
    """Run a command; signals that are sent to this process reach it. Ctrl-C reaches it from the terminal."""
    with subprocess.Popen(words, env=environment) as process:

        def forward(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        before = {number: signal.signal(number, forward) for number in FORWARDED}
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 128 - status if status < 0 else status


def _forget(folder: Path) -> None:
    """Remove the records of an earlier program from a folder that is used again."""
    for record in list(folder.rglob(RECORD)) if folder.is_dir() else []:
        for name in (RECORD, REPORT, FINDINGS):
            (record.parent / name).unlink(missing_ok=True)


def _outcome(status: int) -> str:
    if status == 0:
        return "The program ended with exit status 0."
    if status > 128:
        try:
            name = signal.Signals(status - 128).name
        except ValueError:
            return f"The program ended with exit status {status}."
        return f"The program was ended by {name}."
    return f"The program ended with exit status {status}."


def _merged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The findings of all processes, each code once."""
    findings = {one["code"]: one for record in reversed(records) for one in record["findings"]}
    checked = dict.fromkeys(code for record in records for code in record["checked"])
    return {**records[0], "findings": list(findings.values()), "checked": list(checked)}


def _say(text: str) -> None:
    print(f"tenor watch: {text}", file=sys.stderr)
