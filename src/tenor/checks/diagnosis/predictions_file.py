"""A file of predictions, CSV or Parquet: its columns are guessed by their usual names."""

import re
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tenor.checks.diagnosis.material import Material, evaluation_evidence
from tenor.checks.evidence import SplitClaims
from tenor.errors import UserError

LABEL = ("label", "labels", "true", "y_true", "target", "gold", "true_label", "label_id", "y")
PREDICTED = ("predicted", "pred", "prediction", "y_pred", "predicted_label", "pred_label", "preds", "predictions")
ID = ("id", "ids", "row_id", "example_id", "index", "idx")
SCORES = re.compile(
    r"^(?P<kind>probability|probabilities|proba|prob|p|scores|score|logits|logit)(?:[ _.-](?P<of>.+)|\d+)?$"
)
ACCEPTED_COLUMNS = (
    f"one of {', '.join(LABEL)} for the true class, and one of {', '.join(PREDICTED)} for the predicted one or columns "
    "that begin with prob, score or logit, one per class (or one alone, for class 1)"
)


def read_predictions_file(path: Path) -> list[Material]:
    """Evidence from the rows of one split. Raises UserError where file or columns can't be understood."""
    name = next((split for split, word in (("test", "test"), ("validation", "val")) if word in path.name.lower()), "")
    claims, n_classes = read_claims(path)
    return [Material("a file of predictions", (evaluation_evidence({name or "predictions": claims}, n_classes),))]


def read_claims(path: Path) -> tuple[SplitClaims, int]:
    """Labels, predictions and probabilities of the rows, and the number of classes."""
    table = _table(path)
    names = {name.strip().lower(): name for name in reversed(table.column_names)}
    label, predicted, identity = (
        next((names[n] for n in known if n in names), None) for known in (LABEL, PREDICTED, ID)
    )
    scores = {name: match for low, name in names.items() if (match := SCORES.match(low)) and _is_number(table[name])}
    if label is None or (predicted is None and not scores):
        raise UserError(
            f"{path}: columns {', '.join(table.column_names[:12]) or '(none)'} are not understood. Accepted: "
            f"{ACCEPTED_COLUMNS}."
        )
    if not table.num_rows:
        raise UserError(f"{path}: has no rows. Give the file of an evaluation that ran.")
    columns = {name: _values(table, name, path) for name in (label, predicted) if name}
    ordered = _in_order(scores, table.column_names)
    values = np.stack([_numbers(table, name) for name in ordered], axis=1) if ordered else None
    class_names = _classes(columns, [str(scores[name]["of"]) for name in ordered if scores[name]["of"]])
    indices = {name: np.array([class_names[v] for v in column], dtype=np.int64) for name, column in columns.items()}
    probabilities = None if values is None else _probabilities(values, [str(scores[name]["kind"]) for name in ordered])
    fits = probabilities is None or probabilities.shape[1] >= len(class_names)
    if not fits:
        raise UserError(f"{path}: {len(class_names)} classes, but scores of {len(ordered)}: {', '.join(ordered)}.")
    said = indices[predicted] if predicted else np.asarray(probabilities).argmax(axis=1)
    claims = SplitClaims(
        n=table.num_rows,
        labels=indices[label],
        predicted=said,
        probabilities=probabilities,
        ids=None if identity is None else [str(one) for one in table[identity].to_pylist()],
    )
    return claims, max(2, len(class_names), 0 if probabilities is None else probabilities.shape[1])


def _table(path: Path) -> pa.Table:
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".parquet":
            table = pyarrow.parquet.read_table(path)
        else:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
            table = pyarrow.csv.read_csv(path, parse_options=options)
        table.validate(full=True)
        names = table.column_names  # Arrow decodes the names only now, and may find that they are no text.
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: is no {path.suffix[1:]} file that can be read ({reason}). Write it anew.") from error
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{path}: {names.count(repeated)} columns are called {repeated!r}; rename all but one.")
    return table


def _values(table: pa.Table, name: str, path: Path) -> list[Any]:
    column = table[name]
    if pa.types.is_nested(column.type):
        raise UserError(f"{path}: column {name} holds {column.type}; expected a class per row.")
    if column.null_count:
        raise UserError(
            f"{path}: {column.null_count:,} of {len(column):,} values of {name} are missing; complete them."
        )
    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        if not all(isfinite(value) and value == int(value) for value in values):
            raise UserError(f"{path}: column {name} holds fractions; expected a class per row.")
        return [int(value) for value in values]
    return [int(value) if isinstance(value, bool) else value for value in values]


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    # A missing score becomes NaN, which EVL014 reports.
    return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def _is_number(column: pa.ChunkedArray) -> bool:
    return pa.types.is_floating(column.type) or pa.types.is_integer(column.type)


def _in_order(scores: dict[str, re.Match[str]], columns: list[str]) -> list[str]:
    """Score columns by class number where they have one, else as they stand; one kind only, the likeliest first."""
    kinds = [str(match["kind"])[0] for match in scores.values()]
    kind = next((k for k in "psl" if k in kinds), "")
    names = [name for name in columns if name in scores and str(scores[name]["kind"]).startswith(kind)]
    numbers = [re.search(r"\d+$", name) for name in names]
    return [n for _, n in sorted(zip([int(m[0]) for m in numbers if m], names, strict=True))] if all(numbers) else names


def _classes(columns: dict[str, list[Any]], score_names: list[str]) -> dict[Any, int]:
    """The index of each class: as the numbers say, in the order of the scores' names, or sorted."""
    present = {value for column in columns.values() for value in column}
    if all(isinstance(value, int) for value in present):
        if min(present) >= 0 and max(present) < max(1000, len(present)):
            return {value: value for value in range(max(present) + 1)}
        return {value: k for k, value in enumerate(sorted(present))}
    lowered = {str(value).lower(): value for value in present}
    if score_names and set(lowered) <= set(score_names):
        return {lowered.get(name, name): k for k, name in enumerate(score_names)}
    return {value: k for k, value in enumerate(sorted(present, key=str))}


def _probabilities(values: np.ndarray, kinds: list[str]) -> np.ndarray:
    """Logits become probabilities; a score alone is that of class 1."""
    are_logits = kinds[0].startswith("logit") or (kinds[0].startswith("score") and ((values < 0) | (values > 1)).any())
    if values.shape[1] == 1:
        with np.errstate(over="ignore"):
            positive = 1 / (1 + np.exp(-values)) if are_logits else values
        return np.concatenate([1 - positive, positive], axis=1)
    if not are_logits:
        return values
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
