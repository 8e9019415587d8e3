"""What scores without counts show: one class for every row, overfitting in the last values, an accuracy that never
changes, a validation far below chance; each with a sound twin. The files are those that the programs write."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tenor.checks.catalogue import run_rules
from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.rules.evl_chance import result_at_chance
from tenor.checks.rules.evl_courses import (
    far_below_chance,
    final_losses_of_memorized_rows,
    loss_too_low_for_the_accuracy,
    score_never_changes,
    scores_of_one_class,
)
from tenor.checks.rules.evl_measures import one_class_of


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def severities(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnosis.findings}


def points(values: list[float]) -> tuple[ValidationPoint, ...]:
    return tuple(ValidationPoint(epoch, value) for epoch, value in enumerate(values))


def of_course(accuracy: list[float], loss: list[float], **more: Any) -> EvaluationEvidence:
    last = ReportedSplit(0, accuracy=accuracy[-1], loss=loss[-1] if loss else None)
    course = ValidationCourse(points(accuracy), points(loss), by_epoch=True, **more)
    return EvaluationEvidence({"validation": last}, more.get("n_classes") or 2, course=course)


# One class of K.


@pytest.mark.parametrize("digits", [4, 6, None])
@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_accuracy_and_macro_f1_of_one_class_show_the_number_of_classes(k: int, digits: int | None) -> None:
    """Whatever the shares of the classes are; scikit-learn computes the scores."""
    labels = np.random.default_rng(k).choice(k, 400, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    # Four digits of the F1 of a rare class do not determine K.
    for predicted in range(k) if digits != 4 else (k - 1,):
        scores = [
            f(labels, np.full(400, predicted)) for f in (accuracy_score, lambda a, b: f1_score(a, b, average="macro"))
        ]
        share, f1 = (float(one) if digits is None else round(float(one), digits) for one in scores)
        claims = ReportedSplit(400, accuracy=share, macro_f1=f1)
        assert one_class_of(claims) == k
        found = run_rules([EvaluationEvidence({"test": claims}, 2)], "diagnosis", rules=(scores_of_one_class,)).findings
        assert f"one class of {k} for every row" in found[0].observed


def test_models_that_are_right_for_several_classes_have_other_scores() -> None:
    rng = np.random.default_rng(0)
    for number in range(100):
        k = 2 + number % 4
        labels = rng.integers(0, k, 500)
        predicted = np.where(rng.random(500) < rng.uniform(0.3, 0.95), labels, rng.integers(0, k, 500))
        f1 = float(f1_score(labels, predicted, average="macro"))
        share = float(accuracy_score(labels, predicted))
        for name in ("macro F1", "F1"):
            assert one_class_of(ReportedSplit(500, accuracy=share, macro_f1=f1, macro_name=name)) is None


def test_the_f1_of_a_class_that_every_row_is_predicted_as_is_recognized() -> None:
    """As of GLUE's MRPC, where F1 is that of class 1; two rounded numbers do not show it."""
    for share, f1, expected in ((0.6838235294117647, 0.8122270742358079, 1), (0.6838, 0.8122, None)):
        assert one_class_of(ReportedSplit(408, accuracy=share, macro_f1=f1, macro_name="F1")) == expected


ALL_RESULTS = {"epoch": 1.0, "eval_accuracy": 0.2725, "eval_f1": 0.10707269155206287, "eval_loss": 1.4485595226287842}


def test_results_of_a_trainer_alone_name_one_class_of_four(tmp_path: Path) -> None:
    """The file names no number of classes, and the loss is above ln 4, not at it."""
    results = ALL_RESULTS | {"eval_samples": 400, "train_loss": 1.67, "train_samples": 1600}
    diagnosis = diagnose(write(tmp_path / "all_results.json", results).parent)
    assert severities(diagnosis) == {"EVL032": "error", "EVL020": "warning"}
    assert "one class of 4" in diagnosis.findings[0].observed
    assert "EVL020" not in diagnosis.ruled_out
    sound = results | {"eval_accuracy": 0.71, "eval_f1": 0.7032, "eval_loss": 0.81, "train_loss": 0.9}
    assert not severities(diagnose(write(tmp_path / "sound" / "all_results.json", sound).parent))


def test_results_of_a_trainer_alone_name_overfitting(tmp_path: Path) -> None:
    """Its training loss is the mean over the whole training; near 0 only if most of it went over memorized rows."""
    results = {"eval_accuracy": 0.725, "eval_loss": 1.9, "eval_samples": 400, "train_loss": 0.03, "epoch": 40.0}
    assert severities(diagnose(write(tmp_path / "all_results.json", results).parent)) == {"EVL036": "warning"}
    sound = results | {"eval_loss": 0.6, "train_loss": 0.4}
    assert not severities(diagnose(write(tmp_path / "sound" / "all_results.json", sound).parent))


def test_one_class_of_very_skewed_classes_is_a_warning() -> None:
    claims = ReportedSplit(1000, accuracy=0.95, macro_f1=1.9 / 1.95 / 2)
    found = run_rules([EvaluationEvidence({"test": claims}, 2)], "diagnosis", rules=(scores_of_one_class,)).findings
    assert [finding.severity for finding in found] == ["warning"]


@pytest.mark.parametrize(
    ("accuracy", "loss", "more", "is_at_chance"),
    [
        (0.25, 1.5, {"n_classes": 4}, True),
        (0.25, 1.5, {"n_classes": 4, "training_loss": 0.2}, False),  # Overfitted: LOS015 and EVL036 judge it.
        (0.5, 1.5, {"n_classes": 5}, False),
        (0.31, 1.5, {"n_classes": 4}, False),
    ],
)
def test_a_loss_above_that_of_equal_probabilities_is_chance_too(
    accuracy: float, loss: float, more: dict[str, Any], is_at_chance: bool
) -> None:
    found = run_rules([of_course([accuracy], [loss], **more)], "diagnosis", rules=(result_at_chance,)).findings
    assert bool(found) is is_at_chance
    assert all("steps are too large, or the labels are wrong" in finding.cause for finding in found)


# Overfitting in the last values.

SUMMARY = {
    **{"_runtime": 140, "_timestamp": 1795887519.54, "_step": 24, "_wandb": {"runtime": 140}},
    **{"train/epoch": 14, "train/global_step": 98, "train/learning_rate": 1.8e-05, "train/grad_norm": 0.027},
    **{"train/loss": 0.0011, "train_loss": 0.121, "eval/runtime": 1.42, "eval/loss": 1.544, "eval/accuracy": 0.725},
}
CONFIG = (
    "id2label:\n  desc: null\n  value:\n    '0': neg\n    '1': pos\nlearning_rate:\n  desc: null\n  value: 2.0e-05\n"
)


@pytest.mark.parametrize("place", ["", "downloaded", "wandb/run-20261128_173223-abc/files"])
@pytest.mark.parametrize("has_config", [True, False])
def test_overfitting_is_named_in_a_summary_of_wandb(tmp_path: Path, place: str, has_config: bool) -> None:
    file = write(tmp_path / place / "wandb-summary.json", SUMMARY)
    if has_config:
        write(tmp_path / place / "config.yaml", CONFIG)
    run = tmp_path if place.startswith("wandb/") else file.parent
    for path in (run, file, file.parent):
        diagnosis = diagnose(path)
        assert diagnosis.kind == "a Weights & Biases run"
        assert severities(diagnosis) == {"EVL036": "warning"}
        assert diagnosis.causes[0].code == "EVL036"
        assert ("2 classes" if has_config else "up to 5 classes") in diagnosis.causes[0].evidence


def test_a_renamed_summary_is_recognized_and_a_sound_one_has_no_finding(tmp_path: Path) -> None:
    assert severities(diagnose(write(tmp_path / "summary of my run.json", SUMMARY))) == {"EVL036": "warning"}
    sound = SUMMARY | {"train/loss": 0.031, "eval/loss": 0.34, "eval/accuracy": 0.914}
    assert not severities(diagnose(write(tmp_path / "sound" / "wandb-summary.json", sound).parent))


@pytest.mark.parametrize(
    ("trained", "accuracy", "loss", "n_classes", "severity"),
    [
        (0.001, 0.725, 1.544, 2, "warning"),
        (0.001, 0.90, 0.55, 2, "note"),  # Below ln 2.
        (0.02, 0.93, 0.33, 2, None),  # After three epochs on IMDb.
        (0.001, 0.725, 0.62, 2, None),  # It has memorized the rows, but knows how often it is wrong.
        (0.3, 0.725, 1.544, 2, None),  # It has not memorized them.
        (0.001, 0.725, 1.544, 77, None),  # As sure as it is right, among 77 classes.
        (0.001, 0.45, 1.544, 2, None),  # Below chance: the labels differ.
    ],
)
def test_only_a_loss_above_what_the_accuracy_allows_is_overfitting(
    trained: float, accuracy: float, loss: float, n_classes: int, severity: str | None
) -> None:
    evidence = of_course([accuracy], [loss], n_classes=n_classes, training_loss=trained)
    found = run_rules([evidence], "diagnosis", rules=(final_losses_of_memorized_rows,)).findings
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_the_loss_that_an_accuracy_allows_is_reached_by_a_model_that_knows_how_sure_it_is() -> None:
    """A model that gives 0.7 to its class and 0.1 to each other one, and is right for 7 rows of 10."""
    loss = -0.7 * math.log(0.7) - 0.3 * math.log(0.1)
    evidence = of_course([0.7], [1.5 * loss * 1.001], n_classes=4, training_loss=0.0)
    just_below = of_course([0.7], [1.5 * loss * 0.999], n_classes=4, training_loss=0.0)
    rules = (final_losses_of_memorized_rows,)
    assert run_rules([evidence], "diagnosis", rules=rules).findings
    assert not run_rules([just_below], "diagnosis", rules=rules).findings


# An accuracy that never changes.


def csv_logger(path: Path, columns: dict[str, list[float]]) -> Path:
    """As Keras' CSVLogger writes it."""
    rows = [",".join(map(str, (epoch, *row))) for epoch, row in enumerate(zip(*columns.values(), strict=True))]
    return write(path, "\n".join([",".join(("epoch", *columns)), *rows]) + "\n")


FALLING = [0.6930, 0.6915, 0.6929, 0.6878, 0.6831, 0.6737, 0.6610, 0.6385, 0.6064, 0.5701]
HELD_OUT = [0.6928, 0.6917, 0.6898, 0.6873, 0.6837, 0.6767, 0.6655, 0.6515, 0.6307, 0.6116]


def test_a_softmax_over_one_output_is_named(tmp_path: Path) -> None:
    """`Dense(1, activation="softmax")` with binary_crossentropy: the loss falls, and every prediction is 1."""
    columns = {"accuracy": [0.5] * 10, "loss": FALLING, "val_accuracy": [0.5] * 10, "val_loss": HELD_OUT}
    diagnosis = diagnose(csv_logger(tmp_path / "training.log", columns))
    assert severities(diagnosis) == {"EVL033": "warning"}
    assert [cause.code for cause in diagnosis.causes] == ["MOD001"]
    assert "softmax over a single output" in diagnosis.causes[0].evidence
    assert "sigmoid" in diagnosis.causes[0].fix
    learning = [0.5 + 0.02 * epoch for epoch in range(10)]
    sound = columns | {"accuracy": learning, "val_accuracy": learning}
    assert not severities(diagnose(csv_logger(tmp_path / "sound" / "training.log", sound)))


@pytest.mark.parametrize(
    ("validations", "trained", "found"),
    [
        ([0.5] * 5, [0.5] * 5, True),
        ([0.5] * 5, [], False),  # By chance, on a few rows.
        ([0.5] * 5, [0.5, 0.6, 0.7, 0.8, 0.9], False),
        ([0.5] * 8, [], True),
        ([0.9] * 8, [0.9] * 8, False),
        ([0.5] * 4 + [0.51], [0.5] * 5, False),
    ],
)
def test_an_unchanged_accuracy_counts_in_both_splits_or_for_long(
    validations: list[float], trained: list[float], found: bool
) -> None:
    losses = [0.69 - 0.02 * epoch for epoch in range(len(validations))]
    evidence = of_course(validations, losses, training_accuracy=points(trained))
    assert bool(run_rules([evidence], "diagnosis", rules=(score_never_changes,)).findings) is found


# A validation of another class than the training.

SORTED = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0075, 0.2625, 0.425, 0.3975, 0.43, 0.5525]
TRAINED = [0.606, 0.625, 0.625, 0.625, 0.625, 0.625, 0.633, 0.699, 0.769, 0.832, 0.873, 0.898]


@pytest.mark.parametrize(
    ("validations", "trained", "found"),
    [
        (SORTED, TRAINED, True),  # validation_split of rows sorted by label: one class is held out.
        ([*SORTED[:6], 0.7, 0.75, 0.8, 0.82, 0.83, 0.85], TRAINED, False),  # The running means of a batch norm.
        (SORTED, [0.1] * 6 + TRAINED[6:], False),  # Many classes, of which nothing is known yet.
        ([0.55 + 0.02 * epoch for epoch in range(12)], TRAINED, False),
    ],
)
def test_validations_below_chance_count_while_the_training_is_above_it(
    validations: list[float], trained: list[float], found: bool
) -> None:
    evidence = of_course(validations, [0.9] * 12, training_accuracy=points(trained))
    findings = run_rules([evidence], "diagnosis", rules=(far_below_chance,)).findings
    assert bool(findings) is found
    assert all("7 of 12 validations" in finding.observed for finding in findings)


@pytest.mark.parametrize(
    ("loss", "accuracy", "is_impossible"),
    [
        (0.5326, 0.12, True),  # 12 right rows per batch of 16, read as 12%.
        (0.31, 0.88, False),
        (0.09, 0.88, False),  # Right rows that cost nearly nothing, and wrong ones that cost ln 2.
        (0.69, 0.02, False),  # Labels that are swapped, of a model that is not sure.
        (1.38, 0.25, False),
        (0.2, 0.25, True),
    ],
)
def test_wrong_rows_cost_at_least_ln_2(loss: float, accuracy: float, is_impossible: bool) -> None:
    evaluation = EvaluationEvidence({"test": ReportedSplit(500, accuracy=accuracy, loss=loss)}, 2)
    assert (loss_too_low_for_the_accuracy(evaluation) is not None) == is_impossible


def test_no_model_has_a_loss_below_the_bound() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 3, 7):
        logits, labels = 3 * rng.normal(size=(400, k)), rng.integers(0, k, 400)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = float(-np.log(p[np.arange(400), labels]).mean())
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        evaluation = EvaluationEvidence({"test": ReportedSplit(400, accuracy=accuracy, loss=loss)}, k)
        assert loss_too_low_for_the_accuracy(evaluation) is None


def test_right_rows_divided_by_batches_are_no_percent(tmp_path: Path) -> None:
    history = {"train_acc": [11.9, 12.9], "train_loss": [0.56, 0.41], "val_acc": [12.0, 12.2], "val_loss": [0.53, 0.6]}
    wrong = diagnose(write(tmp_path / "wrong.json", history))
    assert "EVL037" in {finding.code for finding in wrong.findings}
    shares = {name: [v / 16 if "acc" in name else v for v in values] for name, values in history.items()}
    right = diagnose(write(tmp_path / "right.json", shares))
    assert "EVL037" not in {finding.code for finding in right.findings}
