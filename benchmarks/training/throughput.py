"""Real tokens per second of full fine-tuning, Tenor beside `transformers.Trainer` as it comes and at its best."""

from collections.abc import Callable
from pathlib import Path

from peak import best_product
from shapes import DISTILBERT, Shape, forward_work, reviews, save_random, spread
from tenor.data.dataset import LabelledText
from training.own_process import in_own_process
from training.peers import (
    VALIDATION_ROWS,
    Row,
    Timing,
    TrainerOptions,
    prepare_rows,
    steps_of,
    tenor_config,
    tenor_trains,
    token_rows,
    trainer_trains,
)

POOL = 2048
"""Reviews to draw batches of near-equal length from."""
TUNED_SIZES = (8, 16, 32)


def compare(shape: Shape, length: int, imdb: str, folder: Path, rounds: int, threads: int) -> None:
    """Print what every peer reaches; each round runs all of them on as many reviews of the same pool."""
    count = 64 if shape is DISTILBERT else 128
    model_folder = folder / shape.name
    save_random(shape, model_folder, length)
    pool = reviews(imdb, "train", POOL + VALIDATION_ROWS)
    rows = token_rows(prepare_rows(tenor_config(model_folder, length, threads), pool))
    found: dict[str, list[Timing]] = {}
    peaks, sizes = [], TUNED_SIZES
    for number in range(rounds):
        peaks.append(max(best_product(2048, 3), best_product(4096, 2)))
        for name, run in _peers(model_folder, length, threads, count, sizes, number, pool, rows).items():
            found.setdefault(name, []).append(run(folder / f"{shape.name}-{length}-{name.replace(' ', '-')}-{number}"))
        if number == 0:  # The best size is found once, and only that one runs in the other rounds.
            best = max(sizes, key=lambda size: found[_tuned(size)][0].speed)
            found = {name: kept for name, kept in found.items() if name in ("Tenor", "Trainer", _tuned(best))}
            sizes = (best,)
    _show(shape, length, count, threads, found, peaks)


def _tuned(size: int) -> str:
    return f"Trainer tuned {size}"


def _peers(
    model_folder: Path,
    length: int,
    threads: int,
    count: int,
    sizes: tuple[int, ...],
    seed: int,
    pool: LabelledText,
    rows: list[Row],
) -> dict[str, Callable[[Path], Timing]]:
    def trainer(options: TrainerOptions) -> Callable[[Path], Timing]:
        steps = steps_of(count, options.batch_size)
        return lambda folder: in_own_process(threads, trainer_trains, model_folder, rows, folder, options, steps, seed)

    tuned = {_tuned(size): trainer(TrainerOptions(size, group_by_length=True, attention_dropout=0.0)) for size in sizes}
    return {
        "Tenor": lambda folder: in_own_process(
            threads, _tenor_trains, model_folder, length, threads, count, seed, pool, folder
        ),
        "Trainer": trainer(TrainerOptions()),
        **tuned,
    }


def _tenor_trains(
    model_folder: Path, length: int, threads: int, count: int, seed: int, pool: LabelledText, folder: Path
) -> Timing:
    steps = steps_of(count, tenor_config(model_folder, length, threads).training.batch_size)
    config = tenor_config(model_folder, length, threads, f"training.log_every={steps}", f"seed={seed}")
    return tenor_trains(prepare_rows(config, pool), folder, steps)


def _show(
    shape: Shape, length: int, count: int, threads: int, found: dict[str, list[Timing]], peaks: list[float]
) -> None:
    print(f"\n{shape.name}, {count} reviews at {length} tokens, {threads} threads, {len(peaks)} rounds")
    print(f"{'':20} real tokens/s (spread)       Tenor is faster by")
    for name, timings in found.items():
        speeds = [timing.speed for timing in timings]
        ratios = [ours.speed / theirs.speed for ours, theirs in zip(found["Tenor"], timings, strict=True)]
        print(f"{name:20} {spread(speeds, 7, 0)}  {spread(ratios, 5)}")
    # A training step is three forward passes of work: one forwards, two backwards.
    work = [3 * forward_work(shape, timing.lengths) / timing.seconds for timing in found["Tenor"]]
    shares = [100 * rate / peak for rate, peak in zip(work, peaks, strict=True)]
    print(f"peak {spread(peaks, 5, 1)} GFLOP/s; Tenor computes {spread(work, 5, 1)}, {spread(shares, 5, 1)} % of it")
