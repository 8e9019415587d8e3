"""Minutes of training until a classifier is good: Tenor's defaults beside `transformers.Trainer`'s.

MiniLM learns from the official IMDb training set but for 2,500 fixed reviews, on which accuracy is measured every tenth
of an epoch; a level is reached where it is met twice in a row. Minutes count training alone, not the measurements.
`Trainer` sees as many tokens of a text as Tenor does (`--trainer-length`): longer ones would only make it slower.
All is kept in `--folder`: what was cut goes on behind its last measurement, what reached its level or its last epoch
is not made again.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from tenor.config.loading import load_config
from tenor.data.splits import Splits
from tenor.measures.text_baseline import fit_text_baseline
from tenor.workflows.prepare import prepare
from time_to_accuracy.measured import LEVELS, Curve, minutes_until, read_points
from time_to_accuracy.peers import tenor_learns, trainer_learns
from training.own_process import in_own_process

VALIDATION_ROWS = 2500


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    config = load_config(
        "imdb_minilm",
        [
            f"data.path={options.imdb}",
            f"data.validation.size={VALIDATION_ROWS}",
            f"training.threads={options.threads}",
            "training.evaluate_every=0.1",
            "training.checkpoint_every=null",
            "training.log_every=1",
            *options.set,
        ],
    )
    splits, file = prepare(config).splits, options.folder / "points.jsonl"
    for seed in range(options.seeds):
        for peer in options.peers:
            curve, folder = Curve(file, peer, seed, options.until), options.folder / f"{peer}-{seed}"
            ended = folder / "ended"
            if ended.exists() or curve.is_enough():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            if peer == "tenor":
                in_own_process(options.threads, tenor_learns, config, seed, folder, curve)
            else:
                in_own_process(options.threads, trainer_learns, splits, options.trainer_length, seed, folder, curve)
            if not curve.is_enough():  # Its epochs are over: there is no more to come, for a higher level either.
                ended.touch()
    _show(file, splits)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-time-to-accuracy")
    parser.add_argument("imdb", help="a folder of Parquet files, an extracted aclImdb folder, or the official archive")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", choices=("tenor", "trainer"), nargs="+", default=["tenor", "trainer"])
    parser.add_argument("--trainer-length", type=int, default=256, help="tokens of a text that Trainer sees")
    parser.add_argument("--until", type=float, choices=LEVELS, default=LEVELS[-1], help="the level to train for")
    parser.add_argument("--folder", type=Path, default=Path("runs/time-to-accuracy"))
    parser.add_argument("--set", nargs="+", default=[], help="settings of Tenor's to try, as dotted.key=value")
    return parser.parse_args()


def _show(file: Path, splits: Splits) -> None:
    train, validation = splits.train, splits.validation
    started = time.perf_counter()
    baseline = fit_text_baseline(train.texts, train.labels, 2, 0)
    accuracy = float((baseline.probabilities(validation.texts).argmax(1) == validation.labels).mean())
    print(f"text baseline: {accuracy:.2%} after {(time.perf_counter() - started) / 60:.1f} min")
    points = read_points(file)
    for level in LEVELS:
        for peer in sorted({point.peer for point in points}):
            seeds = sorted({point.seed for point in points if point.peer == peer})
            found = [minutes_until(level, Curve(file, peer, seed).points()) for seed in seeds]
            shown = ", ".join("not reached" if one is None else f"{one:.1f}" for one in found)
            reached = [one for one in found if one is not None]
            middle = f"median {statistics.median(reached):.1f} min" if len(reached) == len(found) else ""
            print(f"{level:.0%}  {peer:8} {shown}  {middle}")


if __name__ == "__main__":
    main()
