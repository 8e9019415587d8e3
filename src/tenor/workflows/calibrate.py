"""A completed run's probabilities made to mean what they say, from its stored predictions: no model need run."""

from dataclasses import dataclass, replace
from math import isclose
from typing import Any

from tenor.config.loading import load_config
from tenor.errors import UserError
from tenor.evaluation.card_probabilities import CARD, with_probabilities
from tenor.evaluation.evaluate import Baselines, SplitResult, evaluation_json, split_result
from tenor.evaluation.predictions import Predictions, read_predictions, write_predictions
from tenor.measures.calibration import choose_temperature, log_probabilities, with_temperature
from tenor.model.notes import NOTES, ModelNotes, Threshold, read_model_notes, update_model_notes
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import is_absent
from tenor.runs.files import digest_folder, read_json, write_json, write_text
from tenor.runs.manifest import update_manifest
from tenor.runs.summary import read_summary, upsert_row
from tenor.workflows.export_model import fold_into_model
from tenor.workflows.outcome import headline

SPLITS = {"validation": "val", "test": "test"}
"""Files of predictions, and what `eval_best_model.json` calls them."""


@dataclass(frozen=True)
class Calibrated:
    """A run after `calibrate`."""

    run: RunDirectory
    notes: ModelNotes
    predictions: dict[str, Predictions]
    """By split: validation and, where there is one, test."""
    evaluation: dict[str, Any]
    """The content of `eval_best_model.json`."""
    changed: bool
    """Whether the temperature was not the best one before."""
    dropped: Threshold | None = None
    """The threshold that was for other probabilities and had to go."""


def calibrate(run: RunDirectory) -> Calibrated:
    """Fit the temperature on the run's validation rows and bring model notes, predictions and results into line.

    A run does so itself at its end, so that nothing changes here; this serves runs from before.

    Raises:
        UserError: no saved model or predictions, or a model that changed.
    """
    if not run.model.is_dir():
        raise UserError(
            f"{run.reference} has no saved model; a run saves one when it completes, and a sweep keeps its best"
        )
    notes = read_model_notes(run.model)
    predictions = read_run_predictions(run)
    validation = predictions["validation"]
    logits = log_probabilities(validation.probabilities) * validation.temperature
    temperature = choose_temperature(logits, validation.labels)
    known = (notes.total_temperature, *(found.temperature for found in predictions.values()))
    changed = not all(isclose(one, temperature, rel_tol=1e-4) for one in known)
    if changed:
        predictions = {name: _rewrite(run, name, found, temperature) for name, found in predictions.items()}
        update_model_notes(run.model, temperature=temperature / notes.folded_temperature, threshold=None)
    evaluation = read_json(run.evaluation)
    if changed or "calibration" not in evaluation["val"]:
        evaluation = _measure_again(run, predictions)
    if changed:
        bring_card_up_to_date(run)
    dropped = notes.threshold if changed else None
    return Calibrated(run, read_model_notes(run.model), predictions, evaluation, changed, dropped)


def fold(calibrated: Calibrated) -> Calibrated:
    """Divide the saved classifier by the temperature: whoever loads it, without Tenor, gets calibrated probabilities.

    Raises:
        UserError: a head that can't be folded into.
    """
    run = calibrated.run
    fold_into_model(run.model)
    bring_card_up_to_date(run)
    return replace(calibrated, notes=read_model_notes(run.model))


def bring_card_up_to_date(run: RunDirectory) -> None:
    """Let the model's card and the run's manifest follow a change of `model/tenor.json`."""
    card = run.model / CARD
    if card.is_file():
        write_text(card, with_probabilities(card.read_text(encoding="utf-8"), read_json(run.model / NOTES)))
    update_manifest(run, digests={"model": digest_folder(run.model)})


def read_run_predictions(run: RunDirectory) -> dict[str, Predictions]:
    """By split: validation and, where there is one, test. Raises UserError where one can't be read."""
    files = {name: run.predictions / f"{name}.parquet" for name in SPLITS}
    return {name: read_predictions(file) for name, file in files.items() if name == "validation" or file.is_file()}


def _rewrite(run: RunDirectory, name: str, found: Predictions, temperature: float) -> Predictions:
    probabilities = with_temperature(found.probabilities, found.temperature, temperature)
    path = run.predictions / f"{name}.parquet"
    write_predictions(
        path,
        found.ids,
        found.labels,
        probabilities,
        found.class_names,
        temperature=temperature,
        lengths=found.lengths,
    )
    return read_predictions(path)


def _measure_again(run: RunDirectory, predictions: dict[str, Predictions]) -> dict[str, Any]:
    """`eval_best_model.json` and the summary's row from the stored predictions; baselines as they were measured."""
    before, config = read_json(run.evaluation), load_config(run.config)
    results = {name: _result(found, before[SPLITS[name]]["baselines"]) for name, found in predictions.items()}
    written = evaluation_json(
        results["validation"],
        results.get("test") or before["test"]["absent"],
        before["checkpoint"]["digest"],
        before["checkpoint"]["step"],
        before["class_names"],
        config.evaluation.confidence,
        config.seed,
    )
    write_json(run.evaluation, {**before, **written})
    _update_summary(run, written)
    return written


def _result(found: Predictions, baselines: dict[str, Any]) -> SplitResult:
    accuracies = {name: value["absent"] if is_absent(value) else float(value) for name, value in baselines.items()}
    return split_result(
        found.labels, found.probabilities, found.class_names, Baselines(**accuracies), found.temperature
    )


def _update_summary(run: RunDirectory, written: dict[str, Any]) -> None:
    root = run.path.parent.parent
    for row in read_summary(root):
        if (row.config_name, row.run_id) == (run.config_name, run.run_id):
            upsert_row(root, replace(row, val_metrics=headline(written["val"]), test_metrics=headline(written["test"])))
