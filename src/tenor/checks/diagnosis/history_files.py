"""Files of a training history: tables (CSV, TSV) and JSON of loggers and trackers.

Read are the wide form, a row per record and a column per metric (Keras' CSVLogger, Lightning's metrics.csv, the exports
of Weights & Biases, sentence-transformers' evaluations, simpletransformers' scores), the long form, a row per value
(MLflow's export, TensorBoard's download), JSON with a list per metric (Keras) or an object per record, and JSON Lines.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json, whole_number
from tenor.checks.diagnosis.history import (
    History,
    Series,
    history_evidence,
    is_loss_or_rate,
    is_metric,
    logged_number,
    measure_of,
    series_of_records,
    split_of,
)
from tenor.checks.diagnosis.predictions_file import has_prediction_columns
from tenor.errors import UserError

STEP_NAMES = ("global_step", "step", "steps", "iteration", "iterations", "iter", "_step", "batch")
EPOCH_NAMES = ("epoch", "epochs", "training_iteration")
"""The last one is Ray's number of reports, of which programs make one per epoch."""
TABLES = (".csv", ".tsv", ".log", ".txt")
LINES = (".jsonl", ".ndjson")
FILE_SUFFIXES = (*TABLES, *LINES, ".json")
DELIMITERS = (",", ";", "\t")
STEPS_AND_VALUES = ("steps", "values")
NAME_COLUMNS = ("key", "metric", "tag", "metric_name")
MAX_BYTES = 2**28
"""A larger file is no history of a training run: a million records of ten metrics take about 100 MB."""
MAX_RECORDS = 1_000_000
FIRST_LINES = 20
"""In which a log of JSON Lines names a metric, after records such as its settings."""
MOST_STEPS = 2**53
"""Above it, float64 does not represent every step exactly."""
TABLE_EXPORT = re.compile(r"(?P<run>.+) - (?P<metric>.+?)(?P<bound>__MIN|__MAX)?")
"""A column in the CSV of a chart of Weights & Biases."""
CHART = "an exported chart of Weights & Biases"
EVALUATION_FILE = re.compile(r"evaluat(?:ion|or)[\w-]*?(?P<test>[_-]test)?_results[^/]*\.csv$", re.IGNORECASE)
"""As sentence-transformers names its tables; their metrics are those of held-out rows, of the split in the name."""
CROSS_ENCODER = re.compile(r"CrossEncoder\w*Classification", re.IGNORECASE)
OF_ONE_LABEL = {"Micro_F1": "accuracy", "Macro_F1": "macro_f1", "Weighted_F1": "weighted_f1"}
"""What this evaluator, whose rows have one label each, names its scores: over all rows and classes, F1 is the accuracy
(sentence-transformers, `CrossEncoderClassificationEvaluator`)."""
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
CELLS = (("tp",), ("tn",), ("fp",), ("fn",))
COUNTS = {"tp", "tn", "fp", "fn"}
"""Columns of the counts of a confusion matrix of two classes."""
TENSORBOARD_DOWNLOAD = ("wall time", "step", "value")

Records = list[Mapping[str, Any]]


def is_history_file(path: Path) -> bool:
    """Whether a file is a training history, judged by its first line or its JSON value."""
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES or not path.is_file():
        return False
    if suffix == ".json":
        return path.stat().st_size <= MAX_BYTES and is_history_value(read_any_json(path))
    if suffix in LINES:
        return is_history_value(first_records(path))
    with path.open("rb") as file:
        first = file.readline(MAX_RECORDS).decode("utf-8-sig", "replace").strip()
    return _is_header(_fields(first, _delimiter(first)))


def first_records(path: Path) -> Records:
    """The objects in the first lines of a file of JSON Lines, up to a line that is broken."""
    records: Records = []
    with path.open("rb") as file:
        for line in islice(file, FIRST_LINES):
            text = line[:MAX_RECORDS].decode("utf-8-sig", "replace").strip()
            try:
                record = json.loads(text) if text else {}
            except (ValueError, RecursionError):
                break
            if not isinstance(record, dict):
                break
            records += [record] if record else []
    return records


def read_history_file(path: Path, kind: str = "", n_classes: int | None = None) -> list[Artifacts]:
    """`Artifacts` of each run in a file. Raises UserError if it cannot be read or contains no known metric."""
    histories, described = histories_in(path)
    artifacts = [
        Artifacts(kind or described, evidence, name, notes=history.notes, files=(path,))
        for name, history in histories.items()
        if (evidence := history_evidence(history, n_classes))
    ]
    if not artifacts:
        names = sorted({name for history in histories.values() for name in history.series})
        raise UserError(
            f"{path}: a training history with the metrics {', '.join(names[:8]) or '(none)'}, of which none is known. "
            f"Expected a loss, or an accuracy with eval, val or test in its name; rename the columns."
        )
    return artifacts


def histories_in(path: Path) -> tuple[dict[str, History], str]:
    """The histories in a file by run, and the kind of file as text."""
    if path.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{path}: {path.stat().st_size:,} bytes; a training history is read up to {MAX_BYTES:,}. Keep every tenth "
            f"record."
        )
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _histories_of_value(read_any_json(path), path)
    if suffix in LINES:
        return {"": history_of_records(_with_axis(list(_lines(path))), path)}, "a training history (JSON Lines)"
    header, rows = _table(path)
    plain = [name.strip().lower() for name in header]
    if sorted(plain) == sorted(TENSORBOARD_DOWNLOAD):
        tag = path.stem.rpartition("tag-")[2] or path.stem
        return {
            "": history_of_records(
                [{"step": row[plain.index("step")], tag: row[plain.index("value")]} for row in rows], path
            )
        }, "a download of TensorBoard"
    if _is_long(plain):
        return _of_long(header, rows), "a training history (a value per row)"
    records: Records = [dict(zip(header, row, strict=False)) for row in rows]
    if runs := _runs_of_chart(header):
        return {run if len(runs) > 1 else "": history_of_records(_of_run(records, run), path) for run in runs}, CHART
    if (file := EVALUATION_FILE.search(path.name)) and not any(map(split_of, header)):
        split = "test" if file["test"] else "eval"
        scores = OF_ONE_LABEL if CROSS_ENCODER.search(path.name) and "accuracy" not in plain else {}
        names = {name: name if _axis([name]) else f"{split}/{scores.get(name, name)}" for name in header}
        records = [{names[name]: one for name, one in row.items()} for row in records]
        return {"": history_of_records(records, path)}, "the evaluations of sentence-transformers (a table)"
    if set(plain) >= COUNTS and not any(split_of(name) and measure_of(name) in CELLS for name in header):
        # Of simpletransformers: counts without a split are those of the evaluation, and so are the scores next to them.
        records = [{_of_evaluation(name): one for name, one in row.items()} for row in records]
    return {"": history_of_records(records, path)}, "a training history (a table)"


def chart_in(path: Path) -> tuple[str, dict[str, History]] | None:
    """The name of the axis of an exported chart of Weights & Biases, and the history of each run in it; None for
    another file. Raises UserError if the table is broken."""
    if path.suffix.lower() not in TABLES or path.stat().st_size > MAX_BYTES:
        return None
    header, rows = _table(path)
    runs, axis = _runs_of_chart(header), _axis(header)
    if not runs or axis is None:
        return None
    records: Records = [dict(zip(header, row, strict=False)) for row in rows]
    return _plain(axis), {run: history_of_records(_of_run(records, run), path) for run in runs}


def _runs_of_chart(header: Sequence[str]) -> list[str]:
    return sorted({match["run"] for name in header if (match := TABLE_EXPORT.fullmatch(name))})


def _of_evaluation(name: str) -> str:
    is_training = split_of(name) or _axis([name]) or is_loss_or_rate(name)
    return name if is_training else f"eval/{name}"


def is_history_value(value: Any) -> bool:
    """Whether a JSON value is a history: lists of numbers by metric, or records with a step or epoch and a metric."""
    if isinstance(value, Mapping):
        inner = value.get("history")
        return _is_lists(inner if isinstance(inner, Mapping) else value) or is_steps_and_values(value)
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        return False
    names = [str(name) for record in value[:100] if isinstance(record, Mapping) for name in record]
    return _axis(names) is not None and any(map(is_metric, names)) and not has_prediction_columns(names)


def is_steps_and_values(value: Any) -> bool:
    """Whether a JSON value contains the steps and the values of each metric, as Sacred's metrics.json does."""
    if not isinstance(value, Mapping) or not value:
        return False
    parts = [[one.get(key) for key in STEPS_AND_VALUES] if isinstance(one, Mapping) else [] for one in value.values()]
    is_whole = all(len(part) == 2 and all(isinstance(one, list) for one in part) for part in parts)
    return is_whole and any(is_metric(str(name)) for name in value)


def history_of_steps_and_values(value: Mapping[str, Any]) -> History:
    """The history in such a value."""
    series: dict[str, Series] = {}
    for name, metric in value.items():
        pairs = zip(*(map(logged_number, metric[key][:MAX_RECORDS]) for key in STEPS_AND_VALUES), strict=False)
        known = ((step, number) for step, number in pairs if step is not None and number is not None)
        series[str(name)] = {int(step): number for step, number in known if abs(step) < MOST_STEPS}
    return History(series)


def epochs_of_lists(lists: Mapping[str, Any]) -> dict[str, Series]:
    """Series from a list, or an object by epoch (pandas), for each metric."""
    series: dict[str, Series] = {}
    for name, values in lists.items():
        if isinstance(values, Mapping):
            numbered = {key: value for key, value in values.items() if str(key).isdecimal()}
            values = [numbered[key] for key in sorted(numbered, key=int)]
        if isinstance(values, list):
            numbers = [(epoch, logged_number(value)) for epoch, value in enumerate(values, start=1)]
            series[str(name)] = {epoch: number for epoch, number in numbers if number is not None}
    return series


def _histories_of_value(value: Any, path: Path) -> tuple[dict[str, History], str]:
    if is_steps_and_values(value):
        return {"": history_of_steps_and_values(value)}, "a training history (JSON with steps and values)"
    if isinstance(value, Mapping):
        inner = value.get("history")
        lists = inner if isinstance(inner, Mapping) else value
        return {
            "": History(epochs_of_lists(lists), per_epoch=True, is_whole=True)
        }, "a training history (JSON with a list per metric)"
    records = [record for record in value if isinstance(record, Mapping)]
    return {"": history_of_records(records, path)}, "a training history (JSON records)"


def _is_lists(value: Mapping[str, Any]) -> bool:
    names = [str(name) for name, values in value.items() if _is_numbers(values)]
    return bool(names) and any(map(is_metric, names)) and len(names) >= len(value) / 2


def _is_numbers(values: Any) -> bool:
    if isinstance(values, Mapping):
        return bool(values) and all(str(key).isdecimal() for key in values) and _is_numbers(list(values.values()))
    return isinstance(values, list) and bool(values) and all(logged_number(value) is not None for value in values[:100])


def history_of_records(records: Records, path: Path) -> History:
    """A history from records, by their step, else by their epoch, else in their order."""
    names = list(dict.fromkeys(str(name) for record in records for name in record))
    axis = _axis(names)
    steps, note = _steps(records, names)
    others = [
        {name: value for name, value in record.items() if name != axis and _plain(str(name)) not in EPOCH_NAMES}
        for record in records
    ]
    per_epoch = axis is not None and _plain(axis) in EPOCH_NAMES and not note
    return History(
        series_of_records(zip(steps, others, strict=True)),
        per_epoch=per_epoch,
        epochs=_epochs(records, names),
        numbered=bool(note),
        is_whole=per_epoch,
        notes=(note,) if note else (),
    )


def _epochs(records: Records, names: Sequence[str]) -> float | None:
    """The number of epochs in the records; counted from 0 or from 1, the difference of the last and the first."""
    columns = [name for name in names if _plain(name) in EPOCH_NAMES]
    values = [logged_number(record.get(name)) for name in columns[:1] for record in records]
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return max(known) - min(known) + 1 if all(value.is_integer() for value in known) else max(known)


def _steps(records: Records, names: Sequence[str]) -> tuple[list[int], str]:
    """The records' steps, and how they were found if no column contains them."""
    for name in _axes(names):
        values = [logged_number(record.get(name)) for record in records]
        # Lightning leaves the epoch of some records empty, sentence-transformers writes -1 for the end of an epoch.
        whole = [int(value) for value in values if value is not None and value == value and value.is_integer()]
        if not len(whole) == len(values) > 0:
            continue
        is_increasing = (len(set(whole)) > 1 or len(whole) == 1) and whole == sorted(whole)
        is_repeated = _plain(name) in EPOCH_NAMES and _has_repeated(whole, records)
        if is_increasing and not is_repeated:
            return whole, ""
        if _plain(name) in STEP_NAMES and is_increasing_by_metric(whole, records):
            return whole, ""
    return list(range(1, len(records) + 1)), "steps are the numbers of the records: no column contains increasing ones"


def is_increasing_by_metric(steps: Sequence[float], records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the steps of every metric increase, as in a log to which the validations were added at the end."""
    last: dict[str, float] = {}
    for step, record in zip(steps, records, strict=True):
        for name in (str(name) for name, value in record.items() if logged_number(value) is not None):
            if _axis([name]):
                continue
            if step <= last.get(name, -MOST_STEPS):
                return False
            last[name] = step
    return bool(last) and len(set(steps)) > 1


def _has_repeated(epochs: Sequence[int], records: Records) -> bool:
    """Whether two records of one epoch have a value of the same metric, as of several validations in an epoch."""
    seen: set[tuple[int, str]] = set()
    for epoch, record in zip(epochs, records, strict=True):
        measured = {
            (epoch, str(name))
            for name, value in record.items()
            if not _axis([str(name)]) and logged_number(value) is not None
        }
        if seen & measured:
            return True
        seen |= measured
    return False


def _axis(names: Sequence[str]) -> str | None:
    return next(iter(_axes(names)), None)


def _axes(names: Sequence[str]) -> Iterator[str]:
    """The names of steps, then those of epochs."""
    for known in (*STEP_NAMES, *EPOCH_NAMES):
        yield from (name for name in names if _plain(name) == known)


def _plain(name: str) -> str:
    """ "trainer/global_step" and "train/epoch" are axes too."""
    return name.strip().lower().rpartition("/")[2].replace(" ", "_")


def _of_run(records: Records, run: str) -> Records:
    """The records of one run in a chart's CSV, without the bounds of smoothed values."""
    names = (
        {
            name: match["metric"]
            for name in records[0]
            if (match := TABLE_EXPORT.fullmatch(name)) and match["run"] == run and not match["bound"]
        }
        if records
        else {}
    )
    axes = [name for name in (records[0] if records else ()) if _axis([name])]
    return [
        {**{axis: record[axis] for axis in axes}, **{new: record[old] for old, new in names.items()}}
        for record in records
    ]


def _is_long(plain: Sequence[str]) -> bool:
    return (
        "value" in plain and any(name in plain for name in NAME_COLUMNS) and any(name in plain for name in STEP_NAMES)
    )


def _of_long(header: Sequence[str], rows: list[list[str]]) -> dict[str, History]:
    """Histories from rows of a run, a metric, a step and a value."""
    plain = [name.strip().lower() for name in header]
    metric = next(plain.index(name) for name in NAME_COLUMNS if name in plain)
    step = next(plain.index(name) for name in STEP_NAMES if name in plain)
    run = next((plain.index(name) for name in ("run", "run_name", "run_id", "run_uuid") if name in plain), None)
    runs: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for row in rows:
        number = logged_number(row[step]) if len(row) == len(header) else None
        if number is not None and number == number and abs(number) < MOST_STEPS:
            name = "" if run is None else row[run]
            runs.setdefault(name, []).append((int(number), {row[metric]: row[plain.index("value")]}))
    return {name if len(runs) > 1 else "": History(series_of_records(records)) for name, records in runs.items()}


def _is_header(names: Sequence[str]) -> bool:
    plain = [name.strip().lower() for name in names]
    if has_prediction_columns(names) or {"Name", "State"} <= {name.strip() for name in names}:
        return False  # The latter is a table of runs of Weights & Biases.
    if sorted(plain) == sorted(TENSORBOARD_DOWNLOAD) or _is_long(plain):
        return True
    if len(names) < 2 or {"text", "label", "sentence", "review"} & set(plain):
        return False
    # The axis may have a name in another language; the losses of two splits are a history under any name.
    losses = {split_of(name) for name in names if is_metric(name)}
    return _axis(names) is not None or {"train", "validation"} <= losses


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows. A row shorter than the header is the last one of a program that is still writing, or broken."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
    lines = text.splitlines(keepends=True)
    delimiter = _delimiter(lines[0] if lines else "")
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error as error:
        raise UserError(f"{path}: not a readable table ({error}). Write it again.") from error
    if not rows or len(rows) > MAX_RECORDS:
        raise UserError(f"{path}: {max(len(rows) - 1, 0):,} records; expected 1 to {MAX_RECORDS:,}. Write it again.")
    wrong = next((k for k, row in enumerate(rows[:-1]) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise UserError(
            f"{path}: record {wrong:,} has {len(rows[wrong])} fields, the header has {len(rows[0])}. A metric that is "
            f"first logged later has no column; write the file again with all metrics from the start."
        )
    below = [row for row in rows[1:] if len(row) == len(rows[0])]
    return rows[0], below if delimiter == "," else [[_with_point(cell) for cell in row] for row in below]


def _with_point(cell: str) -> str:
    """A number with a decimal comma, as Excel writes it in many countries, with a point."""
    return cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell.strip()) else cell


def _with_axis(records: Records) -> Records:
    """Records with the step or epoch before them where they have none, as a result of the test after the training;
    without those before the first step, such as the settings. Unchanged if most records have none."""
    axis = _axis(list(dict.fromkeys(str(name) for one in records for name in one)))
    if axis is None or 2 * sum(axis in record for record in records) < len(records):
        return records
    filled: Records = []
    for record in records:
        if axis in record:
            filled.append(record)
        elif filled:
            filled.append({axis: filled[-1][axis], **record})
    return filled


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    lines = path.read_bytes().decode("utf-8-sig", "replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_int=whole_number)
        except (ValueError, RecursionError) as error:
            if number == len(lines) > 1:
                return  # Without a line end: a program is writing it, or was killed.
            raise UserError(f"{path}, line {number:,}: not valid JSON ({error}). Write the file again.") from error
        if isinstance(record, dict):
            yield record
