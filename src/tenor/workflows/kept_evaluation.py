"""What `tenor evaluate` measured, kept beside the run: the numbers, every prediction, and a report."""

import hashlib
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenor.data.dataset import Absent, LabelledText
from tenor.errors import UserError, system_refusal
from tenor.evaluation.predictions import Predictions, write_predictions
from tenor.evaluation.report.collect import CheckpointNumbers, EvaluationNumbers, RunContent, collect_run
from tenor.evaluation.report.measured import Measured, measured_report, split_numbers
from tenor.runs.environment import package_versions
from tenor.runs.files import atomic_path, write_json, write_text
from tenor.workflows.evaluate import Evaluation
from tenor.workflows.overlap import overlap_words

REPORT = "report.html"


def keep_evaluation(found: Evaluation, record: dict[str, Any], output: Path | None = None) -> Path:
    """Write `evaluation.json` (the `record`), `predictions.parquet` and `report.html`; returns their folder.

    By default it lies in the run's folder `evaluations`, named after the rows: who measures the same rows again
    replaces it. The run's own results and report are those of its end and stay as they are.

    Raises:
        UserError: a place that can't be written to, or an `output` that is something else.
    """
    require_place(output)
    digest = rows_sha256(found.rows)
    folder = output or found.run.evaluations / f"{_slug(found)}-{found.split}-{digest[:8]}"
    try:
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_json(temporary / "evaluation.json", record)
            _write_predictions(found, temporary / "predictions.parquet")
            write_text(temporary / REPORT, measured_report(_content(found, record), _measured(found, digest)))
    except OSError as error:
        raise UserError(f"{folder}: {system_refusal(error) or error}; name another folder with --output") from error
    return folder


def require_place(output: Path | None) -> None:
    """Raises UserError for a folder that holds something else, or a file."""
    if output is not None and output.exists() and not (output / "evaluation.json").is_file():
        raise UserError(f"{output}: exists and holds no evaluation; name another folder with --output")


def rows_sha256(rows: LabelledText) -> str:
    """Over ids, texts and labels, in order."""
    digest = hashlib.sha256(repr(rows.class_names).encode("utf-8", "surrogatepass"))
    for column in (rows.ids, rows.texts, rows.labels.tolist()):
        for value in column:
            encoded = str(value).encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _write_predictions(found: Evaluation, path: Path) -> None:
    result, rows = found.result, found.rows
    write_predictions(
        path,
        rows.ids,
        rows.labels,
        result.probabilities,
        rows.class_names,
        temperature=result.temperature,
        lengths=found.lengths,
    )


def _content(found: Evaluation, record: dict[str, Any]) -> RunContent:
    """The run's, with the numbers and predictions of these rows alone."""
    result, rows = found.result, found.rows
    predictions = Predictions(
        tuple(rows.ids), rows.labels, result.probabilities, rows.class_names, result.temperature, *found.lengths
    )
    numbers = EvaluationNumbers(
        CheckpointNumbers(found.weights_sha256, found.step),
        rows.class_names,
        {found.split: split_numbers(record["result"])},
    )
    return replace(
        collect_run(found.run),
        config=found.config,
        records=Absent("this measures a model that was trained before"),
        checks=found.checks if isinstance(found.checks, Absent) else (found.checks,),
        evaluation=numbers,
        predictions={found.split: predictions},
    )


def _measured(found: Evaluation, digest: str) -> Measured:
    command = ["tenor", "evaluate", found.run.reference, *found.overrides]
    if found.split != "test":
        command += ["--split", found.split]
    return Measured(
        split=found.split,
        rows=found.rows,
        rows_sha256=digest,
        weights_sha256=found.weights_sha256,
        step=found.step,
        threshold="" if found.threshold is None else str(found.threshold),
        overlap=overlap_words(found.overlap, found.result, found.config.evaluation.confidence),
        command=shlex.join(command),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=package_versions(),
    )


def _slug(found: Evaluation) -> str:
    """A part of a folder's name from where the rows came from."""
    data = found.config.data
    path = data.test_path if found.split == "test" and data.test_path is not None else data.path
    name = Path(path).stem if data.source == "file" and path is not None else data.hub_name or data.source
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:40] or "rows"
