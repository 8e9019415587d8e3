"""A completed run's probabilities calibrated, and a threshold chosen, from its stored predictions."""

from dataclasses import asdict, dataclass, replace
from math import isclose
from typing import Any

import numpy as np

from tenor.config.loading import load_config
from tenor.errors import UserError
from tenor.evaluation.model_card import CARD, with_probabilities
from tenor.evaluation.results import Baselines, SplitResult, evaluation_json, split_result
from tenor.inference.source import saved_model
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
from tenor.runs.best_evaluation import (
    KEY_OF_SPLIT,
    BestEvaluation,
    CalibrationNumbers,
    SplitNumbers,
    read_evaluation,
    write_evaluation,
)
from tenor.runs.directory import RunDirectory
from tenor.runs.files import digest_folder, write_text
from tenor.runs.manifest import update_manifest
from tenor.runs.missing import Missing, missing_because
from tenor.runs.model_notes import (
    ModelNotes,
    Threshold,
    read_model_notes,
    read_notes_alone,
    stored_threshold,
    update_model_notes,
)
from tenor.runs.predictions import Predictions, read_predictions, write_predictions
from tenor.runs.summary import read_summary, upsert_row
from tenor.workflows.evaluate import operating_record
from tenor.workflows.outcome import fold_into_model, headline

NO_BASELINE = "the evaluation did not record it"
NO_TEST_PREDICTIONS = "the predictions of the test rows are missing"


@dataclass(frozen=True)
class Calibrated:
    """A run after `calibrate`."""

    run: RunDirectory
    notes: ModelNotes
    predictions: dict[str, Predictions]
    """By split: validation and, if there is one, test."""
    evaluation: BestEvaluation
    changed: bool
    """Whether this call changed the temperature."""
    dropped: Threshold | None = None
    """The threshold that was removed, because it was chosen for other probabilities."""

    @property
    def calibration(self) -> dict[str, CalibrationNumbers]:
        """By split."""
        numbers = {name: self.evaluation.splits[name] for name in self.predictions}
        return {
            name: one.calibration
            for name, one in numbers.items()
            if isinstance(one, SplitNumbers) and one.calibration is not None
        }


def calibrate(run: RunDirectory) -> Calibrated:
    """Fit the temperature on the run's validation rows and update model notes, predictions and results.

    A hybrid is left as it is: fitting its weights calibrated it.

    A run does this at its end, so that this changes nothing; it is for runs of earlier versions.

    Raises:
        UserError: there is no saved model, there are no predictions, or the model was changed.
    """
    notes = read_model_notes(saved_model(run))
    predictions = read_run_predictions(run)
    if notes.hybrid is not None:
        return Calibrated(run, notes, predictions, read_evaluation(run.evaluation), changed=False)
    validation = predictions["validation"]
    logits = log_probabilities(validation.probabilities) * validation.temperature
    temperature = choose_temperature(logits, validation.labels)
    stored = (notes.total_temperature, *(rows.temperature for rows in predictions.values()))
    changed = not all(isclose(one, temperature, rel_tol=1e-4) for one in stored)
    if changed:
        predictions = {name: _rewrite(run, name, rows, temperature) for name, rows in predictions.items()}
        update_model_notes(run.model, temperature=temperature / notes.folded_temperature, threshold=None)
    evaluation = read_evaluation(run.evaluation)
    if changed or isinstance(evaluation.val, Missing) or evaluation.val.calibration is None:
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
        write_text(card, with_probabilities(card.read_text(encoding="utf-8"), read_notes_alone(run.model)))
    update_manifest(run, digests={"model": digest_folder(run.model)})


def read_run_predictions(run: RunDirectory) -> dict[str, Predictions]:
    """By split: validation and, if there is one, test. Raises UserError if one cannot be read."""
    files = {name: run.predictions / f"{name}.parquet" for name in KEY_OF_SPLIT}
    return {name: read_predictions(file) for name, file in files.items() if name == "validation" or file.is_file()}


def _rewrite(run: RunDirectory, name: str, predictions: Predictions, temperature: float) -> Predictions:
    probabilities = with_temperature(predictions.probabilities, predictions.temperature, temperature)
    path = run.predictions / f"{name}.parquet"
    write_predictions(
        path,
        predictions.ids,
        predictions.labels,
        probabilities,
        predictions.class_names,
        temperature=temperature,
        lengths=predictions.lengths,
    )
    return read_predictions(path)


def _measure_again(run: RunDirectory, predictions: dict[str, Predictions]) -> BestEvaluation:
    """`eval_best_model.json` and the summary's row from the stored predictions; the baselines do not change."""
    before, config = read_evaluation(run.evaluation), load_config(run.config)
    results = {name: _result(rows, before.splits[name]) for name, rows in predictions.items()}
    written = evaluation_json(
        results["validation"],
        results.get("test") or (before.test.reason if isinstance(before.test, Missing) else NO_TEST_PREDICTIONS),
        before.checkpoint.digest,
        before.checkpoint.step,
        before.class_names,
        config.evaluation.confidence,
        config.seed,
    )
    decision = {} if before.hybrid is None else {"hybrid": asdict(before.hybrid)}
    evaluation = write_evaluation(run.evaluation, {**written, **decision})
    _update_summary(run, written)
    return evaluation


def _result(rows: Predictions, before: SplitNumbers | Missing) -> SplitResult:
    stored = {} if isinstance(before, Missing) else before.baselines
    accuracies = {name: value["missing"] if isinstance(value, dict) else float(value) for name, value in stored.items()}
    baselines = Baselines(**{"majority": NO_BASELINE, "text": NO_BASELINE, **accuracies})
    return split_result(rows.labels, rows.probabilities, rows.class_names, baselines, rows.temperature)


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
        splits = {name: operating_record(operating, self.confidence) for name, operating in self.splits.items()}
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
        name: at_threshold(*_scores(rows, class_name), threshold) for name, rows in calibrated.predictions.items()
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


def _scores(rows: Predictions, class_name: str) -> tuple[np.ndarray, np.ndarray]:
    k = rows.class_names.index(class_name)
    return rows.probabilities[:, k], rows.labels == k


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


def calibration_record(calibrated: Calibrated, chosen: ClassThreshold | None = None) -> dict[str, Any]:
    """The calibration as plain data."""
    record = {
        "run": str(calibrated.run.path),
        "temperature": calibrated.notes.total_temperature,
        "folded": calibrated.notes.temperature == 1.0 != calibrated.notes.folded_temperature,
        "changed": calibrated.changed,
        "calibration": {name: asdict(numbers) for name, numbers in calibrated.calibration.items()},
    }
    if chosen is not None:
        return {**record, "threshold": chosen.record()}
    kept = calibrated.notes.threshold
    return {**record, "threshold": missing_because("none was chosen") if kept is None else stored_threshold(kept)}
