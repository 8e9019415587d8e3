"""Runs killed at random moments and resumed: how many end as if they had never been killed.

Each run is a process of its own, forked from one that has loaded PyTorch; SIGKILL takes all that it holds in memory.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from forked import fork, warm
from same_end import differences
from small_models import save_small_model
from small_runs import write_config
from tenor.measures.intervals import wilson_interval
from tenor.runs.directory import RunDirectory
from tenor.runs.manifest import read_manifest
from tenor.training.checkpoint import DamagedCheckpointError, list_checkpoints, read_state, verify_checkpoint

SETTINGS = ["training.epochs=4"]
KILLS, SEED = 100, 1
COMPLETE = "while the report of a complete run was written"
OUTCOMES = ("resumed exactly", "lost", "corrupt")


def main(kills: int) -> int:
    started, draw = time.monotonic(), random.Random(SEED)
    outcomes: Counter[str] = Counter()
    moments: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["TENOR_CACHE"] = str(root / "cache")
        warm(root / "warm")
        model = save_small_model("distilbert", root / "model")
        whole, seconds = _whole(root / "whole", model)
        print(f"a run takes {seconds:.1f} s from its manifest to its end; {kills} kills, seed {SEED}", flush=True)
        while outcomes.total() < kills:
            place = root / "killed"
            run = _killed(place, model, draw.uniform(0, seconds))
            if run is not None:  # It may have ended before its moment came.
                moment = _moment(run)
                outcome, why = _resumed(place, run, whole)
                outcomes[outcome] += 1
                moments[moment] += 1
                if why or outcomes.total() % 10 == 0:
                    print(f"{outcomes.total():4}  {moment}: {outcome} {why}", flush=True)
            shutil.rmtree(place)
    for moment, count in moments.most_common():
        print(f"killed {moment}: {count}")
    for outcome in OUTCOMES:
        interval = wilson_interval(outcomes[outcome], kills)
        print(f"{outcome}: {outcomes[outcome]} of {kills} (95% interval {interval.low:.1%} to {interval.high:.1%})")
    print(f"in {time.monotonic() - started:.0f} s")
    return 0 if outcomes["resumed exactly"] == kills else 1


def _whole(place: Path, model: Path) -> tuple[RunDirectory, float]:
    """An uninterrupted run, and the seconds from its manifest to its end."""
    config = write_config(place, model)
    child = fork(place, ["train", str(config), *SETTINGS], place / "output.txt")
    begun = _manifest(place, child)
    assert begun is not None
    since = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (place / "output.txt").read_text()
    return RunDirectory(begun.parent), time.monotonic() - since


def _killed(place: Path, model: Path, after: float) -> RunDirectory | None:
    """A run that was killed `after` seconds; None where it had ended."""
    config = write_config(place, model)
    child = fork(place, ["train", str(config), *SETTINGS], place / "output.txt")
    begun = _manifest(place, child)
    assert begun is not None
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return RunDirectory(begun.parent) if status == -signal.SIGKILL else None


def _manifest(place: Path, child: int) -> Path | None:
    """Wait until the run has its manifest: before that there is nothing that could be lost."""
    while True:
        if found := list(place.glob("runs/*/*/manifest.json")):
            return found[0]
        time.sleep(0.001)


def _moment(run: RunDirectory) -> str:
    if read_manifest(run).status == "completed":
        return COMPLETE
    if list(run.checkpoints.glob(".tmp-*")):
        return "while a checkpoint was written or removed"
    try:
        newest = [verify_checkpoint(path) for path in list_checkpoints(run.checkpoints)][-1:]
    except DamagedCheckpointError:
        return "and left a damaged checkpoint"
    if not newest:
        return "before the first checkpoint"
    return "during the final evaluation" if read_state(newest[0]).finished else "between two checkpoints"


def _resumed(place: Path, run: RunDirectory, whole: RunDirectory) -> tuple[str, str]:
    """How the run ended, and what is wrong with it."""
    if read_manifest(run).status == "completed":
        # Only its report was still being written, which `tenor report` writes at any time.
        wrong = [name for name in _differences(place / "differences.json", run, whole) if name != "nothing left over"]
        return ("corrupt", ", ".join(wrong)) if wrong else ("resumed exactly", "")
    output = place / "resumed.txt"
    child = fork(place, ["train", "--resume", str(run.path)], output)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        return "lost", output.read_text()
    wrong = _differences(place / "differences.json", run, whole)
    return ("corrupt", ", ".join(wrong)) if wrong else ("resumed exactly", "")


def _differences(answer: Path, run: RunDirectory, whole: RunDirectory) -> list[str]:
    """Compared in a child, so that this process starts no threads and stays fit for forking."""
    child = os.fork()
    if child == 0:
        try:
            answer.write_text(json.dumps(differences(run, whole)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return json.loads(answer.read_text()) if answer.exists() else ["could not be compared"]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS))
