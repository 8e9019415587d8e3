"""What the numbers that a run recorded amount to: chance, weak classes, plans not carried out, and the conclusion."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tenor.checks.catalogue import run_rules
from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit, ValidationCourse
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.checks.finding import CannotTell
from tenor.checks.rules.evl_chance import result_at_chance
from tenor.checks.rules.evl_collapse import class_hardly_ever_right, fitted_but_constant
from tenor.console.diagnosis_text import render


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def codes(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnosis.findings}


def of_numbers(n: int, k: int = 2, **numbers: Any) -> EvaluationEvidence:
    return EvaluationEvidence({"test": ReportedSplit(n, **numbers)}, k)


# Chance.


@pytest.mark.parametrize(
    ("accuracy", "loss", "n", "severity"),
    [
        (0.5, math.log(2), 2000, "error"),
        (0.49, 0.6935, 500, "warning"),
        (1 / 3, math.log(3), 1500, "error"),
        (0.05, math.log(20), 2000, "error"),
        (0.5, math.log(2), 0, "warning"),  # The number of rows is not recorded.
        (0.75, math.log(2), 2000, None),  # It ranks well, and is not confident yet.
        (0.5, 0.6, 2000, None),
        (0.92, 0.25, 2000, None),
    ],
)
def test_accuracy_and_loss_of_chance_are_found_together(
    accuracy: float, loss: float, n: int, severity: str | None
) -> None:
    found = result_at_chance(of_numbers(n, accuracy=accuracy, loss=loss))
    assert (found and (found.severity or result_at_chance.severity)) == severity


@pytest.mark.parametrize("loss", [0.9, math.log(5)])
def test_a_loss_above_that_of_two_classes_needs_their_number(loss: float) -> None:
    """Half right is chance for two classes, and may be the majority of five."""
    with pytest.raises(CannotTell, match="number of classes"):
        result_at_chance(of_numbers(2000, accuracy=0.5, loss=loss))


def course(accuracy: list[float], loss: list[float], every: int = 50, **more: Any) -> EvaluationEvidence:
    """The validations of a run, and its last one as a split."""
    points = [
        tuple(ValidationPoint(every * k, value) for k, value in enumerate(values, 1)) for values in (accuracy, loss)
    ]
    last = ReportedSplit(0, accuracy=accuracy[-1], loss=loss[-1] if loss else None)
    return EvaluationEvidence({"validation": last}, 2, course=ValidationCourse(*points, **more))


ABOVE = [3.8, 1.0, 1.4, 0.9, 1.2]


@pytest.mark.parametrize(
    ("evidence", "is_at_chance"),
    [
        (course([0.5] * 5, ABOVE), True),  # The number of classes is not known.
        (course([0.5, 0.492, 0.508, 0.5, 0.5], ABOVE, n_classes=2), True),
        (course([0.25] * 5, [1.4, 1.6, 1.5, 2.0, 1.7], n_classes=4), True),
        (course([0.62] * 5, ABOVE, n_classes=2), True),  # One class in every row, at its share.
        (course([0.5] * 5, ABOVE, n_classes=2, training_loss=1.1), True),
        (course([0.5] * 5, [], n_classes=2), True),  # No loss was recorded.
        (course([0.5] * 5, ABOVE, every=1, by_epoch=True), True),
        (course([0.5] * 5, ABOVE, every=1), False),  # A trial run of five steps.
        (course([0.5] * 3, ABOVE[:3]), False),
        (course([0.5] * 5, ABOVE, n_classes=2, training_loss=0.1), False),  # It memorizes its training rows.
        (course([0.5, 0.5, 0.5, 0.62, 0.7], [3.8, 1.0, 1.4, 0.8, 0.75], n_classes=2), False),  # It starts late.
        (course([0.5] * 5, [0.7, 0.69, 0.68, 0.67, 0.66], n_classes=2), False),  # The loss falls below ln 2.
        (course([0.50, 0.505, 0.51, 0.507, 0.509], [1.3, 1.2, 1.15, 1.14, 1.16]), False),  # Five classes, half right.
        (course([0.5] * 5, [0.9, math.nan, math.nan, math.nan, math.nan], n_classes=2), False),  # LOS007 reports it.
    ],
)
def test_a_run_whose_validations_are_all_at_chance_is_named(evidence: EvaluationEvidence, is_at_chance: bool) -> None:
    found = run_rules([evidence], "diagnosis", rules=(result_at_chance,)).findings
    assert bool(found) == is_at_chance


def test_chance_is_not_judged_without_a_loss_or_with_few_rows() -> None:
    for numbers in ({"accuracy": 0.5}, {"accuracy": 0.5, "loss": 0.693, "n": 20}, {"loss": 0.693}):
        with pytest.raises(CannotTell):
            result_at_chance(of_numbers(int(numbers.pop("n", 1000)), **numbers))


def test_results_of_a_trainer_alone_show_chance(tmp_path: Path) -> None:
    value = {"eval_accuracy": 1 / 3, "eval_loss": math.log(3), "eval_samples": 1500, "train_loss": 1.0987}
    diagnosis = diagnose(write(tmp_path / "all_results.json", value).parent)
    assert codes(diagnosis)["EVL020"] == "error"
    assert not {"DAT001", "DAT002", "CKP002"} & {cause.code for cause in diagnosis.causes}  # The training loss is high.
    healthy = value | {"eval_accuracy": 0.8, "eval_loss": 0.5, "train_loss": 0.6}
    assert not codes(diagnose(write(tmp_path / "all_results.json", healthy).parent))


# Weak classes.


@pytest.mark.parametrize(
    ("accuracy", "macro_f1", "k", "found"),
    [
        (0.92, 0.65, 3, True),
        (0.95, 0.52, 2, True),
        (0.95, 0.487, 2, False),  # Exactly that of one class for every row: EVL032's.
        (0.92, 0.88, 3, False),
        (0.60, 0.52, 5, False),
        (0.80, 0.62, 20, True),
        (0.80, 0.70, 20, False),
    ],
)
def test_a_macro_f1_far_below_the_accuracy_is_found(accuracy: float, macro_f1: float, k: int, found: bool) -> None:
    assert (class_hardly_ever_right(of_numbers(1000, k, accuracy=accuracy, macro_f1=macro_f1)) is not None) == found


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ([[480, 10, 10], [90, 5, 5], [10, 10, 480]], True),
        ([[480, 10, 10], [50, 50, 0], [10, 10, 480]], False),
        ([[480, 10, 10], [9, 1, 0], [10, 10, 480]], False),  # Ten rows.
        ([[940, 10], [45, 5]], True),
        ([[940, 10], [25, 25]], False),
        ([[950, 0], [50, 0]], False),  # EVL001 judges it.
    ],
)
def test_a_class_that_is_hardly_ever_right_is_found(counts: list[list[int]], found: bool) -> None:
    matrix = np.array(counts)
    evidence = EvaluationEvidence({"test": ReportedSplit(int(matrix.sum()), confusion=matrix)}, len(matrix))
    assert (class_hardly_ever_right(evidence) is not None) == found


@pytest.mark.parametrize("seed", range(20))
def test_the_weakest_of_many_equal_classes_is_not_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 20, 800)
    predicted = np.where(random.random(800) < 0.6, labels, random.integers(0, 20, 800))
    evidence = EvaluationEvidence({"test": ReportedSplit(800, labels=labels, predicted=predicted)}, 20)
    assert class_hardly_ever_right(evidence) is None


@pytest.mark.parametrize("name", ["f1_macro", "macro_f1", "f1-macro", "macro_avg_f1", "Macro F1"])
def test_a_macro_f1_is_recognized_by_its_words(name: str, tmp_path: Path) -> None:
    value = {"test": {"accuracy": 0.92, "n": 100, name: 0.5}}
    assert codes(diagnose(write(tmp_path / "evaluation.json", value))) == {"EVL021": "warning"}
    percent = {"test": {"accuracy": 92.0, "n": 100, name: 50.0}}
    assert codes(diagnose(write(tmp_path / "evaluation.json", percent))) == {"EVL021": "warning"}


# Runs of a Trainer.


def trainer_state(**more: Any) -> dict[str, Any]:
    """A healthy run of three epochs."""
    log: list[dict[str, Any]] = []
    for k in range(30):
        rate = 2e-5 * min((k + 1) / 3, (30 - k) / 27)
        log.append({"step": 10 * (k + 1), "loss": 0.7 * 0.93**k, "learning_rate": rate, "epoch": (k + 1) / 10})
        if k % 10 == 9:
            log.append({"step": 10 * (k + 1), "eval_loss": 0.4 - 0.004 * k, "eval_accuracy": 0.8 + 0.002 * k})
    return {"log_history": log, "global_step": 300, "max_steps": 300, "epoch": 3.0} | more


def test_a_healthy_trainer_run_ends_with_a_sentence_that_says_so(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "trainer_state.json", trainer_state()).parent)
    assert not diagnosis.findings
    assert not diagnosis.limits
    assert "rules checked on 300 steps: no problem found; all 300 planned steps were taken." in diagnosis.conclusion


STOPPED = {"EarlyStoppingCallback": {"args": {"early_stopping_patience": 2}, "attributes": {"early_stopping_patience_counter": 2}}}  # fmt: skip  # noqa: E501


def test_validations_at_chance_are_named_without_a_training_loss(tmp_path: Path) -> None:
    """`logging_steps` above the number of steps: only evaluations are logged."""
    state = trainer_state()
    state["log_history"] = [{"step": 50 * k, "eval_loss": 0.7 + 0.3 / k, "eval_accuracy": 0.5} for k in range(1, 7)]
    assert codes(diagnose(write(tmp_path / "trainer_state.json", state).parent))["EVL020"] == "warning"


@pytest.mark.parametrize(("rate", "is_suspected"), [(2e-5, False), (5e-3, True)])
def test_a_recorded_rate_decides_whether_the_rate_is_suspected(rate: float, is_suspected: bool, tmp_path: Path) -> None:
    state = trainer_state()
    for k, one in enumerate(state["log_history"]):
        one |= {"loss": math.log(2) + 0.002 * (-1) ** k, "learning_rate": rate} if "loss" in one else {}
        one |= {"eval_loss": 0.6931, "eval_accuracy": 0.5} if "eval_loss" in one else {}
    diagnosis = diagnose(write(tmp_path / "trainer_state.json", state).parent)
    assert ("OPT007" in {cause.code for cause in diagnosis.causes}) == is_suspected
    assert (diagnosis.causes[0].code == "OPT007") == is_suspected


@pytest.mark.parametrize(("rate", "first"), [(2e-5, "LOS007"), (30.0, "OPT007")])
def test_a_recorded_rate_that_is_far_too_large_comes_before_the_nan_that_it_explains(
    rate: float, first: str, tmp_path: Path
) -> None:
    state = trainer_state()
    for k, one in enumerate(state["log_history"]):
        one |= {"loss": math.nan if k > 5 else 0.7, "learning_rate": rate} if "loss" in one else {}
    diagnosis = diagnose(write(tmp_path / "trainer_state.json", state).parent)
    assert diagnosis.causes[0].code == first
    assert "LOS007" in {cause.code for cause in diagnosis.causes if cause.status == "confirmed"}
    assert f"begin with {first}" in diagnosis.conclusion


def test_a_suspect_says_what_the_records_lack() -> None:
    causes = diagnose(Path(__file__).parents[1] / "folders" / "trainer_rate_far_too_large").causes
    [settled] = [cause.settled_by for cause in causes if cause.code == "OPT012"]
    assert settled == "a record of the training steps that shows whether gradients were cleared"


def test_epochs_and_records_are_not_called_steps(tmp_path: Path) -> None:
    values = [0.7 * 0.8**k for k in range(7)]
    history = diagnose(write(tmp_path / "history.json", {"loss": values, "val_loss": values}))
    assert "on 7 epochs" in history.conclusion
    rows = "".join(f"{k % 2},{value},{value}\n" for k, value in enumerate(values))
    assert "on 7 records" in diagnose(write(tmp_path / "log.csv", f"step,loss,val_loss\n{rows}")).conclusion


def test_a_trainer_run_that_ended_early_is_named_unless_it_was_stopped(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "trainer_state.json", trainer_state(max_steps=1000)).parent)
    assert codes(diagnosis) == {"OPT025": "warning"}
    assert "the first 300 of 1,000 steps" in diagnosis.conclusion
    assert "resume" in diagnosis.conclusion
    stopped = diagnose(
        write(tmp_path / "trainer_state.json", trainer_state(max_steps=1000, stateful_callbacks=STOPPED)).parent
    )
    assert not stopped.findings
    assert "EarlyStoppingCallback" in stopped.conclusion


def test_a_trainer_run_without_any_evaluation_is_named(tmp_path: Path) -> None:
    state = trainer_state()
    state["log_history"] = [one for one in state["log_history"] if "loss" in one]
    assert codes(diagnose(write(tmp_path / "trainer_state.json", state).parent)) == {"EVL022": "warning"}
    write(tmp_path / "eval_results.json", {"eval_accuracy": 0.9, "eval_samples": 100})
    assert not codes(diagnose(tmp_path))


def test_the_classes_come_from_any_configuration_next_to_the_state(tmp_path: Path) -> None:
    state = trainer_state()
    for k, one in enumerate(state["log_history"]):
        one |= {"loss": math.log(3) + 0.001 * (-1) ** k} if "loss" in one else {}
    write(tmp_path / "trainer_state.json", state)
    assert codes(diagnose(tmp_path))["LOS006"] == "warning"
    write(tmp_path / "checkpoint-300" / "trainer_state.json", state)
    write(tmp_path / "checkpoint-300" / "config.json", {"id2label": {"0": "a", "1": "b", "2": "c"}})
    assert codes(diagnose(tmp_path))["LOS006"] == "error"


def test_a_metric_that_is_no_number_is_told_wherever_it_stands(tmp_path: Path) -> None:
    state = trainer_state()
    state["log_history"][10]["eval_f1"], state["log_history"][-1]["eval_f1"] = math.nan, 0.8
    write(tmp_path / "trainer_state.json", state)
    write(tmp_path / "train_results.json", {"train_loss": math.inf})
    (finding,) = diagnose(tmp_path).findings
    assert "the log: eval_f1 is NaN" in finding.observed
    assert "train_results.json: train_loss is infinite" in finding.observed


# Runs of Tenor.


def tenor_run(folder: Path, status: str, validations: list[tuple[float, float]], epochs: int = 8) -> Path:
    """A run with one validation (loss, accuracy) per epoch of 50 steps."""
    lines: list[dict[str, Any]] = []
    for epoch, (loss, accuracy) in enumerate(validations, start=1):
        for part in range(5):
            k = 5 * (epoch - 1) + part
            row = {"kind": "train", "step": 10 * (k + 1), "loss": 0.7 * 0.9**k, "grad_norm": 1.0}
            lines.append(row | {"learning_rate": 2e-5 * (1 - 10 * k / (50 * epochs))})
        row = {"kind": "validation", "step": 50 * epoch, "epoch": float(epoch), "loss": loss, "accuracy": accuracy}
        lines.append(row | {"macro_f1": accuracy})
    write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write(folder / "manifest.json", {"status": status})
    write(folder / "config.yaml", f"training:\n  epochs: {epochs}\n  select_by: accuracy\n")
    best = max(range(len(validations)), key=lambda k: validations[k][1])
    write(folder / "model" / "tenor.json", {"checkpoint_step": 50 * (best + 1)})
    write(folder / "model" / "model.safetensors", "")
    split = {"n": 1000, "accuracy": max(a for _, a in validations), "confusion_matrix": [[450, 50], [50, 450]]}
    if status == "completed":
        write(folder / "eval_best_model.json", {"val": split, "test": {"missing": "no test split"}})
    return folder


OVERFITTING = [(0.35, 0.85), (0.30, 0.88), (0.33, 0.90), (0.45, 0.89), (0.60, 0.885)]


def test_a_run_of_tenor_that_was_stopped_early_does_not_alarm(tmp_path: Path) -> None:
    diagnosis = diagnose(tenor_run(tmp_path / "run", "completed", OVERFITTING))
    assert codes(diagnosis) == {"LOS015": "note"}
    assert not diagnosis.causes
    assert "the run is complete" in diagnosis.conclusion


def test_an_interrupted_run_of_tenor_says_how_to_resume_it(tmp_path: Path) -> None:
    folder = tenor_run(tmp_path / "run", "interrupted", OVERFITTING[:2])
    diagnosis = diagnose(folder)
    assert not diagnosis.findings
    assert "checked on the first 100 of 400 steps: no problem found" in diagnosis.conclusion
    assert f"resume it with `tenor train --resume {folder}`" in diagnosis.conclusion


# What little says.


def test_a_single_number_is_not_called_sound(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "evaluation.json", {"test": {"accuracy": 0.9, "n": 100}}))
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(render(diagnosis))
    text = " ".join(capture.get().split())
    assert text.index("Only 3 rules could be checked") < text.index("Not checked")
    assert text.endswith("3 rules checked on 100 test rows: too little to say that the result is sound.")
    assert "no problem" not in text


def test_the_files_of_a_folder_that_were_not_read_are_listed_where_little_was_judged(tmp_path: Path) -> None:
    write(tmp_path / "eval_results.json", {"eval_accuracy": 0.9})
    write(tmp_path / "model.safetensors", "")
    write(tmp_path / "notes.md", "")
    diagnosis = diagnose(tmp_path)
    assert diagnosis.limits.startswith("Only")
    assert any("model.safetensors" in note for note in diagnosis.notes)
    assert any("notes.md" in note for note in diagnosis.notes)


def test_every_diagnosis_ends_with_a_sentence_about_each_run(tmp_path: Path) -> None:
    runs = [{"name": name, "status": "failed", "val_metrics": {"accuracy": 0.9, "n": 10}} for name in "ab"]
    diagnosis = diagnose(write(tmp_path / "summary.json", runs))
    assert "a: " in diagnosis.conclusion
    assert "b: " in diagnosis.conclusion


def test_no_rule_needs_more_than_it_is_given() -> None:
    """Records of a healthy run have no finding at the stage of training."""
    report = run_rules([of_numbers(1000, accuracy=0.9, loss=0.3, macro_f1=0.89)], "diagnosis")
    assert not report.findings


# A rate of zero, and one class learned.


def run_of(rates: Any, losses: Any, norms: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"step": 10 * k, "loss": float(loss), "learning_rate": float(rate), "grad_norm": norms, "epoch": k / 10}
        for k, (rate, loss) in enumerate(zip(rates, losses, strict=True), start=1)
    ]


def test_a_rate_of_zero_in_all_records_is_the_cause(tmp_path: Path) -> None:
    flat = math.log(2) + np.random.default_rng(0).normal(0, 0.005, 40)
    path = write(tmp_path / "history.jsonl", "\n".join(map(json.dumps, run_of(np.zeros(40), flat))))
    diagnosis = diagnose(path)
    assert diagnosis.causes[0].code == "OPT026"
    assert diagnosis.causes[0].status == "confirmed"
    assert "LOS006" in diagnosis.causes[0].symptoms


@pytest.mark.parametrize(
    "rates", [np.linspace(2e-5, 0, 40), np.linspace(0, 2e-5, 40), np.r_[np.zeros(39), 1e-9], np.full(40, 2e-5)]
)
def test_a_rate_that_starts_or_ends_at_zero_is_fine(rates: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "history.jsonl", "\n".join(map(json.dumps, run_of(rates, np.linspace(0.7, 0.2, 40)))))
    assert "OPT026" not in codes(diagnose(path))


def test_the_rate_of_a_frozen_group_is_not_that_of_the_run(tmp_path: Path) -> None:
    records = [
        {"step": k, "train_loss": 0.7 * 0.95**k, "lr-AdamW/pg1": 0.0, "lr-AdamW/pg2": 1e-3} for k in range(1, 41)
    ]
    assert not codes(diagnose(write(tmp_path / "history.jsonl", "\n".join(map(json.dumps, records)))))


def test_a_recorded_gradient_rules_out_that_no_parameter_is_trainable(tmp_path: Path) -> None:
    flat = math.log(2) + np.random.default_rng(0).normal(0, 0.005, 40)
    for norm, suspected in ((0.5, False), (0.0, True)):
        path = write(tmp_path / f"{norm}.jsonl", "\n".join(map(json.dumps, run_of(np.full(40, 2e-5), flat, norm))))
        assert ("FRZ003" in {cause.code for cause in diagnose(path).causes}) is suspected


@pytest.mark.parametrize(
    ("training", "accuracies", "losses", "found"),
    [
        (0.01, (0.5, 0.5, 0.5), (1.7, 2.1, 2.2), True),
        (0.01, (0.62, 0.62, 0.62), (1.7, 2.1, 2.2), True),  # The share of the class.
        (0.01, (0.5, 0.51, 0.5), (1.7, 2.1, 2.2), False),  # Overfitted.
        (0.01, (0.9, 0.9, 0.9), (0.9, 0.9, 0.9), False),  # A good model on a few rows.
        (0.01, (0.7, 0.7, 0.7), (0.6, 0.6, 0.6), False),
        (0.68, (0.5, 0.5, 0.5), (0.9, 0.9, 0.9), False),  # EVL020's.
        (math.nan, (0.5, 0.5, 0.5), (1.7, 2.1, 2.2), False),
        (0.01, (0.5, 0.5, 0.5), (1.7, 2.1, math.nan), False),
    ],
)
def test_a_fitted_model_of_one_class_is_found(
    training: float, accuracies: tuple[float, ...], losses: tuple[float, ...], found: bool
) -> None:
    points = [
        tuple(ValidationPoint(100 * k, value) for k, value in enumerate(values, start=1))
        for values in (accuracies, losses)
    ]
    course = ValidationCourse(*points, training_loss=training)
    evidence = EvaluationEvidence({"validation": ReportedSplit(300, accuracy=accuracies[-1])}, 2, course=course)
    assert (fitted_but_constant(evidence) is not None) is found


def test_training_rows_of_one_class_are_suspected_from_a_log_alone(tmp_path: Path) -> None:
    records = [{"epoch": k, "train_loss": 0.3**k, "val_loss": 1.5 + 0.2 * k, "val_acc": 0.5067} for k in range(1, 7)]
    diagnosis = diagnose(write(tmp_path / "history.jsonl", "\n".join(map(json.dumps, records))))
    assert "EVL024" in codes(diagnosis)
    assert {cause.code for cause in diagnosis.causes[:3]} >= {"DAT001", "DAT002"}
