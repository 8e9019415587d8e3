"""Runs that learned nothing, or whose validation rows mean something else, where the number of classes is unknown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import classification_report

from tenor.checks.catalogue import run_rules
from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.rules.evl_collapse import class_hardly_ever_right
from tenor.checks.rules.evl_courses import scores_of_one_class
from tenor.checks.rules.evl_ranking import label_is_not_argmax
from tenor.checks.rules.opt_recorded import recorded_rate_ends_at_zero


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def found(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnosis.findings}


def history(path: Path, columns: Mapping[str, Sequence[Any]], separator: str = ",", first: str = "epoch") -> Path:
    rows = [[first, *columns], *([k, *cells] for k, cells in enumerate(zip(*columns.values(), strict=True), 1))]
    return write(path, "".join(separator.join(map(str, row)) + "\n" for row in rows))


# Chance without a known number of classes.

FLAT, LOW, WILD = [0.694, 0.6935, 0.694, 0.6932], [0.69, 0.55, 0.42, 0.35], [6.4, 5.6, 5.8, 9.1]
GUESSED, FIVE_STARS, GOOD = [0.532, 0.468, 0.54, 0.52], [0.5, 0.53, 0.55, 0.55], [0.74, 0.81, 0.85, 0.86]


@pytest.mark.parametrize(
    ("accuracy", "validation", "training", "at_chance"),
    [
        (GUESSED, [0.6882, 0.6883, 0.6879, 0.6931], FLAT, True),
        (GUESSED, [3.7, 2.4, 7.1, 5.0], WILD, True),
        (GUESSED, [0.71, 0.9, 1.4, 2.0], LOW, False),  # Memorized, so that something was learned.
        (FIVE_STARS, [1.2, 1.1, 1.05, 1.04], [1.3, 1.1, 1.0, 0.95], False),  # Half of five classes is good.
        (GOOD, [0.5, 0.41, 0.36, 0.34], LOW, False),
    ],
)
def test_two_classes_at_chance_are_recognized_without_their_number(
    accuracy: list[float], validation: list[float], training: list[float], at_chance: bool, tmp_path: Path
) -> None:
    columns = {"train_loss": training, "val_loss": validation, "val_acc": accuracy}
    assert ("EVL020" in found(diagnose(history(tmp_path / "log.csv", columns)))) is at_chance


def test_a_step_with_a_validation_at_each_number_is_an_epoch(tmp_path: Path) -> None:
    """As MLflow's `log_metric(name, value, step=epoch)`: no run has four optimizer steps and four validations."""
    columns = {"train_loss": LOW, "val_loss": [0.6, 0.5, 0.4, 0.36], "val_acc": GOOD}
    diagnosis = diagnose(history(tmp_path / "log.csv", columns, first="step"))
    assert found(diagnosis) == {}
    assert "on 4 epochs" in diagnosis.conclusion


def test_several_validations_of_an_epoch_are_all_read(tmp_path: Path) -> None:
    """sentence-transformers writes -1 for the end of an epoch; the configuration has the number of classes."""
    rows = "0,500,0.333\n0,-1,0.333\n1,500,0.333\n1,-1,0.333\n2,-1,0.333\n"
    name = "CESoftmaxAccuracyEvaluator_dev_results.csv"
    write(tmp_path / name, f"epoch,steps,Accuracy\n{rows}")
    write(tmp_path / "config.json", {"id2label": {"0": "bad", "1": "so so", "2": "good"}})
    diagnosis = diagnose(tmp_path)
    assert found(diagnosis) == {"EVL020": "warning"}
    assert "in all 5 validations" in diagnosis.findings[0].observed
    learned = rows.replace("0.333", "0.7", 1)
    write(tmp_path / "sound" / name, f"epoch,steps,Accuracy\n{learned}")
    assert found(diagnose(tmp_path / "sound")) == {}


def test_reports_next_to_a_training_loss_are_those_of_the_validation(tmp_path: Path) -> None:
    """As Ray's tutorials report them; the rate is in `params.json`."""
    columns = {"loss": [0.53, 0.45, 0.4], "accuracy": [0.75, 0.8, 0.82], "train_loss": [0.61, 0.48, 0.4]}
    history(tmp_path / "sound" / "progress.csv", columns, first="training_iteration")
    assert found(diagnose(tmp_path / "sound")) == {}
    flat = {"loss": [0.6935] * 3, "accuracy": [0.512] * 3, "train_loss": [0.6937, 0.6936, 0.6937]}
    history(tmp_path / "bad" / "progress.csv", flat, first="training_iteration")
    write(tmp_path / "bad" / "params.json", {"lr": 1e-8})
    assert diagnose(tmp_path / "bad").causes[0].code == "OPT006"


# Validation rows that mean something else.


@pytest.mark.parametrize(
    ("accuracy", "training", "below"),
    [
        ([0.21, 0.16, 0.15, 0.15], [0.58, 0.38, 0.28, 0.23], True),
        ([0.21, 0.25, 0.28, 0.29], [2.9, 1.9, 0.9, 0.3], False),  # Overfitted to a few rows of twenty classes.
        ([0.74, 0.81, 0.85, 0.86], [0.58, 0.38, 0.28, 0.23], False),
    ],
)
def test_a_validation_far_below_the_training_from_the_start(
    accuracy: list[float], training: list[float], below: bool, tmp_path: Path
) -> None:
    columns = {"train_loss": training, "valid_loss": [1.4, 1.3, 1.25, 1.2], "accuracy": accuracy}
    diagnosis = diagnose(history(tmp_path / "history.csv", columns))
    assert ("EVL030" in found(diagnosis)) is below
    if below:
        assert diagnosis.causes[0].code == "DAT009"


def test_a_test_at_chance_suggests_other_rows_before_leaks(tmp_path: Path) -> None:
    """Copies of training rows make a validation too good, but no test as bad as chance."""
    results = {"eval_accuracy": 0.91743, "eval_loss": 0.27, "eval_samples": 872, "test_samples": 2000}
    faulty = diagnose(write(tmp_path / "all_results.json", results | {"test_accuracy": 0.501, "test_loss": 1.9}).parent)
    assert found(faulty) == {"EVL015": "warning"}
    assert faulty.causes[0].code in ("EVL017", "EVL025")
    sound = results | {"test_accuracy": 0.905, "test_loss": 0.29}
    assert found(diagnose(write(tmp_path / "sound" / "all_results.json", sound).parent)) == {}


def test_predictions_next_to_the_results_of_a_trainer_are_judged(tmp_path: Path) -> None:
    """run_glue writes `predict_results_TASK.txt`."""
    write(tmp_path / "all_results.json", {"eval_accuracy": 0.6, "eval_loss": 0.66, "eval_samples": 500})
    for name, predicted, expected in (("constant", [1] * 300, {"EVL023": "warning"}), ("sound", [0, 1] * 150, {})):
        folder = tmp_path / name
        write(folder / "all_results.json", {"eval_accuracy": 0.86, "eval_loss": 0.35, "eval_samples": 500})
        rows = "".join(f"{k}\t{one}\n" for k, one in enumerate(predicted))
        write(folder / "predict_results_None.txt", f"index\tprediction\n{rows}")
        diagnosis = diagnose(folder)
        assert found(diagnosis) == expected
        assert not [note for note in diagnosis.notes if "not read" in note]


# Causes.


def test_a_run_on_one_class_is_not_said_to_overfit_first(tmp_path: Path) -> None:
    """Every prediction is the same class from the first validation on; the validation loss rises all the same."""
    log = [{"step": 10 * k, "loss": 0.5 / k**2} for k in range(1, 21)]
    f1 = 2 * 0.427 / 1.427
    scores = {"eval_accuracy": 0.427, "eval_macro_f1": f1 / 2, "eval_f1": f1}
    log += [{"step": 50 * k, "eval_loss": 1.5 + 0.4 * k, **scores} for k in range(1, 5)]
    log.sort(key=lambda one: one["step"])
    state = {"global_step": 200, "max_steps": 200, "log_history": log}
    diagnosis = diagnose(write(tmp_path / "trainer_state.json", state).parent)
    assert {"EVL032", "LOS015"} <= found(diagnosis).keys()
    causes = [cause.code for cause in diagnosis.causes]
    assert causes[0] == "DAT001"
    assert causes.index("LOS015") < 6


def test_a_gradient_of_zero_names_frozen_weights(tmp_path: Path) -> None:
    log: list[dict[str, float]] = [
        {"step": 25 * k, "epoch": k / 10, "loss": 0.70 + 0.004 * (-1) ** k, "grad_norm": 0.0} for k in range(1, 31)
    ]
    log += [{"step": 250 * k, "eval_loss": 0.70214, "eval_accuracy": 0.488} for k in range(1, 4)]
    diagnosis = diagnose(write(tmp_path / "log.jsonl", "".join(json.dumps(one) + "\n" for one in log)))
    assert [cause.code for cause in diagnosis.causes[:2]] == ["FRZ003", "OPT020"]
    assert "gradient norm is 0 in every record" in diagnosis.causes[0].evidence


def test_an_explosion_before_nan_is_told(tmp_path: Path) -> None:
    """Finite losses at first also show that the weights were numbers."""
    for name, before, exploded in (("exploded", [2.3, 48.7, 1904.2], True), ("sudden", [0.69, 0.66, 0.64], False)):
        log = [{"step": 10 * k, "loss": loss} for k, loss in enumerate([*before, *[float("nan")] * 9], 1)]
        diagnosis = diagnose(write(tmp_path / f"{name}.jsonl", "".join(json.dumps(one) + "\n" for one in log)))
        assert ("rose from 2.3 to 1904" in diagnosis.findings[0].observed) is exploded
        assert "PRC005" not in {cause.code for cause in diagnosis.causes}


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        ([0.7528, 0.7471, 0.7537, 0.7479, 0.7479, 0.7510], [0.7311, 0.73109, 0.73108, 0.73107, 0.73106, 0.73105]),
        ([0.693161, 0.693160, 0.693159, 0.693158, 0.693157, 0.693156], [0.6931] * 6),
    ],
)
def test_losses_that_hardly_move_name_a_rate_that_is_too_small(
    training: list[float], validation: list[float], tmp_path: Path
) -> None:
    columns = {"train_loss": training, "valid_loss": validation, "accuracy": [0.493] * 6}
    first = diagnose(history(tmp_path / "history.csv", columns)).causes[0]
    assert first.code == "OPT006"
    assert "hardly change" in first.evidence


def test_a_constant_loss_far_above_that_of_chance_suggests_a_single_output(tmp_path: Path) -> None:
    """Keras' `Dense(1, activation="softmax")` with binary cross-entropy."""
    loss = [8.6248, 8.62479, 8.6248, 8.6248, 8.62479, 8.6248]
    record = {"accuracy": [0.459] * 6, "loss": loss, "val_accuracy": [0.468] * 6, "val_loss": [8.4813] * 6}
    first = diagnose(write(tmp_path / "history.json", record)).causes[0]
    assert first.code == "MOD001"
    assert "sigmoid over one output" in first.fix


def test_predicting_the_most_frequent_class_suggests_imbalance(tmp_path: Path) -> None:
    for share, first in ((0.92, True), (0.5, False)):
        labels = np.arange(2000) >= 2000 * share
        report = classification_report(labels, np.zeros(2000), target_names=["ham", "spam"], zero_division=0)
        causes = diagnose(write(tmp_path / f"{share}.txt", report)).causes
        assert (causes[0].code == "DAT022") is first


# Scores.


def split(**scores: Any) -> EvaluationEvidence:
    return EvaluationEvidence({"validation": ReportedSplit(0, **scores)}, 2)


@pytest.mark.parametrize(
    ("accuracy", "f1", "weak", "never"),
    [(0.97, 0.65, False, False), (0.95, 0.2, True, False), (0.95, 0.0, False, True), (0.88, 0.87, False, False)],
)
def test_the_f1_of_a_rare_class(accuracy: float, f1: float, weak: bool, never: bool) -> None:
    """An F1 of 0.65 at 5% is a good result; one of 0 says that the class was never right."""
    evidence = split(accuracy=accuracy, macro_f1=f1, macro_name="F1")
    assert (class_hardly_ever_right(evidence) is not None) is weak
    finding = scores_of_one_class(evidence)
    assert (finding is not None) is never
    assert finding is None or finding.severity == "warning"


def test_a_costly_threshold_is_a_warning_with_its_price() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    positive = np.clip(0.5 + (labels - 0.5) * 0.5 + rng.normal(0, 0.25, 600), 0.01, 0.99)
    for threshold, severity in ((0.9, "warning"), (0.55, "note")):
        claims = ReportedSplit(
            600,
            labels=labels,
            predicted=(positive > threshold).astype(int),
            probabilities=np.stack([1 - positive, positive], axis=1),
        )
        finding = label_is_not_argmax(EvaluationEvidence({"test": claims}, 2))
        assert finding is not None
        assert finding.severity == severity
        assert f"accuracy {np.mean((positive > threshold) == labels):.4f}" in finding.observed


def test_a_rate_of_zero_in_the_second_half_is_named() -> None:
    def evidence(rates: Sequence[float]) -> StepEvidence:
        steps = 25 * np.arange(1, len(rates) + 1)
        return StepEvidence(steps, np.full(len(rates), 0.4), learning_rate=np.array(rates))

    finding = recorded_rate_ends_at_zero(evidence([3e-5 * (20 - k) / 20 for k in range(20)] + [0.0] * 20))
    assert finding is not None
    assert "last 20 of 40 records, from step 525 on" in finding.observed
    whole = [3e-5 * (40 - k) / 40 for k in range(41)]
    rounded = [round(rate, 5) for rate in whole]
    for sound in (whole, rounded, [3e-5] * 40, [0.0, *whole[:-1]]):
        assert recorded_rate_ends_at_zero(evidence(sound)) is None


def test_reports_of_training_and_test_rows_are_compared(tmp_path: Path) -> None:
    labels = np.arange(1000) % 2
    for name, right, expected in (("sound", 900, {}), ("faulty", 620, {"EVL039": "warning"})):
        for split, count in (("train", 990), ("test", right)):
            predicted = np.where(np.arange(1000) < count, labels, 1 - labels)
            write(tmp_path / name / f"{split}_report.txt", classification_report(labels, predicted, digits=4))
        assert found(diagnose(tmp_path / name)) == expected


# Files.


def test_decimal_commas_and_names_in_another_language(tmp_path: Path) -> None:
    """As Excel saves a table in German; the same numbers with points say the same."""
    columns = {"train_loss": [0.61, 0.43, 0.33, 0.27], "val_loss": [0.52, 0.47, 0.61, 0.86]}
    commas = {name: [str(cell).replace(".", ",") for cell in cells] for name, cells in columns.items()}
    german = diagnose(history(tmp_path / "verlauf.csv", commas, ";", "Epoche"))
    english = diagnose(history(tmp_path / "history.csv", columns))
    assert found(german) == found(english) == {"LOS015": "warning"}
    assert "0.86" in german.findings[0].observed


def test_a_matrix_without_a_split_is_compared_with_the_scores_of_as_many_rows(tmp_path: Path) -> None:
    for name, accuracy, expected in (("sound", 0.866, {}), ("faulty", 0.962, {"EVL010": "error"})):
        write(tmp_path / name / "confusion_matrix.csv", ",neg,pos\nneg,228,32\npos,35,205\n")
        write(tmp_path / name / "test_metrics.json", {"test_accuracy": accuracy, "n": 500})
        assert found(diagnose(tmp_path / name)) == expected


def test_the_new_rule_needs_learning_rates() -> None:
    steps = StepEvidence(np.arange(20), np.full(20, 0.4))
    report = run_rules([steps], "diagnosis", rules=(recorded_rate_ends_at_zero,))
    assert report.not_applicable
