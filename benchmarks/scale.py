"""`tenor predict` for many files: one process against the workers of a local Ray cluster.

Throughput: the same files, MiniLM with random weights, texts of real reviews; one process with one thread, one process
with a thread per core, and a Ray worker with one thread per core. The rate is that after the first third of the files,
since starting and loading cost the same whatever their number; the whole time is printed too.

Memory: of the process that drives the cluster, on more and more rows, with a tiny model and texts of two words.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from shapes import MINILM, save_random
from tenor.config.schema import Data
from tenor.data.sources import read_source
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.model.device import plan_device
from tenor.runs.missing import Missing

WORDS = 2
LIMIT_GB = 1.5


@dataclass(frozen=True)
class Job:
    """A finished call of `tenor predict`."""

    seconds: float
    """Of the whole command."""
    rate: float
    """Rows per second after the first third of the files."""
    peak_gb: float
    """Of the process that was called, without the workers."""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        if not options.no_throughput:
            _throughput(Path(folder), options.files, options.reviews)
        if options.rows:
            _memory(Path(folder), sorted(options.rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=18)
    parser.add_argument("--reviews", type=int, default=100, help="per file")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="of which memory")
    parser.add_argument("--no-throughput", action="store_true")
    return parser.parse_args()


def _throughput(folder: Path, files: int, reviews: int) -> None:
    cores = plan_device("cpu").threads
    model, inputs = folder / "minilm", folder / "reviews"
    save_random(MINILM, model, 128)
    _write_files(inputs, islice(cycle(_texts(None)), files * reviews), files, files * reviews)
    jobs = {
        "one process, 1 thread": (1, ["--threads", "1"]),
        f"one process, {cores} threads": (1, ["--threads", str(cores)]),
        f"Ray, {cores} workers of 1 thread": (cores, ["--threads", "1", "--ray", "--workers", str(cores)]),
    }
    alone = 0.0
    digests = set()
    for name, (workers, arguments) in jobs.items():
        output = folder / name.replace(" ", "-")
        job = _predict(model, inputs, output, arguments, workers, reviews)
        alone = alone or job.rate
        digests.add(tuple(path.read_bytes() for path in sorted(output.glob("*.csv"))))
        print(
            f"{name:<28} {job.rate:7.1f} rows/s  {job.rate / alone:5.2f} times one thread, {job.seconds:5.0f} s in all",
            flush=True,
        )
    print(f"all outputs have the same bytes: {len(digests) == 1}")


def _memory(folder: Path, sizes: Sequence[int]) -> None:
    model = folder / "tiny"
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(num_labels=2, **shape)).save_pretrained(model)
    AutoTokenizer.from_pretrained(embedded_encoder_folder(), model_max_length=64).save_pretrained(model)
    print(f"{'rows':>10}  {'files':>6}  {'driver':>8}  {'time':>6}")
    for rows in sizes:
        inputs, output, files = folder / f"in-{rows}", folder / f"out-{rows}", max(2, rows // 20_000)
        _write_files(inputs, islice(cycle(_texts(WORDS)), rows), files, rows)
        job = _predict(model, inputs, output, ["--threads", "1", "--ray"], 1, rows // files)
        _require_every_row(output, rows)
        print(f"{rows:>10,}  {files:>6}  {job.peak_gb:>5.2f} GB  {job.seconds:>4.0f} s", flush=True)
        if job.peak_gb > LIMIT_GB:
            raise SystemExit(f"the peak is above {LIMIT_GB} GB")


def _texts(words: int | None) -> list[str]:
    rows = read_source(Data()).train
    if isinstance(rows, Missing):
        raise SystemExit(rows.reason)
    return [" ".join(text.split()[:words]) for text in rows.texts[:20_000]]


def _write_files(folder: Path, texts: Iterator[str], files: int, rows: int) -> None:
    folder.mkdir()
    numbered = enumerate(texts)
    for file in range(files):
        with open(folder / f"{file:05}.csv", "w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target)
            writer.writerow(["number", "text"])
            writer.writerows(islice(numbered, rows * (file + 1) // files - rows * file // files))


def _predict(model: Path, inputs: Path, output: Path, arguments: list[str], workers: int, rows_per_file: int) -> Job:
    command = [sys.executable, "-m", "tenor.cli.main", "predict", str(model), "--input", str(inputs)]
    command += ["--output", f"{output}/", "--engine", "torch", "--device", "cpu", "--json", *arguments]
    started = time.perf_counter()
    with open(output.with_suffix(".log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.DEVNULL)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak_gb(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        log.seek(0)
        record = json.loads(log.read())
    if process.returncode or record["failed_files"]:
        raise SystemExit(f"{' '.join(command)}: {record}")
    finished = sorted(path.stat().st_mtime for path in output.glob("*.csv"))
    first = max(workers, len(finished) // 3)  # The first worker may be quicker than the others to start.
    rate = (len(finished) - first) * rows_per_file / max(finished[-1] - finished[first - 1], 1e-9)
    return Job(seconds, rate, peak)


def _peak_gb(pid: int) -> float:
    """The largest resident memory of a process so far; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), default=0.0)


def _require_every_row(folder: Path, rows: int) -> None:
    """Raises SystemExit unless the files, in order, have every row once."""
    count = 0
    for path in sorted(folder.glob("*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if int(row["number"]) != count:
                    raise SystemExit(f"{path}: row {count:,} is row {row['number']} of the inputs")
                count += 1
    if count != rows:
        raise SystemExit(f"{count:,} rows were written for {rows:,}")


if __name__ == "__main__":
    main()
