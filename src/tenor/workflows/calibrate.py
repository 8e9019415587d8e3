"""A completed run's probabilities calibrated, and a threshold chosen, from its stored predictions."""

from dataclasses import dataclass, replace
from math import isclose
from typing import Any

import numpy as np

from tenor.config.loading import load_config
from tenor.errors import UserError
from tenor.evaluation.model_card import CARD, with_probabilities
from tenor.evaluation.results import KEY_OF_SPLIT, Baselines, SplitResult, evaluation_json, split_result
from tenor.measures.calibration import (
    Operating,
    at_threshold,
    best_precision,
    choose_temperature,
    log_probabilities,
    threshold_for_precision,
    threshold_for_recall,
    with_temperature,
)
from tenor.runs.directory import RunDirectory
from tenor.runs.files import digest_folder, read_json, write_json, write_text
from tenor.runs.manifest import update_manifest
from tenor.runs.missing import is_missing, missing_because
from tenor.runs.model_notes import NOTES, ModelNotes, Threshold, read_model_notes, stored_threshold, update_model_notes
from tenor.runs.predictions import Predictions, read_predictions, write_predictions
from tenor.runs.summary import read_summary, upsert_row
from tenor.workflows.evaluate import operating_record
from tenor.workflows.outcome import fold_into_model, headline


@dataclass(frozen=True)
class Calibrated:
    """A run after `calibrate`."""

    run: RunDirectory
    notes: ModelNotes
    predictions: dict[str, Predictions]
    """By split: validation and, if there is one, test."""
    evaluation: dict[str, Any]
    """The content of `eval_best_model.json`."""
    changed: bool
    """Whether this call changed the temperature."""
    dropped: Threshold | None = None
    """The threshold that was removed, because it was chosen for other probabilities."""


def calibrate(run: RunDirectory) -> Calibrated:
    """Fit the temperature on the run's validation rows and update model notes, predictions and results.

    A hybrid is left as it is: fitting its weights calibrated it.

    A run does this at its end, so that this changes nothing; it is for runs of earlier versions.

    Raises:
        UserError: there is no saved model, there are no predictions, or the model was changed.
    """
    if not run.model.is_dir():
        raise UserError(
            f"{run.reference} has no saved model; a run saves one when it completes, and a sweep keeps its best"
        )
    notes = read_model_notes(run.model)
    predictions = read_run_predictions(run)
    if notes.hybrid is not None:
        return Calibrated(run, notes, predictions, read_json(run.evaluation), changed=False)
    validation = predictions["validation"]
    logits = log_probabilities(validation.probabilities) * validation.temperature
    temperature = choose_temperature(logits, validation.labels)
    stored = (notes.total_temperature, *(found.temperature for found in predictions.values()))
    changed = not all(isclose(one, temperature, rel_tol=1e-4) for one in stored)
    if changed:
        predictions = {name: _rewrite(run, name, found, temperature) for name, found in predictions.items()}
        update_model_notes(run.model, temperature=temperature / notes.folded_temperature, threshold=None)
    evaluation = read_json(run.evaluation)
    if changed or "calibration" not in evaluation["val"]:
        evaluation = _measure_again(run, predictions)
    if changed:
        update_card(run)
    dropped = notes.threshold if changed else None
    return Calibrated(run, read_model_notes(run.model), predictions, evaluation, changed, dropped)


def fold(calibrated: Calibrated) -> Calibrated:
    """Divide the saved classifier by the temperature, so that it gives calibrated probabilities without Tenor.

    Raises:
        UserError: the temperature cannot be folded into the head.
    """
    run = calibrated.run
    fold_into_model(run.model)
    update_card(run)
    return replace(calibrated, notes=read_model_notes(run.model))


def update_card(run: RunDirectory) -> None:
    """Update the model's card and the run's manifest after a change of `model/tenor.json`."""
    card = run.model / CARD
    if card.is_file():
        write_text(card, with_probabilities(card.read_text(encoding="utf-8"), read_json(run.model / NOTES)))
    update_manifest(run, digests={"model": digest_folder(run.model)})


def read_run_predictions(run: RunDirectory) -> dict[str, Predictions]:
    """By split: validation and, if there is one, test. Raises UserError if one cannot be read."""
    files = {name: run.predictions / f"{name}.parquet" for name in KEY_OF_SPLIT}
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
    """`eval_best_model.json` and the summary's row from the stored predictions; the baselines do not change."""
    before, config = read_json(run.evaluation), load_config(run.config)
    results = {name: _result(found, before[KEY_OF_SPLIT[name]]["baselines"]) for name, found in predictions.items()}
    written = evaluation_json(
        results["validation"],
        results.get("test") or before["test"]["missing"],
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
    accuracies = {name: value["missing"] if is_missing(value) else float(value) for name, value in baselines.items()}
    return split_result(
        found.labels, found.probabilities, found.class_names, Baselines(**accuracies), found.temperature
    )


def _update_summary(run: RunDirectory, written: dict[str, Any]) -> None:
    root = run.path.parent.parent
    for row in read_summary(root):
        if (row.config_name, row.run_id) == (run.config_name, run.run_id):
            upsert_row(root, replace(row, val_metrics=headline(written["val"]), test_metrics=headline(written["test"])))


@dataclass(frozen=True)
class ClassThreshold:
    """Predict the class if its calibrated probability is `threshold` or more."""

    class_name: str
    wanted: str
    """`precision` or `recall` …"""
    value: float
    """… and how much of it, in 0 … 1."""
    threshold: float
    splits: dict[str, Operating]
    """Precision and recall on validation, where it was chosen, and on test, if there is one."""
    confidence: float

    def record(self) -> dict[str, Any]:
        """As plain data: the threshold, its target, and the results on each split, with Wilson intervals."""
        splits = {name: operating_record(found, self.confidence) for name, found in self.splits.items()}
        kept = Threshold(self.class_name, self.threshold, self.wanted, self.value)
        return {**stored_threshold(kept), **splits}


def choose_threshold(
    calibrated: Calibrated, class_name: str, wanted: str, value: float, confidence: float
) -> ClassThreshold:
    """Choose the threshold and store it in `model/tenor.json`, where `tenor predict` reads it.

    A model has one threshold; an earlier one, also of another class, is replaced.

    Raises:
        UserError: there is no such class, the validation split has none of its rows, or no threshold reaches the
            precision.
    """
    validation = calibrated.predictions["validation"]
    if class_name not in validation.class_names:
        raise UserError(f"--class {class_name}: the model has the classes {', '.join(validation.class_names)}")
    if not 0 < value <= 1:
        raise UserError(f"--{wanted} {value:g}: expected a share above 0 and up to 1, such as 0.95")
    scores, member = _scores(validation, class_name)
    if not member.any():
        raise UserError(f"--class {class_name}: none of the {len(member):,} validation rows is of this class")
    threshold = _threshold(scores, member, class_name, wanted, value)
    splits = {
        name: at_threshold(*_scores(found, class_name), threshold) for name, found in calibrated.predictions.items()
    }
    chosen = ClassThreshold(class_name, wanted, value, threshold, splits, confidence)
    update_model_notes(calibrated.run.model, threshold=chosen.record())
    update_card(calibrated.run)
    return chosen


def remove_threshold(calibrated: Calibrated) -> Calibrated:
    """Predict the most probable class again."""
    update_model_notes(calibrated.run.model, threshold=None)
    update_card(calibrated.run)
    return replace(calibrated, notes=read_model_notes(calibrated.run.model))


def _scores(found: Predictions, class_name: str) -> tuple[np.ndarray, np.ndarray]:
    k = found.class_names.index(class_name)
    return found.probabilities[:, k], found.labels == k


def _threshold(scores: np.ndarray, member: np.ndarray, class_name: str, wanted: str, value: float) -> float:
    if wanted == "recall":
        return threshold_for_recall(scores, member, value)
    threshold = threshold_for_precision(scores, member, value)
    if threshold is None:
        best = best_precision(scores, member)
        raise UserError(
            f"no threshold gives {class_name} a precision of {value:g} on the {len(member):,} validation rows: the "
            f"highest is {best.precision:.4f}, at {best.threshold:.4f}, with {best.called:,} predicted. Request less"
        )
    return threshold


def calibration_record(found: Calibrated, chosen: ClassThreshold | None = None) -> dict[str, Any]:
    """The calibration as plain data."""
    record = {
        "run": str(found.run.path),
        "temperature": found.notes.total_temperature,
        "folded": found.notes.temperature == 1.0 != found.notes.folded_temperature,
        "changed": found.changed,
        "calibration": {
            name: found.evaluation[key]["calibration"]
            for name, key in KEY_OF_SPLIT.items()
            if name in found.predictions
        },
    }
    if chosen is not None:
        return {**record, "threshold": chosen.record()}
    kept = found.notes.threshold
    return {**record, "threshold": missing_because("none was chosen") if kept is None else stored_threshold(kept)}
