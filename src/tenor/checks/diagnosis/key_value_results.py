"""Results as lines of a name, an equals sign and a number: `eval_results.txt` of simpletransformers, and
`eval_results_TASK.txt` with `test_results_TASK.txt` of transformers' older example programs (run_glue)."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, evaluation_evidence, read_any_json
from tenor.checks.diagnosis.columns import Sheet
from tenor.checks.diagnosis.history import classes_in, logged_number
from tenor.checks.diagnosis.predictions_file import PREDICTED, predictions_artifacts
from tenor.checks.diagnosis.results_json import claims_of, guessed_split, non_finite_metrics
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.errors import UserError

NAMES = {"acc": "accuracy"}
COUNTS = ("tn", "fp", "fn", "tp")
"""Of two classes: rows of class 0 predicted as 0 and 1, rows of class 1 predicted as 0 and 1."""
RESULTS = "eval_results*.txt"
PREDICTIONS = ("test_results*.txt", "predict_results*.txt", "*_predictions.txt")
CONFIG = "config.json"
PREFIX = re.compile(r"^(eval|test|predict)_")
MAX_BYTES = 2**26
"""Of a file of predictions without texts."""


def is_results_text(path: Path) -> bool:
    """Whether a file has lines of a name, an equals sign and a number."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(200).decode("utf-8", "replace")
    name, mark, value = first.partition("=")
    return (
        bool(mark) and re.fullmatch(r"[A-Za-z][\w/. -]*", name.strip()) is not None and logged_number(value) is not None
    )


def read_results_text(path: Path) -> list[Artifacts]:
    """Evidence from a file of results alone. Raises UserError if it contains no known metric."""
    evidence = evaluation_of_results(results_in(path), None, path.name)
    if not evidence:
        raise UserError(
            f"{path}: contains {', '.join(sorted(results_in(path))[:8])}; expected lines such as 'accuracy = 0.9', "
            f"'mcc = 0.8' or 'tp = 40'. Give the predictions with their labels as CSV instead."
        )
    return [Artifacts("the results of an evaluation (text)", evidence, files=(path,))]


def results_in(path: Path) -> dict[str, float]:
    """Metrics by name from lines of a name, an equals sign and a value."""
    results = {}
    for line in path.read_bytes()[: 2**20].decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        if (number := logged_number(value)) is not None:
            results[name.strip()] = number
    return results


def evaluation_of_results(results: Mapping[str, float], n_classes: int | None, file: str) -> tuple[Any, ...]:
    """The evaluation in a file of results; empty if no metric is known."""
    plain = {PREFIX.sub("", name.rpartition("/")[2]): value for name, value in results.items()}
    record: dict[str, Any] = {NAMES.get(name, name): value for name, value in plain.items()}
    tn, fp, fn, tp = (plain.get(name) for name in COUNTS)
    if tn is not None and fp is not None and fn is not None and tp is not None:
        record["confusion_matrix"] = [[tn, fp], [fn, tp]]
    claims, broken = claims_of(record, file), non_finite_metrics(results)
    if claims is None and not broken:
        return ()
    split = guessed_split(file) or "validation"
    return (evaluation_evidence({split: claims} if claims else {}, n_classes, {file: broken}),)


def results_files(folder: Path) -> list[Path]:
    """The files of results in a folder."""
    return sorted(file for file in folder.glob(RESULTS) if is_results_text(file))


def read_results_files(folder: Path) -> list[Artifacts]:
    """One run from the results of all tasks' files and the predictions next to them. Raises UserError for none."""
    config = read_any_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    n_classes = classes_in(config) if isinstance(config, Mapping) else None
    parts = read_parts((*results_files(folder), *prediction_files(folder)), n_classes)
    if not parts.splits and not any(parts.not_numbers.values()):
        raise UserError(f"{folder}: no result can be read. {parts.notes[0] if parts.notes else ''}")
    kind = "the results of an evaluation (text)"
    evidence = evaluation_evidence(parts.splits, parts.n_classes, parts.not_numbers)
    files = (*((folder / CONFIG,) if config else ()), *parts.files)
    return [Artifacts(kind, (evidence,), files=files, notes=parts.notes)]


@dataclass(frozen=True)
class FileResults:
    """What several files of one run contain."""

    splits: Mapping[str, ReportedSplit]
    not_numbers: Mapping[str, tuple[str, ...]]
    n_classes: int | None
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_parts(files: Iterable[Path], n_classes: int | None, known: Collection[str] = ()) -> FileResults:
    """The results or predictions in each file; a second one of a split, or of a `known` one, has the file's name."""
    splits: dict[str, ReportedSplit] = {}
    broken: dict[str, tuple[str, ...]] = {}
    read, notes = list[Path](), list[str]()
    for file in files:
        try:
            part = _part(file, n_classes)
        except UserError as error:
            notes.append(f"not read: {' '.join(str(error).split())[:200]}")
            continue
        read.append(file)
        broken |= part.not_numbers or {}
        taken = {*splits, *known}
        splits |= {name if name not in taken else f"{name} ({file.name})": one for name, one in part.splits.items()}
        n_classes = max(n_classes or 0, part.n_classes)
    return FileResults(splits, broken, n_classes, tuple(read), tuple(notes))


def _part(file: Path, n_classes: int | None) -> EvaluationEvidence:
    [artifacts] = read_results_text(file) if is_results_text(file) else read_predictions_text(file)
    [evidence] = artifacts.evidence
    assert isinstance(evidence, EvaluationEvidence)
    return evidence if n_classes is None else replace(evidence, n_classes=max(n_classes, evidence.n_classes))


def prediction_files(folder: Path) -> list[Path]:
    """The files of predictions in a folder."""
    found = {file for pattern in PREDICTIONS for file in folder.glob(pattern)}
    return sorted(file for file in found if is_predictions_text(file))


def is_predictions_text(path: Path) -> bool:
    """Whether a text file has a header with a column of predictions, separated by tabs."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with path.open("rb") as file:
        header = file.readline(1000).decode("utf-8-sig", "replace").strip().lower().split("\t")
    return len(header) > 1 and bool(set(header) & set(PREDICTED))


def read_predictions_text(path: Path) -> list[Artifacts]:
    """Evidence from predictions in columns that are separated by tabs, without quotes. Raises UserError otherwise."""
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes; predictions as text are read up to {MAX_BYTES:,}.")
    lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    header, *rows = [line.split("\t") for line in lines if line.strip()]
    wrong = next((number for number, row in enumerate(rows, start=1) if len(row) != len(header)), None)
    if wrong is not None or len(set(header)) < len(header):
        where = "the header repeats a name" if wrong is None else f"row {wrong:,} has {len(rows[wrong - 1])} fields"
        raise UserError(f"{path}: {where}; expected {len(header)} different columns. Save it as .tsv, and give that.")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())
    artifacts = predictions_artifacts(Sheet(path, tuple(header), len(rows), lambda name: list(columns[name])))
    return [replace(one, files=(path,)) for one in artifacts]
