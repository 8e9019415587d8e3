"""Splits the rows: training, validation (selects the best checkpoint), test, and excluded rows."""

import csv
import hashlib
import math
from dataclasses import dataclass
from os.path import expanduser
from pathlib import Path

import numpy as np

from tenor.config.schema import Data, Subset, ValidationSplit
from tenor.data.dataset import LabelledText, SourceData, repeated_ids
from tenor.data.files.delimited import examine
from tenor.errors import UserError
from tenor.runs.missing import Missing

SHOWN_IDS = 5


def read_excluded(path: str) -> frozenset[str]:
    """The ids that a CSV file excludes: all in its column `id` or, if it has a column `exclude`, those with `yes`.

    Raises UserError for a file that cannot be read, has no column `id`, or has a value other than yes or no.
    """

    def require(columns: list[str]) -> None:
        if "id" not in columns:
            raise UserError(f"{path}: no column 'id'. Available columns: {', '.join(columns)}.")

    try:
        delimited = examine(Path(expanduser(path)), require, ",")
        with open(delimited.path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimited.header, **delimited.dialect.options)
            next(reader)  # The header.
            return frozenset(row["id"] for row in reader if _is_excluded(row, reader.line_num, path))
    except UserError as error:
        raise UserError(f"data.exclude {str(error).removeprefix('data.exclude ')}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"data.exclude {path}: is not a CSV file in UTF-8 ({error}).") from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the path.
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"data.exclude {path}: cannot be read ({reason}). `tenor audit` writes such a file.") from error


def rows_left(rows: LabelledText, positions: np.ndarray, path: str) -> np.ndarray:
    """The `positions`, in their order, whose row in `rows` is not excluded by the file.

    Raises UserError as `read_excluded` does, for ids that are missing in `rows` or not unique, and if no row remains.
    """
    excluded, ids = read_excluded(path), rows.ids
    if unknown := sorted(excluded.difference(ids)):
        shown = ", ".join(map(repr, unknown[:SHOWN_IDS])) + (", …" if len(unknown) > SHOWN_IDS else "")
        raise UserError(
            f"data.exclude {path}: {len(unknown):,} of {len(excluded):,} ids are not training rows of {rows.origin}: "
            f"{shown}. Expected ids such as {ids[0]!r}; was the file made for other data?"
        )
    # Among all rows, not only `positions`: with another seed, another row with this id would be excluded.
    repeated = repeated_ids(rows)
    if unclear := sorted(excluded.intersection(repeated)):
        raise UserError(
            f"data.exclude {path}: {unclear[0]!r} is the id of {repeated[unclear[0]]:,} rows of {rows.origin}, "
            "expected one. Leave data.id_column out, so that ids are row numbers, and create the file again"
        )
    kept = np.array([row for row in positions.tolist() if ids[row] not in excluded], dtype=positions.dtype)
    if not len(kept):
        raise UserError(f"data.exclude {path} excludes all {len(positions):,} training rows. Remove some ids from it")
    return kept


def _is_excluded(row: dict[str, str], line: int, path: str) -> bool:
    if not row["id"]:
        raise UserError(f"data.exclude {path}, line {line}: the id is missing.")
    value = row.get("exclude", "yes")
    if value is None or value.strip().lower() not in ("yes", "no"):
        raise UserError(f"data.exclude {path}, line {line}: exclude is {value!r}, expected yes or no.")
    return value.strip().lower() == "yes"


@dataclass(frozen=True)
class Splits:
    """Disjoint splits: `validation` is never trained on, and `test` never selects anything."""

    train: LabelledText
    validation: LabelledText
    test: LabelledText | Missing
    source_labels: np.ndarray
    """Labels of all rows that the source has for training, in its own order."""
    train_positions: np.ndarray
    """Positions of the training rows in that order."""
    excluded: int = 0
    """Count of training rows that `data.exclude` removed."""


def make_splits(source: SourceData, data: Data, seed: int) -> Splits:
    """Split off the validation rows, then reduce the training rows and the test rows to the configured sizes.

    The result depends only on the rows, their order, the settings and `seed`.

    Raises:
        UserError: a source without training rows, sizes larger than the source, or unknown rows to exclude.
    """
    if isinstance(source.train, Missing):
        raise UserError(f"data.source={data.source} has no training rows: {source.train.reason}")
    train_rows, validation_rows = split_rows(source.train, data.validation, seed)
    labels = source.train.labels
    chosen = train_rows[subset_rows(labels[train_rows], data.subset, seed)]
    # Excluded last, so that a run with and a run without these rows differ in nothing else.
    positions = chosen if data.exclude is None else rows_left(source.train, chosen, data.exclude)
    return Splits(
        train=source.train.select(positions),
        validation=source.train.select(validation_rows),
        test=limit_test(source.test, data.test_size),
        source_labels=labels,
        train_positions=positions,
        excluded=len(chosen) - len(positions),
    )


def present_splits(splits: Splits) -> dict[str, LabelledText]:
    """The splits that have rows, by name."""
    present = {"train": splits.train, "validation": splits.validation}
    return present if isinstance(splits.test, Missing) else {**present, "test": splits.test}


def data_notes(splits: Splits) -> tuple[str, ...]:
    """Messages for the user about how the rows of all splits were read, without repetitions."""
    return tuple(dict.fromkeys(note for rows in present_splits(splits).values() for note in rows.notes))


def data_fingerprint(splits: Splits) -> str:
    """SHA-256 over the rows of every split: ids, texts and labels, in order."""
    digest = hashlib.sha256()
    for name, rows in present_splits(splits).items():
        digest.update(f"{name} {len(rows)} {rows.class_names}".encode())
        for column in (rows.ids, rows.texts, rows.labels.tolist()):
            for value in column:
                encoded = str(value).encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def split_rows(rows: LabelledText, validation: ValidationSplit, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training rows and of the validation rows: disjoint and complete.

    `random` is scikit-learn's `train_test_split(test_size=…, random_state=seed)`; the others keep the source's order.
    """
    # scikit-learn rounds up.
    size = _row_count(validation.size, len(rows), round_up=validation.strategy == "random")
    match validation.strategy:
        case "random":
            from sklearn.model_selection import train_test_split

            train, held_out = train_test_split(np.arange(len(rows)), test_size=size, random_state=seed)
            return np.asarray(train), np.asarray(held_out)
        case "stratified":
            held_out = stratified_rows(rows.labels, size, seed, leave_one=True)
        case "group":
            held_out = _grouped_rows(rows, size, seed)
    return np.setdiff1d(np.arange(len(rows)), held_out), held_out


def subset_rows(labels: np.ndarray, subset: Subset, seed: int) -> np.ndarray:
    """Indices of `subset.size` rows, in the source's order; all rows if no size is set."""
    if subset.size is None:
        return np.arange(len(labels))
    if subset.size > len(labels):
        raise UserError(
            f"data.subset.size is {subset.size:,}, but {len(labels):,} training rows remain after the validation rows "
            "were split off. Set a smaller size, or use all rows: data.subset.size=null"
        )
    match subset.strategy:
        case "head":
            return np.arange(subset.size)
        case "random":
            return np.sort(np.random.default_rng([seed, 1]).permutation(len(labels))[: subset.size])
        case "stratified":
            return stratified_rows(labels, subset.size, seed)


def limit_test(test: LabelledText | Missing, size: int | None) -> LabelledText | Missing:
    """A stratified subset of the test split, the same for every seed."""
    if size is None or isinstance(test, Missing):
        return test
    if size > len(test):
        raise UserError(
            f"data.test_size is {size:,}, but the test split has {len(test):,} rows. Set a smaller size, "
            "or use all rows: data.test_size=null"
        )
    return test.select(stratified_rows(test.labels, size, seed=0))


def stratified_rows(labels: np.ndarray, size: int, seed: int, leave_one: bool = False) -> np.ndarray:
    """Sorted indices of `size` rows with the class proportions of `labels` (n,).

    Every class that occurs gets at least one row if `size` allows it. With `leave_one`, at least one row of every class
    remains among the other rows.
    """
    counts = np.bincount(labels)
    caps = np.maximum(counts - 1, 0) if leave_one else counts
    if size > caps.sum():
        fix = " if each class keeps one. Lower data.validation.size" if leave_one else ". Set a smaller size"
        raise UserError(f"{size:,} stratified rows were requested, but at most {caps.sum():,} can be selected{fix}")
    random = np.random.default_rng([seed, 2])
    quota = _proportional(caps, size)
    return np.sort(
        np.concatenate([random.permutation(np.flatnonzero(labels == k))[:take] for k, take in enumerate(quota)])
    )


def _proportional(counts: np.ndarray, size: int) -> np.ndarray:
    """Integers that sum to `size`, at most `counts`, closest to its proportions (largest remainders)."""
    exact = counts * (size / counts.sum())
    quota = np.floor(exact).astype(int)
    for k in np.argsort(quota - exact, kind="stable")[: size - quota.sum()]:
        quota[k] += 1
    if size >= np.count_nonzero(counts):
        for k in np.flatnonzero((quota == 0) & (counts > 0)):
            quota[np.argmax(quota)] -= 1
            quota[k] = 1
    return quota


def _grouped_rows(rows: LabelledText, size: int, seed: int) -> np.ndarray:
    """Rows of whole groups, sampled at random until `size` is reached."""
    groups = rows.groups
    if groups is None:
        raise UserError(
            "data.validation.strategy=group requires groups. Set data.group_column to the column with the groups"
        )
    names, group_of_row = np.unique(groups.astype(str), return_inverse=True)
    order = np.random.default_rng([seed, 3]).permutation(len(names))
    reached = np.searchsorted(np.cumsum(np.bincount(group_of_row)[order]), size) + 1
    if reached >= len(names):
        raise UserError(
            f"a validation split of {size:,} rows would contain all {len(names):,} groups. Lower data.validation.size, "
            f"or set another data.group_column"
        )
    return np.flatnonzero(np.isin(group_of_row, order[:reached]))


def _row_count(size: float | int, rows: int, round_up: bool) -> int:
    count = size if isinstance(size, int) else max(1, math.ceil(size * rows) if round_up else round(size * rows))
    if count >= rows:
        raise UserError(
            f"data.validation.size selects {count:,} of {rows:,} rows, expected fewer, so that training rows remain"
            f"{'. Set for instance data.validation.size=0.1' if rows > 1 else ''}"
        )
    return count
