"""Checkpoints damaged in every file and every way: is each found, told, and the one before it used?"""

import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from forked import Fault, fork, warm
from same_end import differences
from small_models import save_small_model
from small_runs import write_config
from tenor.measures.intervals import wilson_interval
from tenor.runs.directory import RunDirectory, list_runs
from tenor.training.checkpoint import FILES, MANIFEST, list_checkpoints
from tenor.workflows.train import newest_checkpoint

CASES, SEED = 2_000, 1


def flip_bit(content: bytes, draw: random.Random, other: bytes) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def overwrite(content: bytes, draw: random.Random, other: bytes) -> bytes:
    """A stretch of zeros, as a file system leaves after a power cut."""
    at = draw.randrange(len(content))
    length = draw.randint(1, len(content) - at)
    return content[:at] + bytes(length) + content[at + length :]


def truncate(content: bytes, draw: random.Random, other: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def delete_bytes(content: bytes, draw: random.Random, other: bytes) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + content[at + draw.randint(1, 16) :]


def insert_bytes(content: bytes, draw: random.Random, other: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.randbytes(draw.randint(1, 16)) + content[at:]


def exchange(content: bytes, draw: random.Random, other: bytes) -> bytes:
    """The same file of another checkpoint: sound in itself, and the wrong one."""
    return other


def remove(content: bytes, draw: random.Random, other: bytes) -> None:
    return None


Damage = Callable[[bytes, random.Random, bytes], bytes | None]
DAMAGES: tuple[Damage, ...] = (flip_bit, overwrite, truncate, delete_bytes, insert_bytes, exchange, remove)


def main(cases: int) -> int:
    started, draw = time.monotonic(), random.Random(SEED)
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["TENOR_CACHE"] = str(root / "cache")
        warm(root / "warm")
        run, whole = _runs(root)
        ways = [(name, damage) for name in (*FILES, MANIFEST) for damage in DAMAGES]
        for number in range(cases):
            name, damage = ways[number % len(ways)]
            verdict = _judge(run, name, damage, draw)
            found[damage.__name__, verdict] += 1
            if verdict != "detected":
                print(f"{name}, {damage.__name__}: {verdict}", flush=True)
        resumed = [_resume(root, run, whole, name, damage, draw) for name, damage in ways]
    for damage in DAMAGES:
        of_kind = {verdict: count for (kind, verdict), count in found.items() if kind == damage.__name__}
        print(f"{damage.__name__:13} {of_kind}")
    detected = sum(count for (_, verdict), count in found.items() if verdict == "detected")
    interval = wilson_interval(detected, cases)
    print(f"detected: {detected} of {cases:,} (95% interval {interval.low:.2%} to {interval.high:.2%})")
    print(f"resumed with the damage, told, and ended exactly: {sum(resumed)} of {len(resumed)}")
    print(f"in {time.monotonic() - started:.0f} s")
    return 0 if detected == cases and all(resumed) else 1


def _runs(root: Path) -> tuple[RunDirectory, RunDirectory]:
    """A run that was killed before its final evaluation, and the same one whole."""
    model = save_small_model("distilbert", root / "model")
    for name, fault in (("cut", Fault("tenor.workflows.train.save_model")), ("whole", None)):
        config = write_config(root / name, model)
        child = fork(root / name, ["train", str(config)], root / name / "output.txt", fault)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == (-signal.SIGKILL if fault else 0), (root / name / "output.txt").read_text()
    (cut,), (whole,) = list_runs(root / "cut" / "runs"), list_runs(root / "whole" / "runs")
    return cut, whole


def _judge(run: RunDirectory, name: str, damage: Damage, draw: random.Random) -> str:
    """Damage the newest checkpoint's file `name`, ask for the newest checkpoint, and put the file back."""
    *_, before, newest = list_checkpoints(run.checkpoints)
    file = newest / name
    sound = file.read_bytes()
    try:
        _damage(file, before / name, damage, draw)
        console = Console(file=io.StringIO(), width=1000)
        chosen = newest_checkpoint(run, console)
        told = console.file.getvalue()  # type: ignore[attr-defined]
        if chosen is None or chosen.path != before:
            return "not detected"
        return "detected" if "damaged checkpoint" in told and str(newest) in told else "not told"
    except Exception:
        return f"a traceback: {traceback.format_exc()}"
    finally:
        file.write_bytes(sound)


def _damage(file: Path, other: Path, damage: Damage, draw: random.Random) -> None:
    sound = file.read_bytes()
    while True:
        content = damage(sound, draw, other.read_bytes())
        if content is None:
            file.unlink()
            return
        if content != sound:  # A stretch of zeros may have been zeros before.
            file.write_bytes(content)
            return


def _resume(root: Path, run: RunDirectory, whole: RunDirectory, name: str, damage: Damage, draw: random.Random) -> bool:
    """Damage a copy of the run and resume it as a user would."""
    place = root / "damaged"
    shutil.copytree(run.path.parent.parent, place / "runs")
    (copy,) = list_runs(place / "runs")
    *_, before, newest = list_checkpoints(copy.checkpoints)
    _damage(newest / name, before / name, damage, draw)
    output = place / "output.txt"
    child = fork(place, ["train", "--resume", "latest"], output)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = output.read_text()
    fine = status == 0 and "damaged checkpoint" in told and "Traceback" not in told and not differences(copy, whole)
    if not fine:
        print(f"{name}, {damage.__name__}: {told}", flush=True)
    shutil.rmtree(place)
    return fine


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else CASES))
