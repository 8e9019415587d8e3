"""Evaluation of a saved model on its own test rows or on other data, and the files with the result."""

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tenor.checks.evidence.data_evidence import OverlapEvidence
from tenor.checks.finding import Report
from tenor.config.loading import apply_overrides, load_config
from tenor.config.schema import Config
from tenor.console.run import progress_line
from tenor.data.batching import TokenExamples
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.sources.labels import in_classes
from tenor.data.splits import limit_test, make_splits
from tenor.data.tokenization import Truncation, tokenize
from tenor.data.unlike_texts import UnlikeTexts
from tenor.errors import UserError, advice_on_memory, system_refusal
from tenor.evaluation.report.page import Measured, measured_report
from tenor.evaluation.report.run_content import EvaluationNumbers, RunContent, collect_run
from tenor.evaluation.results import Baselines, SplitResult, evaluation_json, overlap_record, overlap_text
from tenor.inference.logits import predict
from tenor.inference.source import saved_model
from tenor.measures.calibration import Operating, at_threshold
from tenor.measures.hybrid import Hybrid, load_hybrid
from tenor.measures.intervals import wilson_interval
from tenor.measures.selective import Answered, answered_above, coverage_curve
from tenor.measures.text_baseline import TextBaseline
from tenor.model.classifier import load_saved_classifier
from tenor.model.folder import class_names
from tenor.model.speed import read_first_token_only
from tenor.runs.best_evaluation import CheckpointNumbers, parse_split
from tenor.runs.directory import DEFAULT_ROOT, REPORT, RunDirectory, find_run
from tenor.runs.environment import package_versions
from tenor.runs.files import atomic_path, write_json, write_text
from tenor.runs.missing import Missing, missing_because
from tenor.runs.model_notes import Threshold, read_model_notes, stored_threshold
from tenor.runs.predictions import Predictions, write_predictions
from tenor.workflows.measure import BaselineModels, find_overlap, find_unlike_texts, measure_split, text_accuracy
from tenor.workflows.prepare import device_plan, require_known_rules
from tenor.workflows.run_checks import check_result

DEVICE_KEYS = ("evaluation.token_budget", "training.device", "training.precision", "training.threads")
"""Keys that change where and how a forward pass is computed: another machine may have less memory, or no GPU."""
CHECK_KEYS = ("checks.allow.",)
"""Keys that accept findings, with a reason."""
MODEL_KEYS = ("max_length", "truncation", "head_share")
"""Keys of `data` for truncation: they belong to the model, whatever rows it is evaluated on."""


@dataclass(frozen=True)
class EvaluationResult:
    """A saved model's result on one set of rows."""

    run: RunDirectory
    config: Config
    origin: str
    """The source of the rows."""
    split: str
    weights_sha256: str
    step: int
    result: SplitResult
    """For the most probable class, even if the model has a threshold."""
    rows: LabelledText
    lengths: tuple[np.ndarray, np.ndarray]
    """Tokens of each whole text, and how many of them were truncated, both (n,)."""
    threshold: Threshold | None
    """The threshold that `tenor predict` uses instead, if there is one."""
    overlap: OverlapEvidence | Missing
    """Which rows have a text of the run's training or validation split; Missing if that is unknown."""
    unlike: UnlikeTexts
    """Which rows are unlike the training texts."""
    checks: Report | Missing
    """The report of the rules on results; Missing for a training split."""
    overrides: tuple[str, ...] = ()

    def at_threshold(self, threshold: Threshold) -> Operating:
        """Precision and recall of the threshold on these rows."""
        k = [one.name for one in self.result.metrics.per_class].index(threshold.class_name)
        return at_threshold(self.result.probabilities[:, k], self.result.labels == k, threshold.probability)

    def abstention(self, below: float) -> tuple[Answered, tuple[Answered, ...]]:
        """Coverage and accuracy if the model abstains below this confidence, in 0 … 1, and the whole curve."""
        rows = (self.result.probabilities, self.result.labels)
        return answered_above(*rows, below), coverage_curve(*rows)


def evaluate(
    reference: str,
    overrides: Sequence[str] = (),
    split: str = "test",
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    file: Path | None = None,
) -> EvaluationResult:
    """Evaluate the run's saved model on `split` of its data or of the data given by `overrides` (`data.…=…`), or on all
    labelled rows of a `file`. `DEVICE_KEYS` and `CHECK_KEYS` may be overridden, too.

    Another `data.source` starts from the defaults: the run's own path, columns and sizes are not kept. Text is
    truncated as in training. The weights are verified against the digest that they were saved with.

    Raises:
        UserError: no such run or split, other classes than the model's, or weights that changed.
        TenorError: memory ran out.
    """
    run = find_run(root, reference)
    folder = saved_model(run)
    require_data_overrides("evaluate", overrides, *DEVICE_KEYS, *CHECK_KEYS)
    notes = read_model_notes(folder)
    model, tokenizer = load_saved_classifier(folder)
    model_names = class_names(model.config, str(folder))
    hybrid = None if notes.hybrid is None else load_hybrid(folder, notes.hybrid, model_names)
    if file is not None:
        if split != "test":
            raise UserError(f"a file is evaluated as a whole; leave out --split {split}")
        overrides = [*rows_of_file(file, model_names), *overrides]
    config = config_for_rows(run, overrides)
    require_known_rules(config)
    plan = device_plan(config)
    rows = _in_model_classes(split_rows_of(config, split), model_names)
    with advice_on_memory("during tokenization", "lower data.test_size, or give fewer rows with --input"):
        tokens = tokenize(rows, tokenizer, Truncation.of(notes))
    console = console or Console(stderr=True, markup=False)
    read_first_token_only(model)
    model.to(plan.device)
    with progress_line(console, f"evaluating on {rows.origin}", len(rows)) as line:
        logits = predict(model, TokenExamples(tokens, tokenizer.pad_token_id), plan, advance=line.advance)
    baselines, scores = _baselines(run, hybrid, rows)
    result = measure_split(rows, logits, baselines, notes.temperature, notes.folded_temperature, hybrid, scores)
    overlap = find_overlap(run, rows, split)
    return EvaluationResult(
        run=run,
        config=config,
        origin=rows.origin,
        split=split,
        weights_sha256=notes.weights_sha256,
        step=notes.checkpoint_step,
        result=result,
        rows=rows,
        lengths=(tokens.full_lengths, tokens.full_lengths - tokens.lengths),
        threshold=notes.threshold,
        overlap=overlap,
        unlike=find_unlike_texts(rows, tokens, tokenizer, notes.training_texts),
        checks=check_result(config.checks, split, result, overlap),
        overrides=tuple(overrides),
    )


def require_data_overrides(command: str, overrides: Sequence[str], *also: str) -> None:
    """Raises UserError for an override that is neither of the data nor one of the keys in `also`, or that is of the
    model. A key in `also` that ends with a dot includes all keys below it."""
    for override in overrides:
        if not override.startswith(("data.", *(key if key.endswith(".") else f"{key}=" for key in also))):
            allowed = ", ".join(f"{key}…" if key.endswith(".") else key for key in ("data.", *also))
            raise UserError(
                f"tenor {command} accepts only the overrides {allowed}; observed {override!r}. The saved model is fixed"
            )
        key = override.partition("=")[0].replace(" ", "")
        if key.removeprefix("data.") in MODEL_KEYS:
            raise UserError(
                f"tenor {command} truncates texts as in training; observed {override!r}. Leave it out, or train with "
                f"it: tenor train CONFIG {override}"
            )


def config_for_rows(run: RunDirectory, overrides: Sequence[str]) -> Config:
    """The run's configuration with the overrides. If these name another source, the settings of the run's own
    rows (path, columns, sizes, splits) do not apply to it and are reset to their defaults first.

    Raises:
        UserError: overrides that are invalid, alone or together.
    """
    recorded = load_config(run.config)
    requested: dict[str, Any] = {}
    apply_overrides(overrides, requested, {})  # Errors in them are reported by `load_config` below.
    if requested.get("data", {}).get("source", recorded.data.source) != recorded.data.source:
        kept = recorded.data.model_dump(mode="json", include=set(MODEL_KEYS))
        overrides = [f"data={json.dumps(kept)}", *overrides]
    return load_config(run.config, overrides)


def rows_of_file(file: Path, class_names: Sequence[str]) -> list[str]:
    """Overrides that use a file's rows as the test split; labels are names or numbers of the classes."""
    name = json.dumps(str(file))
    names = json.dumps(list(class_names))
    return [
        "data.source=file",
        f"data.path={name}",
        f"data.test_path={name}",
        "data.test_size=null",
        f"data.class_names={names}",
    ]


def split_rows_of(config: Config, split: str) -> LabelledText:
    """The rows of a split, read again. Raises UserError if they cannot be read or there is no test split."""
    source = read_source(config.data)
    if split == "test":
        rows = limit_test(source.test, config.data.test_size)
        if isinstance(rows, Missing):
            raise UserError(f"there is no test split: {rows.reason}; choose --split validation")
        return rows
    splits = make_splits(source, config.data, config.seed)
    return splits.validation if split == "validation" else splits.train


def _in_model_classes(rows: LabelledText, model_names: tuple[str, ...]) -> LabelledText:
    if rows.class_names == model_names:
        return rows
    if (matched := in_classes(rows, model_names)) is None:
        raise UserError(
            f"the model has the classes {', '.join(model_names)}; {rows.origin} has {', '.join(rows.class_names)}. "
            "Use the model's class names as labels; if labels are numbers, name the classes with data.class_names"
        )
    return matched


def _baselines(run: RunDirectory, hybrid: Hybrid | None, rows: LabelledText) -> tuple[Baselines, np.ndarray | str]:
    """The run's own baselines on these rows, and the text baseline's log-probabilities (n, K) or why there are none.
    The majority class is that of the training rows."""
    if hybrid is None and not run.baseline.is_dir():
        missing = "the run kept no text baseline"
        return BaselineModels(rows.labels, missing).on(rows, missing), missing
    text = TextBaseline.load(run.baseline) if hybrid is None else hybrid.baseline
    majority = int(text.class_frequencies.argmax())
    scores = text.log_probabilities(rows.texts)
    return Baselines(float((rows.labels == majority).mean()), text_accuracy(scores, rows)), scores


def evaluation_record(evaluation: EvaluationResult, abstain_below: float | None = None) -> dict[str, Any]:
    """An evaluation as plain data, in the form of `eval_best_model.json`, with digest and origin.

    With `abstain_below`, also coverage and accuracy if the model abstains below this confidence.
    """
    config, result = evaluation.config, evaluation.result
    names = [one.name for one in result.metrics.per_class]
    confidence, seed = config.evaluation.confidence, config.seed
    record = evaluation_json(
        "not evaluated", result, evaluation.weights_sha256, evaluation.step, names, confidence, seed
    )
    return {
        "run": str(evaluation.run.path),
        "origin": evaluation.origin,
        "split": evaluation.split,
        "checkpoint": record["checkpoint"],
        "class_names": names,
        "result": record["test"],
        "overlap": overlap_record(evaluation.overlap, result, confidence),
        "unlike": evaluation.unlike.record(),
        "findings": missing_because(evaluation.checks.reason)
        if isinstance(evaluation.checks, Missing)
        else [asdict(finding) for finding in evaluation.checks.findings],
        **({} if abstain_below is None else {"abstain": abstention_record(evaluation, abstain_below)}),
        **({} if evaluation.threshold is None else {"threshold": _threshold_record(evaluation, evaluation.threshold)}),
    }


def _threshold_record(evaluation: EvaluationResult, threshold: Threshold) -> dict[str, Any]:
    operating = operating_record(evaluation.at_threshold(threshold), evaluation.config.evaluation.confidence)
    return {**stored_threshold(threshold), evaluation.split: operating}


def operating_record(operating: Operating, confidence: float) -> dict[str, Any]:
    """Precision and recall with their intervals, and the counts behind them."""
    return {
        "called": operating.called,
        "right": operating.right,
        "members": operating.members,
        "precision": _share(operating.right, operating.called, "no row is predicted as this class", confidence),
        "recall": _share(operating.right, operating.members, "no row has this class", confidence),
    }


def _share(right: int, of: int, reason: str, confidence: float) -> dict[str, Any]:
    if not of:
        return missing_because(reason)
    interval = wilson_interval(right, of, confidence)
    return {"value": right / of, "low": interval.low, "high": interval.high, "confidence": confidence}


def abstention_record(evaluation: EvaluationResult, below: float) -> dict[str, Any]:
    """`abstention` as plain data."""
    requested, curve = evaluation.abstention(below)
    confidence = evaluation.config.evaluation.confidence
    return {**_answered_record(requested, confidence), "curve": [_answered_record(one, confidence) for one in curve]}


def _answered_record(one: Answered, confidence: float) -> dict[str, Any]:
    interval = one.interval(confidence)
    answered = {"threshold": one.threshold, "n": one.n, "answered": one.answered, "coverage": one.coverage}
    if interval is None:
        return {**answered, "accuracy": missing_because("no row is answered")}
    return {**answered, "accuracy": one.accuracy, "accuracy_interval": {**asdict(interval), "method": "Wilson"}}


def keep_evaluation(evaluation: EvaluationResult, record: dict[str, Any], output: Path | None = None) -> Path:
    """Write `evaluation.json` (the `record`), `predictions.parquet` and `report.html`; returns their folder.

    The default is a folder in the run's `evaluations`, named after the rows; evaluating the same rows again replaces
    it. The run's own results and report do not change.

    Raises:
        UserError: the folder cannot be written, or `output` exists and is not an evaluation.
    """
    require_place(output)
    digest = rows_sha256(evaluation.rows)
    folder = output or evaluation.run.evaluations / f"{_slug(evaluation)}-{evaluation.split}-{digest[:8]}"
    try:
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_json(temporary / "evaluation.json", record)
            _write_predictions(evaluation, temporary / "predictions.parquet")
            write_text(temporary / REPORT, measured_report(_content(evaluation, record), _measured(evaluation, digest)))
    except OSError as error:
        raise UserError(f"{folder}: {system_refusal(error) or error}; name another folder with --output") from error
    return folder


def require_place(output: Path | None) -> None:
    """Raises UserError for an existing folder that is not an evaluation, and for a file."""
    if output is not None and output.exists() and not (output / "evaluation.json").is_file():
        raise UserError(f"{output} exists and is not an evaluation; name another folder with --output")


def rows_sha256(rows: LabelledText) -> str:
    """SHA-256 of ids, texts and labels, in order."""
    digest = hashlib.sha256(repr(rows.class_names).encode("utf-8", "surrogatepass"))
    for column in (rows.ids, rows.texts, rows.labels.tolist()):
        for value in column:
            encoded = str(value).encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _write_predictions(evaluation: EvaluationResult, path: Path) -> None:
    result, rows = evaluation.result, evaluation.rows
    write_predictions(
        path,
        rows.ids,
        rows.labels,
        result.probabilities,
        rows.class_names,
        temperature=result.temperature,
        lengths=evaluation.lengths,
    )


def _content(evaluation: EvaluationResult, record: dict[str, Any]) -> RunContent:
    """The run's content, with the numbers and predictions of these rows only."""
    result, rows = evaluation.result, evaluation.rows
    predictions = Predictions(
        tuple(rows.ids), rows.labels, result.probabilities, rows.class_names, result.temperature, *evaluation.lengths
    )
    numbers = EvaluationNumbers(
        CheckpointNumbers(evaluation.weights_sha256, evaluation.step),
        rows.class_names,
        {evaluation.split: parse_split(record["result"])},
    )
    return replace(
        collect_run(evaluation.run),
        config=evaluation.config,
        records=Missing("this is an evaluation of a model that was trained before"),
        checks=evaluation.checks if isinstance(evaluation.checks, Missing) else (evaluation.checks,),
        evaluation=numbers,
        predictions={evaluation.split: predictions},
    )


def _measured(evaluation: EvaluationResult, digest: str) -> Measured:
    command = ["tenor", "evaluate", evaluation.run.reference, *evaluation.overrides]
    if evaluation.split != "test":
        command += ["--split", evaluation.split]
    return Measured(
        split=evaluation.split,
        rows=evaluation.rows,
        rows_sha256=digest,
        weights_sha256=evaluation.weights_sha256,
        step=evaluation.step,
        threshold="" if evaluation.threshold is None else str(evaluation.threshold),
        overlap=overlap_text(evaluation.overlap, evaluation.result, evaluation.config.evaluation.confidence),
        command=shlex.join(command),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=package_versions(),
    )


def _slug(evaluation: EvaluationResult) -> str:
    """A part of the folder's name, from the source of the rows."""
    data = evaluation.config.data
    path = data.test_path if evaluation.split == "test" and data.test_path is not None else data.path
    name = Path(path).stem if data.source == "file" and path is not None else data.hub_name or data.source
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:40] or "rows"
