"""How long a user waits: for a line of help, and for the first step of training on a warm cache."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5
TENOR = (sys.executable, "-m", "tenor.cli.main")
LEAST = """
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import sys
AutoTokenizer.from_pretrained(sys.argv[1])
AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=2)
"""
"""What no training with `transformers` can do without: its imports, the tokenizer, the model."""
TRAIN = """
import sys, time
from pathlib import Path
import tenor.training.loop as loop
from tenor.cli.main import main

begun, step = Path(sys.argv.pop(1)), loop.optimizer_step

def first_step(*arguments):
    if not begun.exists():
        begun.write_text(str(time.time()))
    return step(*arguments)

loop.optimizer_step = first_step
main()
"""
"""`tenor`, which also writes down when its first optimizer step began."""


def measure_start_up(folder: Path) -> None:
    """Print the medians of a few starts."""
    from tenor.data.sources.embedded import embedded_encoder_folder

    helped = [_seconds([*TENOR, "--help"]) for _ in range(REPEATS)]
    alone = [_seconds([sys.executable, "-c", LEAST, str(embedded_encoder_folder())]) for _ in range(REPEATS)]
    # The first fills the cache.
    starts = [_until_first_step(folder / f"start-{number}") for number in range(REPEATS + 1)][1:]
    print()
    _print("tenor --help", helped)
    _print("a process that imports transformers and loads tokenizer and model, and ends", alone)
    _print("tenor train demo, preflight apart, until its first step begins", [begun for begun, _ in starts])
    _print("tenor train demo, preflight apart, until its first step is done", [done for _, done in starts])


def _print(what: str, seconds: list[float]) -> None:
    print(f"{what}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _until_first_step(root: Path) -> tuple[float, float]:
    """Seconds until a run's first step begins and until it is done, told by its files: its configuration is written
    before preflight, its findings after, the first record after the first step."""
    begun = root / "begun"
    root.mkdir(parents=True)
    command = [sys.executable, "-c", TRAIN, str(begun), "train", "demo", "training.log_every=1", "--runs", str(root)]
    started = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        before = _when_there(process, root, "config.yaml") - started
        checked = _when_there(process, root, "findings.json")
        done = _when_there(process, root, "metrics.jsonl")
        return before + float(begun.read_text()) - checked, before + done - checked
    finally:
        process.kill()
        process.wait()


def _when_there(process: subprocess.Popen, root: Path, name: str) -> float:
    """The time at which a run below `root` has that file, not empty. Raises SystemExit where the run ended first."""
    while not any(path.stat().st_size for path in root.glob(f"*/*/{name}")):
        if process.poll() is not None:
            raise SystemExit(f"tenor train ended with {process.returncode} before it wrote {name}")
        time.sleep(0.01)
    return time.time()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measure_start_up(Path(folder))
