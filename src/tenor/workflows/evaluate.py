"""A saved model, measured again: on its own test rows or on other data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.batching import TokenExamples
from tenor.data.dataset import Absent, LabelledText
from tenor.data.sources import read_source
from tenor.data.splits import limit_test, make_splits
from tenor.data.tokenization import tokenize
from tenor.errors import UserError
from tenor.evaluation.evaluate import Baselines, SplitResult, evaluation_json
from tenor.inference.logits import predict
from tenor.measures.text_baseline import TextBaseline
from tenor.model.classifier import load_saved_classifier
from tenor.model.notes import read_model_notes
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, find_run
from tenor.training.progress import progress_line
from tenor.workflows.measure import BaselineModels, measure_split
from tenor.workflows.prepare import device_plan


@dataclass(frozen=True)
class Evaluation:
    """A saved model's result on one set of rows."""

    run: RunDirectory
    config: Config
    origin: str
    """Where the rows came from."""
    split: str
    weights_sha256: str
    step: int
    result: SplitResult


def evaluate(
    reference: str,
    overrides: Sequence[str] = (),
    split: str = "test",
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
) -> Evaluation:
    """Measure the run's saved model on `split` of its data, or of the data that `overrides` (`data.…=…`) name.

    Text is cut as in training. The weights are verified against the digest that they were saved with.

    Raises:
        UserError: no such run or split, other classes than the model's, or weights that changed.
    """
    run = find_run(root, reference)
    if not run.model.is_dir():
        raise UserError(f"{run.reference} has no saved model; a run saves one when it completes")
    for override in overrides:
        if not override.startswith("data."):
            raise UserError(
                f"tenor evaluate takes data.… overrides only, found {override!r}; the model is as it was saved"
            )
    notes = read_model_notes(run.model)
    config = load_config(run.config, overrides)
    plan = device_plan(config)
    model, tokenizer = load_saved_classifier(run.model)
    rows = _rows(config, split)
    model_names = tuple(model.config.id2label[k] for k in range(model.config.num_labels))
    if rows.class_names != model_names:
        raise UserError(
            f"the model knows the classes {model_names}, {rows.origin} has {rows.class_names}; set data.class_names"
        )
    tokens = tokenize(rows, tokenizer, notes.truncation)
    console = console or Console(stderr=True)
    model.to(plan.device)
    with progress_line(console, f"evaluating on {rows.origin}", len(rows)) as line:
        logits = predict(model, TokenExamples(tokens, tokenizer.pad_token_id), plan, advance=line.advance)
    result = measure_split(rows, logits, _baselines(run, config, rows), notes.temperature)
    return Evaluation(run, config, rows.origin, split, notes.weights_sha256, notes.step, result)


def _rows(config: Config, split: str) -> LabelledText:
    source = read_source(config.data)
    if split == "test":
        rows = limit_test(source.test, config.data.test_size)
        if isinstance(rows, Absent):
            raise UserError(f"there is no test split: {rows.reason}; choose --split validation")
        return rows
    splits = make_splits(source, config.data, config.seed)
    return splits.validation if split == "validation" else splits.train


def _baselines(run: RunDirectory, config: Config, rows: LabelledText) -> Baselines:
    """The run's own baselines on these rows; the majority class is that of the rows it was trained on."""
    if not run.baseline.is_dir():
        return BaselineModels(rows.labels, "the run kept no text baseline").on(rows)
    text = TextBaseline.load(run.baseline)
    majority = int(text.class_frequencies.argmax())
    predicted = text.probabilities(rows.texts).argmax(axis=1)
    return Baselines(float((rows.labels == majority).mean()), float((predicted == rows.labels).mean()))


def evaluation_record(found: Evaluation) -> dict[str, Any]:
    """An evaluation as plain data, in the form of `eval_best_model.json`, with digest and origin."""
    config, result = found.config, found.result
    names = [one.name for one in result.metrics.per_class]
    confidence, seed = config.evaluation.confidence, config.seed
    record = evaluation_json("not asked for", result, found.weights_sha256, found.step, names, confidence, seed)
    return {
        "run": str(found.run.path),
        "origin": found.origin,
        "split": found.split,
        "checkpoint": record["checkpoint"],
        "class_names": names,
        "result": record["test"],
    }
