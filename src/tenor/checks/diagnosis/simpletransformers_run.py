"""The output folder of simpletransformers: training_progress_scores.csv, eval_results.txt, model_args.json."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, evaluation_evidence, read_any_json
from tenor.checks.diagnosis.history import (
    History,
    Series,
    classes_in,
    history_evidence,
    logged_number,
    split_of,
)
from tenor.checks.diagnosis.history_files import histories_in, is_history_file
from tenor.checks.diagnosis.results_json import claims_of, non_finite_metrics
from tenor.checks.evidence import EvaluationEvidence
from tenor.errors import UserError

SCORES, RESULTS, ARGUMENTS, CONFIG = (
    "training_progress_scores.csv",
    "eval_results.txt",
    "model_args.json",
    "config.json",
)
COUNTS = ("tn", "fp", "fn", "tp")
"""Of two classes: rows of class 0 predicted as 0 and 1, rows of class 1 predicted as 0 and 1."""
NAMES = {"acc": "accuracy"}
KIND = "the output of simpletransformers"


def is_simpletransformers_folder(path: Path) -> bool:
    return (path / SCORES).is_file() or all((path / name).is_file() for name in (RESULTS, ARGUMENTS))


def read_simpletransformers_folder(path: Path) -> list[Artifacts]:
    """Evidence from scores and results. Raises UserError if neither contains any."""
    config, arguments = (_mapping(path / name) for name in (CONFIG, ARGUMENTS))
    n_classes = classes_in(config) or classes_in(arguments)
    files = [path / name for name in (SCORES, RESULTS, CONFIG, ARGUMENTS) if (path / name).is_file()]
    evidence: tuple[Any, ...] = ()
    if (path / SCORES).is_file() and is_history_file(path / SCORES):
        evidence = history_evidence(_scores(path / SCORES), n_classes)
    if (path / RESULTS).is_file():
        results = _results(path / RESULTS)
        evidence = (
            *(one for one in evidence if not isinstance(one, EvaluationEvidence)),
            *_evaluation(results, n_classes),
        )
    if not evidence:
        raise UserError(
            f"{path}: {SCORES} and {RESULTS} contain no known metric. Evaluate the model, and write them again."
        )
    return [Artifacts(KIND, evidence, settings=arguments, files=tuple(files))]


def read_results_text(path: Path) -> list[Artifacts]:
    """Evidence from an `eval_results.txt` alone. Raises UserError if it contains no known metric."""
    evidence = _evaluation(_results(path), None)
    if not evidence:
        raise UserError(f"{path}: expected lines such as 'accuracy = 0.9' or 'tp = 40'. Write the file again.")
    return [Artifacts("the results of an evaluation (text)", evidence, files=(path,))]


def is_results_text(path: Path) -> bool:
    """Whether a file has lines of a name, an equals sign and a number."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(200).decode("utf-8", "replace")
    name, mark, value = first.partition("=")
    return bool(mark) and name.strip().isidentifier() and logged_number(value) is not None


def _scores(path: Path) -> History:
    """The table's columns are metrics of the evaluation, except the training loss."""
    history = next(iter(histories_in(path)[0].values()))
    series: dict[str, Series] = {}
    for name, values in history.series.items():
        series[name if split_of(name) else f"eval/{name}"] = values
    return replace(history, series=series)


def _results(path: Path) -> dict[str, float]:
    """Metrics by name from lines of a name, an equals sign and a value."""
    results = {}
    for line in path.read_bytes()[: 2**20].decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        if (number := logged_number(value)) is not None:
            results[name.strip()] = number
    return results


def _evaluation(results: Mapping[str, float], n_classes: int | None) -> tuple[Any, ...]:
    record: dict[str, Any] = {NAMES.get(name, name): value for name, value in results.items()}
    tn, fp, fn, tp = (results.get(name) for name in COUNTS)
    if tn is not None and fp is not None and fn is not None and tp is not None:
        record["confusion_matrix"] = [[tn, fp], [fn, tp]]
    claims = claims_of(record, RESULTS)
    broken = non_finite_metrics(results)
    if claims is None and not broken:
        return ()
    return (evaluation_evidence({"validation": claims} if claims else {}, n_classes, {RESULTS: broken}),)


def _mapping(path: Path) -> Mapping[str, Any]:
    value = read_any_json(path) if path.is_file() else {}
    return value if isinstance(value, Mapping) else {}
