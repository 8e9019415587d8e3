"""Files and folders of results that belong to no run: reports, matrices, predictions, and several of them together."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import ACCEPTED, NO_SPLIT, Artifacts, evaluation_evidence, read_any_json
from tenor.checks.diagnosis.columns import SUFFIXES, sheet_of_columns
from tenor.checks.diagnosis.history import history_evidence
from tenor.checks.diagnosis.history_files import history_of_records
from tenor.checks.diagnosis.predictions_file import (
    LABEL,
    PREDICTED,
    has_prediction_columns,
    has_predictions,
    predictions_artifacts,
    read_predictions_file,
)
from tenor.checks.diagnosis.printed_logs import log_records
from tenor.checks.diagnosis.printed_results import matrix_or_report_of_cells, printed_results, text_of
from tenor.checks.diagnosis.progress_bars import plan_of, with_plan, without_colours
from tenor.checks.diagnosis.results_json import (
    NAME_OF_CLASSES_KEYS,
    claims_of,
    guessed_split,
    is_evaluation,
    is_matrix,
    non_finite_metrics,
    read_evaluation,
)
from tenor.checks.diagnosis.search_results import refuse_search
from tenor.checks.diagnosis.split_tables import Columns, columns_of, counted_matrix
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.data.files.delimited import DELIMITERS
from tenor.errors import UserError

TEXT = (".txt", ".log", ".out")
ROWS = frozenset({*LABEL, *PREDICTED})
"""Names of lists with a class per row."""
MAX_FILES = 50
NO_RESULT = "contains no result under a usual name"
MATRIX_NOTE = "rows of the confusion matrix read as true classes, columns as predicted ones, as scikit-learn writes it"


def read_printed_results(path: Path) -> list[Artifacts]:
    """Evidence from a text file: a report, a confusion matrix, or a log of the training with or without them.

    Raises UserError if it contains none of these.
    """
    text = text_of(path)
    values, (log, notes) = printed_results(text), _log_evidence(text, path)
    if not values and not log:
        raise UserError(
            f"{path}: the text contains neither a classification report (a header with precision, recall, f1-score, "
            f"support) nor a confusion matrix (K rows of K counts) nor a log of the training (three lines or more with "
            f"a loss or an accuracy, such as 'epoch 1 train loss 0.69 val loss 0.68'). Accepted: {ACCEPTED}."
        )
    splits: dict[str, ReportedSplit] = {}
    for position, (heading, value) in enumerate(values, start=1):
        claims = claims_of(value, str(path))
        name = guessed_split(heading) or (guessed_split(path.name) if len(values) == 1 else "") or "evaluation"
        if claims is not None:
            splits[name if name not in splits else f"{name} {position}"] = _with_matrix_note(claims, value)
    if not values:
        return [Artifacts("a printed log of a training", log, notes=notes)]
    broken = {path.name: tuple(entry for _, value in values for entry in non_finite_metrics(value))}
    steps = tuple(item for item in log if not isinstance(item, EvaluationEvidence))
    kind = "printed results and a log of the training" if steps else "printed results"
    evaluation = evaluation_evidence(splits, not_numbers=broken, course=_course(log))
    return [Artifacts(kind, (evaluation, *steps), notes=notes)]


def _log_evidence(text: str, path: Path) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Evidence from the log in a text, and how it was read."""
    records, note = log_records(text)
    if not records:
        return (), ()
    history = history_of_records([*records], path)
    plan = plan_of(without_colours(text))
    evidence = (with_plan(one, plan) if isinstance(one, StepEvidence) else one for one in history_evidence(history))
    return tuple(evidence), ((note,) if note else ())


def _course(log: Iterable[Any]) -> ValidationCourse | None:
    return next((item.course for item in log if isinstance(item, EvaluationEvidence) and item.course), None)


def read_table(path: Path) -> list[Artifacts]:
    """A CSV, TSV, JSON Lines or Parquet file: a confusion matrix or a report, else predictions."""
    value = matrix_or_report_of_cells(path) if path.suffix.lower() in DELIMITERS else None
    if path.suffix.lower() in DELIMITERS:
        refuse_search(path)
    return read_predictions_file(path) if value is None else _read_value(value, path, "a confusion matrix or report")


def read_json_results(value: Any, path: Path) -> list[Artifacts] | None:
    """Evidence from a JSON value: a bare matrix, a table, lists of classes, or an evaluation; None for other values."""
    if is_matrix(value):
        return _read_value({"confusion_matrix": value}, path, "a confusion matrix (JSON)")
    if columns := columns_of(value):
        return _read_columns(columns, path)
    if isinstance(value, Mapping) and has_predictions(value):
        artifacts = predictions_artifacts(sheet_of_columns(path, with_names_of_classes(value)))
        metrics = claims_of({key: one for key, one in value.items() if not isinstance(one, list)}, str(path))
        return artifacts if metrics is None else [_compared(artifacts[0], metrics)]
    if is_evaluation(value):
        return read_evaluation(value, path)
    return None


def _read_columns(columns: Columns, path: Path) -> list[Artifacts] | None:
    """Evidence from a table's columns: a matrix or predictions; None for other tables."""
    if counted := counted_matrix(columns):
        return _read_value(counted, path, "a confusion matrix (JSON)", is_named=True)
    return predictions_artifacts(sheet_of_columns(path, columns)) if has_prediction_columns(list(columns)) else None


def with_names_of_classes(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lists of true and predicted classes with the names that another list gives the class numbers 0, 1, …, such as
    `{"labels": ["bad", "good"], "y_true": [0, 1, 1], "y_pred": [0, 1, 0]}`; other values are returned as they are."""
    rows = {key: one for key, one in value.items() if str(key).strip().lower() in ROWS and isinstance(one, list)}
    for key in NAME_OF_CLASSES_KEYS:
        names = value.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            continue
        others = {name: cells for name, cells in rows.items() if name != key}
        numbers = [cell for cells in others.values() for cell in cells]
        if not numbers or len(set(names)) < len(names) or any(len(cells) == len(names) for cells in others.values()):
            continue
        kept = {name: one for name, one in value.items() if name != key}
        if all(type(number) is int and 0 <= number < len(names) for number in numbers):
            kept |= {name: [names[number] for number in cells] for name, cells in others.items()}
        return kept
    return value


def _read_value(value: Mapping[str, Any], path: Path, kind: str, is_named: bool = False) -> list[Artifacts]:
    """Evidence from a matrix or a report. `is_named`: the file itself says which classes are the true ones."""
    claims = claims_of(value, str(path))
    if claims is None:
        raise UserError(f"{path}: contains no result. Accepted: {ACCEPTED}.")
    name = guessed_split(path.name) or "evaluation"
    broken = {path.name: non_finite_metrics(value)}
    claims = claims if is_named else _with_matrix_note(claims, value)
    evidence = evaluation_evidence({name: claims}, not_numbers=broken)
    return [Artifacts(kind, (evidence,))]


def _with_matrix_note(claims: ReportedSplit, value: Mapping[str, Any]) -> ReportedSplit:
    return replace(claims, notes=(*claims.notes, MATRIX_NOTE)) if "confusion_matrix" in value else claims


def _compared(artifacts: Artifacts, metrics: ReportedSplit) -> Artifacts:
    """Predictions together with the metrics that are recorded next to them."""
    (evidence,) = artifacts.evidence
    splits = {name: with_metrics(claims, metrics) for name, claims in evidence.splits.items()}
    return replace(artifacts, evidence=(replace(evidence, splits=splits),))


def with_metrics(rows: ReportedSplit, metrics: ReportedSplit) -> ReportedSplit:
    """Rows and the metrics that were recorded of them, to be compared."""
    return replace(
        metrics,
        n=rows.n,
        expected_n=metrics.n or None,
        labels=rows.labels,
        predicted=rows.predicted,
        probabilities=rows.probabilities,
        ids=rows.ids,
        texts=rows.texts,
        lengths=rows.lengths,
        class_names=rows.class_names or metrics.class_names,
        read_as=rows.read_as,
        notes=(*metrics.notes, *rows.notes),
    )


def read_results_folder(folder: Path, but_not: Collection[Path] = ()) -> list[Artifacts]:
    """The results in the files of a folder except `but_not`, as of one run; empty if no file contains any."""
    readers: dict[str, Callable[[Path], list[Artifacts] | None]] = {
        **dict.fromkeys(SUFFIXES, read_table),
        **dict.fromkeys(TEXT, read_printed_results),
        ".json": lambda file: read_json_results(read_any_json(file), file),
    }
    found: list[tuple[Path, Artifacts]] = []
    notes: list[str] = []
    refused: list[UserError] = []
    every = (file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in readers)
    files = sorted(file for file in every if file not in but_not)
    for file in files[:MAX_FILES]:
        try:
            artifacts = readers[file.suffix.lower()](file)
        except UserError as error:
            notes.append(f"not read: {' '.join(str(error).split())[:200]}")
            refused.append(error)
            continue
        if artifacts:
            found.append((file, artifacts[0]))
        else:
            notes.append(f"not read: {file.name} {NO_RESULT}")
    if not found and len(files) == len(refused) == 1 and not but_not:
        raise refused[0]
    if not found:
        return []
    combined = _combined(found)
    return [replace(combined, notes=(*combined.notes, *notes), files=tuple(files[:MAX_FILES]))]


def _combined(found: Iterable[tuple[Path, Artifacts]]) -> Artifacts:
    """One evaluation of all splits. Rows and metrics of the same split, or the only ones of both, are compared."""
    rows: dict[str, ReportedSplit] = {}
    metrics: dict[str, ReportedSplit] = {}
    broken: dict[str, tuple[str, ...]] = {}
    others: list[Any] = []
    n_classes = 0
    files = list(found)
    for file, artifacts in files:
        for evidence in artifacts.evidence:
            if not isinstance(evidence, EvaluationEvidence):
                others.append(evidence)
                continue
            n_classes = max(n_classes, evidence.n_classes)
            broken |= evidence.not_numbers or {}
            for name, claims in evidence.splits.items():
                place = rows if claims.predicted is not None else metrics
                place[name if name not in place else f"{name} ({file.name})"] = claims
    if len(rows) == len(metrics) == 1 and next(iter(rows.values())).n == next(iter(metrics.values())).n:
        rows = dict(zip(metrics, rows.values(), strict=True))
    metrics = _with_their_matrix(metrics)
    splits = {name: with_metrics(rows[name], one) if name in rows else one for name, one in metrics.items()}
    splits |= {name: one for name, one in rows.items() if name not in splits}
    kinds = dict.fromkeys(artifacts.kind for _, artifacts in files)
    every = [item for _, artifacts in files for item in artifacts.evidence]
    return Artifacts(
        f"results ({', '.join(file.name for file, _ in files)})" if len(files) > 1 else next(iter(kinds)),
        (evaluation_evidence(splits, n_classes or None, broken, _course(every)), *_first_of_each(others)),
        notes=tuple(note for _, artifacts in files for note in artifacts.notes),
        earlier=tuple(report for _, artifacts in files for report in artifacts.earlier),
    )


def _with_their_matrix(metrics: Mapping[str, ReportedSplit]) -> dict[str, ReportedSplit]:
    """Two results of as many rows, a matrix without the name of a split and scores without a matrix, as one."""
    unnamed = {name: one for name, one in metrics.items() if name in NO_SPLIT and one.confusion is not None}
    named = {name: one for name, one in metrics.items() if one.confusion is None and one.report is None}
    if len(metrics) != 2 or len(unnamed) != 1 or len(named) != 1:
        return dict(metrics)
    [matrix], [(name, scores)] = unnamed.values(), named.items()
    counts = scores.expected_n or scores.n
    if counts != matrix.n:
        return dict(metrics)
    names = matrix.class_names if scores.class_names is None else scores.class_names
    notes = (*scores.notes, *matrix.notes)
    return {name: replace(scores, confusion=matrix.confusion, class_names=names, notes=notes)}


def _first_of_each(evidence: Iterable[Any]) -> list[Any]:
    kinds: dict[type, Any] = {}
    for item in evidence:
        kinds.setdefault(type(item), item)
    return list(kinds.values())
