"""Rows that are evaluated later, compared with the rows that the run was trained and chosen on."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from tenor.checks.evidence import OverlapEvidence
from tenor.checks.rules.dat_splits import distinct
from tenor.checks.rules.rows import text_keys
from tenor.data.dataset import Absent, LabelledText
from tenor.data.splits import Splits
from tenor.errors import UserError
from tenor.evaluation.evaluate import SplitResult
from tenor.measures.intervals import wilson_interval
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import absent
from tenor.runs.text_keys import read_text_keys, write_text_keys

NONE_LEFT = "every row has a text of the run's training or validation split"


def keep_text_keys(run: RunDirectory, splits: Splits) -> None:
    """Write the keys of the run's training and validation texts, each once, 8 bytes a text."""
    rows = {"train": splits.train, "validation": splits.validation}
    write_text_keys(run.text_keys, {name: distinct(text_keys(split.texts)) for name, split in rows.items()})


def find_overlap(run: RunDirectory, rows: LabelledText, split: str) -> OverlapEvidence | Absent:
    """Which of the evaluated rows have a training or a validation text of the run; Absent where its keys can't be
    read, with the reason."""
    try:
        known = read_text_keys(run.text_keys)
    except UserError as error:
        return Absent(f"not compared with the run's own rows: {error}")
    keys = text_keys(rows.texts)
    in_train = np.isin(keys, known["train"])
    return OverlapEvidence(split, rows.texts, in_train, np.isin(keys, known["validation"]) & ~in_train)


def count_training_texts(run: RunDirectory, texts: Iterable[str]) -> int:
    """How many of the texts are training texts of the run. Raises UserError where its keys can't be read."""
    return int(np.isin(text_keys(texts), read_text_keys(run.text_keys)["train"]).sum())


def other_rows(overlap: OverlapEvidence, result: SplitResult) -> tuple[int, int]:
    """Rows that are in neither of the run's splits, and how many of these are classified correctly."""
    others = ~(overlap.in_train | overlap.in_validation)
    return int(others.sum()), int((result.predictions == result.labels)[others].sum())


def overlap_record(overlap: OverlapEvidence | Absent, result: SplitResult, confidence: float) -> dict[str, Any]:
    """As plain data: the rows in each of the run's splits, and the accuracy on all other rows."""
    if isinstance(overlap, Absent):
        return absent(overlap.reason)
    n, right = other_rows(overlap, result)
    others: dict[str, Any] = absent(NONE_LEFT)
    if n:
        interval = {**asdict(wilson_interval(right, n, confidence)), "method": "Wilson"}
        others = {"n": n, "accuracy": right / n, "accuracy_interval": interval}
    counts = {"rows_in_train": int(overlap.in_train.sum()), "rows_in_validation": int(overlap.in_validation.sum())}
    return {**counts, "other_rows": others}


def overlap_words(overlap: OverlapEvidence | Absent, result: SplitResult, confidence: float) -> str:
    """As one sentence for people."""
    if isinstance(overlap, Absent):
        return overlap.reason
    in_train, in_validation = int(overlap.in_train.sum()), int(overlap.in_validation.sum())
    rows = f"of {len(overlap.texts):,} rows"
    if not in_train and not in_validation:
        return f"{rows} none has a training or validation text of the run"
    counts = f"{rows} {in_train:,} have a training text of the run, {in_validation:,} more a validation text"
    n, right = other_rows(overlap, result)
    if not n:
        return f"{counts}; no other row is left"
    interval = wilson_interval(right, n, confidence)
    bounds = f"{100 * interval.low:.2f} - {100 * interval.high:.2f}"
    return f"{counts}; accuracy on the other {n:,}: {right / n:.2%} ({100 * confidence:g}% interval {bounds})"
