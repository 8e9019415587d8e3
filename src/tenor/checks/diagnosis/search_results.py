"""Searches for settings: scikit-learn's `cv_results_` and studies of Optuna.

They record one score per setting and no course of a training, so that no rule applies: the reader says what is in them,
and how to get something that can be diagnosed.
"""

import csv
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from tenor.checks.diagnosis.history import logged_number
from tenor.errors import UserError

DATABASES = (".db", ".sqlite", ".sqlite3")
OPTUNA = {"studies", "trials", "trial_values"}
TRIALS = {"number", "value", "state"}
"""Columns of Optuna's `trials_dataframe()`."""
TEST, TRAIN, RANK = "mean_test_", "mean_train_", "rank_test_"
MAX_SETTINGS = 100_000
TABLES_SHOWN, LONGEST = 8, 120
FAR_APART = 0.1
"""Training score minus test score: more than the folds of a search usually differ."""
OF_BEST = (
    "pandas.DataFrame({'label': y_test, 'prediction': search.predict(X_test)}).to_csv('predictions.csv', "
    "index=False), then tenor diagnose predictions.csv."
)
OF_TRIAL = (
    "values = study.best_trial.intermediate_values; pandas.DataFrame({'epoch': list(values), 'val_accuracy': "
    "list(values.values())}).to_csv('trial.csv', index=False), then tenor diagnose trial.csv."
)

EXPORT = "To see all trials: study.trials_dataframe().to_csv('trials.csv')."


def connect(path: Path) -> sqlite3.Connection:
    """Read only; a lock of another program is no obstacle to reading."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def tables_of(path: Path) -> set[str]:
    """The tables of an SQLite database; empty for other files."""
    if path.suffix.lower() not in DATABASES or not path.is_file():
        return set()
    try:
        with closing(connect(path)) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return set()


def refuse_database(path: Path) -> None:
    """Raises UserError if a file is an SQLite database: what it contains, and how to export it."""
    tables = tables_of(path)
    if tables >= OPTUNA:
        with closing(connect(path)) as database:
            query = "SELECT trial_id, value FROM trial_values LIMIT ?"
            try:
                values = [value for _, value in database.execute(query, (MAX_SETTINGS,)) if value is not None]
            except sqlite3.Error as error:
                raise UserError(f"{path}: the study cannot be read ({error}). Export it from its program.") from error
        raise UserError(f"{path}: {_study(values)} {_way_from_study()} {EXPORT}")
    if tables:
        names = ", ".join(sorted(tables)[:TABLES_SHOWN])
        raise UserError(
            f"{path}: an SQLite database of an unknown program (tables {names}). Export its metrics as a CSV file with "
            f"the columns metric, step and value."
        )


def refuse_search(path: Path) -> None:
    """Raises UserError if a table contains the results of a search."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            names = [*(rows.fieldnames or ())]
            test = next((name for name in names if name.startswith(TEST)), None)
            if "params" in names and test is not None:
                raise UserError(_of_grid(path, list(islice(rows, MAX_SETTINGS)), test))
            if set(names) >= TRIALS and any(name.startswith("params_") for name in names):
                values = (logged_number(row["value"]) for row in islice(rows, MAX_SETTINGS))
                study = _study([value for value in values if value is not None])
                raise UserError(f"{path}: {study} {_way_from_study()}")
    except csv.Error:
        return  # The reader of predictions says what is wrong with the file.


def _of_grid(path: Path, rows: Sequence[Mapping[str, str]], test: str) -> str:
    """What a search of scikit-learn found, and the way to its predictions."""
    scored = [(value, row) for row in rows if (value := _finite(row.get(test))) is not None]
    rank = RANK + test.removeprefix(TEST)
    first = [pair for pair in scored if _finite(pair[1].get(rank)) == 1]
    best = first[0] if first else max(scored, key=lambda pair: pair[0], default=None)
    found = ""
    if best is not None:
        trained = _finite(best[1].get(TRAIN + test.removeprefix(TEST)))
        found = f" The best has {test} {best[0]:.4g} ({' '.join(str(best[1]['params']).split())[:LONGEST]})"
        found += "." if trained is None else f" and, on its training rows, {trained:.4g}{_judged(best[0], trained)}."
    return (
        f"{path}: the results of a search of scikit-learn over {len(rows)} settings, without the course of a training."
        f"{found} Diagnose the predictions of the best estimator for rows that the search has not seen: {OF_BEST}"
    )


def _judged(test: float, trained: float) -> str:
    is_far = 0 <= test <= 1 and 0 <= trained <= 1 and trained - test > FAR_APART
    return ": it overfits, or the texts do not determine the labels" if is_far else ""


def _study(values: Iterable[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "a study of Optuna without a finished trial."
    what = f"a study of Optuna with {len(known)} values, {min(known):.6g} to {max(known):.6g}"
    is_constant = len(known) > 1 and min(known) == max(known)
    suffix = ": the same in every trial, as of a model that predicts one class or is not trained" if is_constant else ""
    return f"{what}{suffix}, without the course of a training."


def _way_from_study() -> str:
    return f"Diagnose the folder to which a trial wrote its log, or the values that it reported: {OF_TRIAL}"


def _finite(value: object) -> float | None:
    number = logged_number(value)
    return number if number is not None and math.isfinite(number) else None
