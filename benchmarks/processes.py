"""Steps of `demo` by one process with replicas and by two processes with one thread each, in turns; and the time in
which two processes average as many numbers as the model has gradients.

    python benchmarks/processes.py
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tenor.runs.directory import list_runs
from tenor.runs.step_records import read_records
from tenor.training.processes import joined

ROUNDS = 1
"""More rounds show the machine's noise; one takes a minute and a half."""
SETTINGS = (
    *("data.subset.size=320", "data.validation.size=20", "data.test_size=20", "training.epochs=1"),
    *("training.log_every=10", "training.trackers=[]", "checks.probe_seconds=0", "checks.policy=warn"),
    *("evaluation.text_baseline=false", "model.hybrid=off"),
)
LAUNCHERS = {
    "one process": [],
    "two processes": ["-m", "torch.distributed.run", "--nproc-per-node", "2"],
}
GRADIENTS = 22_700_000
"""Trainable parameters of MiniLM-L6."""


def tokens_per_second(launcher: list[str]) -> float:
    """Of a run of 20 steps, which are recorded twice: the median."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *launcher, "-m", "tenor", "train", "demo", *SETTINGS, "--runs", folder]
        subprocess.run(command, check=True, capture_output=True)
        (run,) = list_runs(Path(folder))
        records = [record for record in read_records(run.metrics) if record["kind"] == "train"]
        return statistics.median(record["tokens_per_second"] for record in records)


def exchange() -> None:
    """Run by every process: print the time of one exchange of gradients."""
    with joined() as processes:
        numbers, times = torch.ones(GRADIENTS), []
        for _ in range(8):
            started = time.perf_counter()
            processes.add(numbers)
            times.append(time.perf_counter() - started)
        if processes.is_main:
            seconds = statistics.median(times)
            print(f"{4 * GRADIENTS / 1e6:.0f} MB of gradients averaged in {1000 * seconds:.0f} ms")


def main() -> None:
    rates: dict[str, list[float]] = {name: [] for name in LAUNCHERS}
    for _ in range(ROUNDS):
        for name, launcher in LAUNCHERS.items():
            rates[name].append(tokens_per_second(launcher))
            print(f"{name}: {rates[name][-1]:,.0f} tokens/s", flush=True)
    ratios = [two / one for one, two in zip(*rates.values(), strict=True)]
    print(f"two processes against one: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    subprocess.run([sys.executable, *LAUNCHERS["two processes"], __file__, "exchange"], check=True)


if __name__ == "__main__":
    exchange() if sys.argv[1:] == ["exchange"] else main()
