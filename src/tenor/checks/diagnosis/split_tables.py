"""Tables as JSON with the names of the columns and a list of rows: `{"columns": [...], "data": [[...], ...]}`.

pandas calls this orientation "split"; `mlflow.log_table` and Weights & Biases (`*.table.json`) write it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Columns = dict[str, list[Any]]

COUNTED = ({"actual", "true", "label"}, {"predicted", "prediction"}, {"npredictions", "count", "n"})
"""Names of the columns of a confusion matrix with one row for each pair of classes; the first three are those of
`wandb.plot.confusion_matrix`."""


def columns_of(value: object) -> Columns | None:
    """The cells of each column; None for any other value, also for rows of unequal length and a repeated name."""
    if not isinstance(value, Mapping) or not isinstance(value.get("columns"), list):
        return None
    names, rows = value["columns"], value.get("data")
    if not names or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    if len({str(name) for name in names}) < len(names) or any(len(row) != len(names) for row in rows):
        return None
    return {str(name): [row[at] for row in rows] for at, name in enumerate(names)}


def counted_matrix(columns: Columns) -> Mapping[str, Any] | None:
    """The confusion matrix of columns with true class, predicted class and count; None for other columns."""
    found = [[name for name in columns if name.strip().lower() in names] for names in COUNTED]
    if len(columns) != len(COUNTED) or any(len(names) != 1 for names in found):
        return None
    true, predicted, counts = (columns[names[0]] for names in found)
    if not counts or any(isinstance(one, bool) or not isinstance(one, int | float) for one in counts):
        return None
    classes = _classes(true, predicted)
    matrix = [[0.0] * len(classes) for _ in classes]
    for row, column, count in zip(true, predicted, counts, strict=True):
        matrix[classes[str(row)]][classes[str(column)]] += count
    return {"confusion_matrix": matrix, "class_names": list(classes)}


def _classes(true: Sequence[Any], predicted: Sequence[Any]) -> dict[str, int]:
    """The position of each class, in the order in which they are listed."""
    return {name: at for at, name in enumerate(dict.fromkeys(map(str, (*true, *predicted))))}
