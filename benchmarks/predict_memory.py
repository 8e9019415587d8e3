"""Peak memory of `tenor predict` on files of more and more rows: flat, whatever their number.

A tiny model with random weights and texts of eight words, since what is measured does not depend on the model: its
weights and one batch come on top.
"""

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from tenor.config.schema import Data
from tenor.data.sources import read_source
from tenor.data.sources.embedded import embedded_encoder_folder
from tenor.runs.missing import Missing

WORDS = 8
LIMIT_GB = 1.5


def main() -> None:
    options = _options()
    texts = _texts()
    print(f"{'rows':>10}  {'input':>8}  {'peak memory':>11}  {'time':>7}  rows/s")
    peaks = []
    for rows in sorted(options.rows):
        with tempfile.TemporaryDirectory() as folder:
            model, source = Path(folder) / "model", Path(folder) / "in.csv"
            _save_model(model)
            _write(source, islice(cycle(texts), rows))
            target = Path(folder) / "out.csv"
            started = time.perf_counter()
            _predict(model, source, target)
            seconds = time.perf_counter() - started
            # The largest of all children so far, and so of this one: files grow.
            peaks.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9)
            if (found := _count(target)) != rows:
                raise SystemExit(f"{found:,} rows were written for {rows:,}")
            size = source.stat().st_size / 1e6
        print(
            f"{rows:>10,}  {size:>5.0f} MB  {peaks[-1]:>8.2f} GB  {seconds:>5.0f} s  {rows / seconds:>6,.0f}",
            flush=True,
        )
    if peaks[-1] > LIMIT_GB:
        raise SystemExit(f"the peak is above {LIMIT_GB} GB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    return parser.parse_args()


def _texts() -> list[str]:
    rows = read_source(Data()).train
    if isinstance(rows, Missing):
        raise SystemExit(rows.reason)
    return [" ".join(text.split()[:WORDS]) for text in rows.texts]


def _save_model(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForSequenceClassification(BertConfig(num_labels=2, **sizes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_encoder_folder(), model_max_length=128).save_pretrained(folder)


def _write(path: Path, texts: Iterator[str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "text"])
        writer.writerows(enumerate(texts))


def _predict(model: Path, source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "tenor.cli.main", "predict", str(model), "--input", str(source)]
    command += ["--output", str(target), "--engine", "torch", "--device", "cpu", "--threads", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _count(path: Path) -> int:
    """Rows, every one of which has the number of its place."""
    count = 0
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["number"]) != count:
                raise SystemExit(f"row {count:,} is row {row['number']} of the input")
            count += 1
    return count


if __name__ == "__main__":
    main()
