"""The output folder of simpletransformers: training_progress_scores.csv, eval_results.txt, model_args.json."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.history import (
    History,
    Series,
    classes_in,
    history_evidence,
    split_of,
)
from tenor.checks.diagnosis.history_files import histories_in, is_history_file
from tenor.checks.diagnosis.key_value_results import evaluation_of_results, results_in
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.errors import UserError

SCORES, RESULTS, ARGUMENTS, CONFIG = (
    "training_progress_scores.csv",
    "eval_results.txt",
    "model_args.json",
    "config.json",
)
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
        course = next((one.course for one in evidence if isinstance(one, EvaluationEvidence)), None)
        last = evaluation_of_results(results_in(path / RESULTS), n_classes, RESULTS)
        evidence = (
            *(one for one in evidence if not isinstance(one, EvaluationEvidence)),
            *(replace(one, course=course) for one in last),
        )
    if not evidence:
        raise UserError(
            f"{path}: {SCORES} and {RESULTS} contain no known metric. Evaluate the model, and write them again."
        )
    return [Artifacts(KIND, evidence, settings=arguments, files=tuple(files))]


def _scores(path: Path) -> History:
    """The table's columns are metrics of the evaluation, except the training loss."""
    history = next(iter(histories_in(path)[0].values()))
    series: dict[str, Series] = {}
    for name, values in history.series.items():
        series[name if split_of(name) else f"eval/{name}"] = values
    return replace(history, series=series)


def _mapping(path: Path) -> Mapping[str, Any]:
    value = read_any_json(path) if path.is_file() else {}
    return value if isinstance(value, Mapping) else {}
