"""Real tokens per second of full fine-tuning: Tenor in each number type, and `transformers.Trainer` with its default
settings and at its best."""

from collections.abc import Callable
from pathlib import Path

from peak import best_product, machine, types
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
    count = 64 if shape is DISTILBERT else 256
    model_folder = folder / shape.name
    save_random(shape, model_folder, length)
    pool = reviews(imdb, "train", POOL + VALIDATION_ROWS)
    rows = token_rows(prepare_rows(tenor_config(model_folder, length, threads), pool))
    found: dict[str, list[Timing]] = {}
    peaks: dict[str, list[float]] = {kind: [] for kind in types()}
    tuned = [(size, kind) for kind in types() for size in TUNED_SIZES]
    for number in range(rounds):
        for kind, dtype in types().items():
            peaks[kind].append(max(best_product(2048, 3, dtype), best_product(4096, 2, dtype)))
        for name, run in _peers(model_folder, length, threads, count, tuned, number, pool, rows).items():
            found.setdefault(name, []).append(run(folder / f"{shape.name}-{length}-{name.replace(' ', '-')}-{number}"))
        if number == 0:  # The best settings are found once, and only those run in the other rounds.
            best = max(tuned, key=lambda one: found[_tuned(*one)][0].speed)
            found = {name: kept for name, kept in found.items() if "tuned" not in name or name == _tuned(*best)}
            tuned = [best]
    _show(shape, length, count, threads, found, peaks)


def _tuned(size: int, kind: str) -> str:
    return f"Trainer tuned {size} {kind}"


def _peers(
    model_folder: Path,
    length: int,
    threads: int,
    count: int,
    tuned: list[tuple[int, str]],
    seed: int,
    pool: LabelledText,
    rows: list[Row],
) -> dict[str, Callable[[Path], Timing]]:
    def trainer(options: TrainerOptions) -> Callable[[Path], Timing]:
        steps = steps_of(count, options.batch_size)
        return lambda folder: in_own_process(threads, trainer_trains, model_folder, rows, folder, options, steps, seed)

    def tenor(kind: str) -> Callable[[Path], Timing]:
        return lambda folder: in_own_process(
            threads, _tenor_trains, model_folder, length, threads, count, seed, kind, pool, folder
        )

    return {
        **{f"Tenor {kind}": tenor(kind) for kind in types()},
        "Trainer": trainer(TrainerOptions()),
        **{_tuned(*one): trainer(_tuned_options(*one)) for one in tuned},
    }


def _tuned_options(size: int, kind: str) -> TrainerOptions:
    return TrainerOptions(size, group_by_length=True, attention_dropout=0.0, bf16=kind == "bf16")


def _tenor_trains(
    model_folder: Path, length: int, threads: int, count: int, seed: int, kind: str, pool: LabelledText, folder: Path
) -> Timing:
    steps = steps_of(count, tenor_config(model_folder, length, threads).training.batch_size)
    overrides = (f"training.log_every={steps}", f"seed={seed}", f"training.precision={kind}")
    config = tenor_config(model_folder, length, threads, *overrides)
    return tenor_trains(prepare_rows(config, pool), folder, steps)


def _show(
    shape: Shape, length: int, count: int, threads: int, found: dict[str, list[Timing]], peaks: dict[str, list[float]]
) -> None:
    """`Tenor is faster by`: in the type that `training.precision=auto` would compare last, bfloat16 where it exists."""
    ours = found[f"Tenor {list(peaks)[-1]}"]
    print(f"\n{shape.name}, {count} reviews at {length} tokens, {threads} threads, {len(ours)} rounds; {machine()}")
    print(f"{'':22} real tokens/s (spread)       Tenor {list(peaks)[-1]} is faster by")
    for name, timings in found.items():
        speeds = [timing.speed for timing in timings]
        ratios = [own.speed / theirs.speed for own, theirs in zip(ours, timings, strict=True)]
        print(f"{name:22} {spread(speeds, 7, 0)}  {spread(ratios, 5)}")
    for kind, reached in peaks.items():
        # A training step is three forward passes of work: one forwards, two backwards.
        work = [3 * forward_work(shape, timing.lengths) / timing.seconds for timing in found[f"Tenor {kind}"]]
        shares = [100 * rate / peak for rate, peak in zip(work, reached, strict=True)]
        computed = f"Tenor computes {spread(work, 5, 1)}, {spread(shares, 5, 1)} % of it"
        print(f"peak in {kind} {spread(reached, 5, 1)} GFLOP/s; {computed}")
