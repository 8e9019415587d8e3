"""How long a user waits: for a line of help, and for the first step of training on a warm cache."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 3
TENOR = (sys.executable, "-m", "tenor.cli.main")


def measure_start_up(folder: Path) -> None:
    """Print the medians of a few starts."""
    helped = [_seconds([*TENOR, "--help"]) for _ in range(REPEATS)]
    stepped = [_until_first_step(folder / f"start-{number}") for number in range(REPEATS + 1)][
        1:
    ]  # The first fills the cache.
    print(f"\ntenor --help {statistics.median(helped):.2f} s ({min(helped):.2f} to {max(helped):.2f})")
    print(
        f"tenor train demo, preflight apart, until its first step is done: "
        f"{statistics.median(stepped):.1f} s ({min(stepped):.1f} to {max(stepped):.1f})"
    )


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _until_first_step(root: Path) -> float:
    """Seconds of a run's start, told by its files: its configuration is written before preflight, its findings after,
    the first record after the first step."""
    command = [*TENOR, "train", "demo", "training.log_every=1", "--runs", str(root)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        prepared = _when_there(process, root, "config.yaml")
        checked = _when_there(process, root, "findings.json")
        return prepared - started + _when_there(process, root, "metrics.jsonl") - checked
    finally:
        process.kill()
        process.wait()


def _when_there(process: subprocess.Popen, root: Path, name: str) -> float:
    """The time at which a run below `root` has that file, not empty. Raises SystemExit where the run ended first."""
    while not any(path.stat().st_size for path in root.glob(f"*/*/{name}")):
        if process.poll() is not None:
            raise SystemExit(f"tenor train ended with {process.returncode} before it wrote {name}")
        time.sleep(0.01)
    return time.perf_counter()
