"""Peak memory of fine-tuning at 512 tokens, each peer in a process of its own."""

import csv
import os
import sys
from pathlib import Path

from shapes import Shape, reviews, save_random
from training.peers import TrainerOptions, trainer_trains

LENGTH, BATCH_SIZE, COUNT, VALIDATION = 512, 32, 96, 16


def compare_memory(shape: Shape, imdb: str, folder: Path, threads: int) -> None:
    """Print the peak resident set of `tenor train`, whole, and of `Trainer` at the same effective batch."""
    save_random(shape, folder / shape.name, LENGTH)
    rows = reviews(imdb, "train", COUNT + VALIDATION)
    with open(folder / "reviews.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], *zip(rows.texts, rows.labels.tolist(), strict=True)])
    ours = _peak(_tenor(folder, shape.name, threads))
    theirs = _peak([sys.executable, "-m", "training.memory", str(folder), shape.name, str(threads)])
    print(f"\n{shape.name}, peak memory at {LENGTH} tokens, {BATCH_SIZE} reviews per step")
    print(f"tenor train {ours:6.0f} MB; Trainer {theirs:6.0f} MB; {100 * ours / theirs:.0f} %")


def _tenor(folder: Path, model: str, threads: int) -> list[str]:
    return [
        *(sys.executable, "-m", "tenor.cli.main", "train", "imdb_minilm"),
        f"data={{source: file, path: {folder / 'reviews.csv'}, max_length: {LENGTH}}}",
        f"data.validation.size={VALIDATION}",
        *(f"model.name={folder / model}", "training.epochs=1", f"training.batch_size={BATCH_SIZE}"),
        *(f"training.threads={threads}", "checks.policy=warn", "--runs", str(folder / "runs")),
    ]


def _peak(command: list[str]) -> float:
    """Peak resident set of a process, MB. Raises SystemExit where it fails."""
    log = os.open("/dev/null", os.O_WRONLY)
    process = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    )
    os.close(log)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1000


def _train_with_trainer(folder: Path, model: str, threads: int) -> None:
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(threads)
    with open(folder / "reviews.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))[:COUNT]
    tokenizer = AutoTokenizer.from_pretrained(folder / model)
    encoded = tokenizer([row["text"] for row in found], truncation=True, max_length=LENGTH)["input_ids"]
    rows = [{"input_ids": ids, "labels": int(row["label"])} for ids, row in zip(encoded, found, strict=True)]
    trainer_trains(folder / model, rows, folder / "trainer", TrainerOptions(BATCH_SIZE))


if __name__ == "__main__":
    _train_with_trainer(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
