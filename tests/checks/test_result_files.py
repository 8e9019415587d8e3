"""Results in files of their own: printed reports, bare matrices, lists of classes, predictions without labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report, confusion_matrix

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.diagnosis.printed_logs import log_records, records_of_lines
from tenor.checks.diagnosis.printed_results import printed_results
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.errors import UserError

NAMES = ["very negative", "neutral", "positive"]
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 300)
PREDICTED = np.where(RANDOM.random(300) < 0.8, LABELS, RANDOM.integers(0, 3, 300))
WEAK = np.where(LABELS == 1, np.where(np.arange(300) % 20 == 0, 1, 0), LABELS)
"""Class 1 is hardly ever right."""
COUNTS = confusion_matrix(LABELS, PREDICTED)

IMBALANCED = """\
                     pre       rec       spe        f1       geo       iba       sup

very negative       0.80      0.84      0.91      0.82      0.88      0.76        90
      neutral       0.83      0.92      0.91      0.87      0.91      0.84        95
     positive       0.94      0.82      0.97      0.87      0.89      0.78       115

  avg / total       0.86      0.86      0.93      0.86      0.89      0.79       300
"""
"""As imbalanced-learn 0.14.2 prints it."""
IMBALANCED_JSON = {
    "0": {"pre": 0.8, "rec": 0.84, "spe": 0.91, "f1": 0.82, "geo": 0.88, "iba": 0.76, "sup": 90},
    "1": {"pre": 0.83, "rec": 0.92, "spe": 0.91, "f1": 0.87, "geo": 0.91, "iba": 0.84, "sup": 95},
    "2": {"pre": 0.94, "rec": 0.82, "spe": 0.97, "f1": 0.87, "geo": 0.89, "iba": 0.78, "sup": 115},
    **{"avg_pre": 0.86, "avg_rec": 0.86, "avg_spe": 0.93, "avg_f1": 0.86, "avg_geo": 0.89, "avg_iba": 0.79},
    "total_support": 300,
}
CROSSTAB = """\
Predicted   0    1    2  All
True
0          76   12    2   90
1           4   87    4   95
2          15    6   94  115
All        95  105  100  300
"""
"""As pandas 3.1.1 prints `crosstab(…, margins=True)`."""


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def codes(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnosis.findings}


def claims(path: Path) -> ReportedSplit:
    (artifacts,) = read_artifacts(path)
    evaluation = next(item for item in artifacts.evidence if isinstance(item, EvaluationEvidence))
    (one,) = evaluation.splits.values()
    return one


def report(predicted: np.ndarray, **more: Any) -> Any:
    return classification_report(LABELS, predicted, zero_division=0, **more)


def as_csv(header: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(",".join(map(str, row)) for row in ([header] if header else []) + rows) + "\n"


# Reports.


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("report.txt", lambda p: report(p)),
        ("report.txt", lambda p: report(p, target_names=NAMES, digits=4)),
        ("report.txt", lambda p: f"Test results\n\n{report(p)}\nConfusion matrix:\n{confusion_matrix(LABELS, p)}\n"),
        ("report.json", lambda p: report(p, output_dict=True)),
        ("report.json", lambda p: {"accuracy": float((p == LABELS).mean()), "classification_report": report(p)}),
        ("report.json", lambda p: {"report": json.dumps(report(p, output_dict=True))}),
    ],
)
def test_a_report_is_read_in_every_form_and_a_weak_class_is_found(
    name: str, make: Callable[[np.ndarray], Any], tmp_path: Path
) -> None:
    assert not codes(diagnose(write(tmp_path / name, make(PREDICTED))))
    diagnosis = diagnose(write(tmp_path / name, make(WEAK)))
    assert codes(diagnosis) == {"EVL021": "warning"}
    assert "of 95 rows right" in diagnosis.findings[0].observed
    assert claims(tmp_path / name).n == 300


@pytest.mark.parametrize(("name", "content"), [("report.txt", IMBALANCED), ("report.json", IMBALANCED_JSON)])
def test_a_report_of_imbalanced_learn_is_read(name: str, content: Any, tmp_path: Path) -> None:
    one = claims(write(tmp_path / name, content))
    assert one.n == 300
    assert one.majority_accuracy == pytest.approx(115 / 300)
    assert one.report is not None
    assert [entry["recall"] for key, entry in one.report.items() if "avg" not in key] == [0.84, 0.92, 0.82]  # type: ignore[index]


def test_a_report_as_a_table_of_pandas_is_read(tmp_path: Path) -> None:
    columns = ("precision", "recall", "f1-score", "support")
    entries = report(PREDICTED, output_dict=True)
    accuracy = dict.fromkeys(columns, entries.pop("accuracy"))
    rows = {**entries, "accuracy": accuracy}
    table = as_csv(["", *columns], [[key, *(row[column] for column in columns)] for key, row in rows.items()])
    turned = {column: {key: row[column] for key, row in rows.items()} for column in columns}
    for path in (
        write(tmp_path / "report.csv", table),
        write(tmp_path / "rows.json", rows),
        write(tmp_path / "turned.json", turned),
    ):
        one = claims(path)
        assert (one.n, one.accuracy) == (300, accuracy["recall"])
        assert not codes(diagnose(path))


def test_two_reports_in_one_text_are_two_splits(tmp_path: Path) -> None:
    text = f"Validation\n{report(PREDICTED)}\nTest\n{report(WEAK)}"
    (artifacts,) = read_artifacts(write(tmp_path / "log.txt", text))
    assert list(artifacts.evidence[0].splits) == ["validation", "test"]
    assert "test: accuracy" in diagnose(tmp_path / "log.txt").findings[0].observed


@pytest.mark.parametrize("matrix", [None, COUNTS.tolist(), confusion_matrix(LABELS, PREDICTED, labels=[0, 2]).tolist()])
def test_a_report_of_some_of_the_classes_contradicts_nothing(matrix: Any, tmp_path: Path) -> None:
    part = report(PREDICTED, labels=[0, 2], output_dict=True)
    value = {"report": part, "accuracy": float((PREDICTED == LABELS).mean())}
    diagnosis = diagnose(
        write(tmp_path / "part.json", value if matrix is None else value | {"confusion_matrix": matrix})
    )
    assert not codes(diagnosis)
    assert "some of the classes only" in diagnosis.notes[0]


def test_sorted_keys_of_a_report_do_not_contradict_the_matrix(tmp_path: Path) -> None:
    labels = np.arange(1200) % 12
    predicted = np.where(np.arange(1200) % 7, labels, (labels + 1) % 12)
    value = {
        "report": classification_report(labels, predicted, output_dict=True),
        "confusion_matrix": confusion_matrix(labels, predicted).tolist(),
    }
    path = tmp_path / "sorted.json"
    path.write_text(json.dumps(value, sort_keys=True))
    assert not codes(diagnose(path))


# Matrices.

BODY = COUNTS.tolist()
NAMED = as_csv(["", *NAMES], [[name, *row] for name, row in zip(NAMES, BODY, strict=True)])
TOTALS = as_csv(
    ["true", "0", "1", "2", "All"],
    [[k, *row, sum(row)] for k, row in zip(("0", "1", "2", "All"), [*BODY, COUNTS.sum(axis=0).tolist()], strict=True)],
)
MATRICES: list[tuple[str, Any]] = [
    ("matrix.json", BODY),
    ("matrix.txt", str(COUNTS)),
    ("matrix.txt", f"confusion matrix\n{np.array2string(COUNTS, separator=', ')}\n"),
    ("matrix.txt", "\n".join(" ".join(f"{cell:.18e}" for cell in row) for row in BODY)),  # numpy.savetxt
    ("matrix.txt", CROSSTAB),
    ("matrix.csv", as_csv([], BODY)),
    ("matrix.csv", as_csv(["", "0", "1", "2"], [[k, *row] for k, row in enumerate(BODY)])),
    ("matrix.csv", NAMED),
    ("matrix.csv", as_csv(NAMES, BODY)),
    ("matrix.csv", TOTALS),
    ("matrix.csv", as_csv(["predicted", "0", "1", "2"], [[k, *row] for k, row in enumerate(COUNTS.T.tolist())])),
    ("matrix.tsv", NAMED.replace(",", "\t")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), MATRICES)
def test_a_bare_matrix_is_read_with_its_orientation(name: str, content: Any, tmp_path: Path) -> None:
    one = claims(write(tmp_path / name, content))
    assert np.array_equal(one.confusion, COUNTS)
    assert any("rows of the confusion matrix read as true classes" in note for note in one.notes)


@pytest.mark.parametrize("name", ["matrix.json", "matrix.txt", "matrix.csv"])
def test_a_collapse_in_a_bare_matrix_is_found(name: str, tmp_path: Path) -> None:
    rows = [[500, 0], [500, 0]]
    text = {"json": json.dumps(rows), "txt": "[[500   0]\n [500   0]]", "csv": "500,0\n500,0\n"}[name.split(".")[1]]
    assert "EVL001" in codes(diagnose(write(tmp_path / name, text)))


def test_a_normalized_matrix_is_refused(tmp_path: Path) -> None:
    text = str(confusion_matrix(LABELS, PREDICTED, normalize="true"))
    with pytest.raises(UserError, match="not normalised"):
        diagnose(write(tmp_path / "matrix.txt", text))


@pytest.mark.parametrize("rows", [2, 3])
def test_a_file_of_few_predictions_is_not_a_matrix(rows: int, tmp_path: Path) -> None:
    text = as_csv(["id", "label", "prediction"][3 - rows :] if rows == 2 else ["id", "label", "prediction"],
                  [list(range(rows)) for _ in range(rows)])  # fmt: skip
    (artifacts,) = read_artifacts(write(tmp_path / "predictions.csv", text))
    assert artifacts.kind == "a file of predictions"


@pytest.mark.parametrize("text", ["", "step 10 loss 0.5\nstep 20 loss 0.4\n", "hello\n", "1 2 3\n"])
def test_a_text_without_results_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a classification report"):
        diagnose(write(tmp_path / "log.txt", text))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="01 29.\n[],-eaccuracy:precision", max_size=200))
def test_any_text_is_read_or_left(text: str) -> None:
    for _, value in printed_results(text):
        assert value


# Lists of classes.


def test_lists_of_classes_are_compared_with_the_metrics_next_to_them(tmp_path: Path) -> None:
    value = {"y_true": LABELS.tolist(), "y_pred": PREDICTED.tolist(), "accuracy": float((LABELS == PREDICTED).mean())}
    assert not codes(diagnose(write(tmp_path / "rows.json", value)))
    assert codes(diagnose(write(tmp_path / "rows.json", value | {"accuracy": 0.91}))) == {"EVL011": "error"}
    words = {"labels": [NAMES[k] for k in LABELS], "predictions": [NAMES[k] for k in WEAK]}
    assert codes(diagnose(write(tmp_path / "rows.json", words))) == {"EVL021": "warning"}


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="y_true has 3, y_pred has 2"):
        diagnose(write(tmp_path / "rows.json", {"y_true": [0, 1, 1], "y_pred": [0, 1]}))


@pytest.mark.parametrize("as_words", [False, True])
@pytest.mark.parametrize("key", ["labels", "target_names", "classes"])
def test_a_shorter_list_of_names_names_the_classes(key: str, as_words: bool, tmp_path: Path) -> None:
    turned = (PREDICTED + 1) % 3  # Every class under another name.
    lists = {"y_true": LABELS, "y_pred": turned}
    value = {name: [NAMES[k] if as_words else int(k) for k in rows] for name, rows in lists.items()}
    found = diagnose(write(tmp_path / "rows.json", {key: NAMES, **value}))
    assert "EVL007" in codes(found)
    assert "neutral read as very negative" in next(one for one in found.findings if one.code == "EVL007").observed


def test_an_evaluation_of_one_class_is_reported(tmp_path: Path) -> None:
    for value in ("[[0 0]\n [13 187]]", "[[150 50]\n [0 0]]"):
        assert codes(diagnose(write(tmp_path / "matrix.txt", value))) == {"EVL038": "warning"}
    rows = {"y_true": [1] * 30, "y_pred": [1] * 20 + [0] * 10}
    assert "EVL038" in codes(diagnose(write(tmp_path / "rows.json", rows)))
    healthy = "[[1 0]\n [13 187]]"  # One row of another class is one.
    assert "EVL038" not in codes(diagnose(write(tmp_path / "matrix.txt", healthy)))
    few = {"y_true": [1] * 19, "y_pred": [1] * 18 + [0]}
    assert "EVL038" not in codes(diagnose(write(tmp_path / "rows.json", few)))


@pytest.mark.parametrize("digits", [2, 16])
def test_a_report_without_rows_of_a_class_is_no_collapse(digits: int, tmp_path: Path) -> None:
    """45 of 60 rows are right, and all are positive: the scores equal those of one class for every row of two."""
    for positive, right in ((60, 45), (30, 45)):
        labels = np.arange(60) < positive
        predicted = np.where(np.arange(60) % 4 == 3, ~labels, labels)
        values = classification_report(
            labels, predicted, labels=[False, True], target_names=["bad", "good"], output_dict=True, zero_division=0
        )
        assert round(60 * values["accuracy"]) == right
        rounded = {
            key: {name: round(float(one), digits) for name, one in entry.items()}
            if isinstance(entry, dict)
            else round(float(entry), digits)
            for key, entry in values.items()
        }
        results = {"metric": "accuracy", "accuracy": 0.75, "eval_samples": 60, "report": rounded}
        folder = tmp_path / str(positive)
        (folder / "model").mkdir(parents=True)
        write(folder / "model" / "config_setfit.json", {"normalize_embeddings": False, "labels": None})
        file = write(folder / "eval_results.json", results)
        expected = {"EVL038": "warning"} if positive == 60 else {}
        assert codes(diagnose(file)) == expected
        alone = diagnose(folder)
        assert codes(alone) == expected
        assert "SetFit" in alone.kind
        assert "EVL038" in alone.checked


def test_an_mcc_of_zero_of_rows_of_one_class_is_no_collapse(tmp_path: Path) -> None:
    entries = {"bad": {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 0}}
    for rows in (0, 900):
        entries["bad"]["support"] = rows
        entries["good"] = {"precision": 0.93, "recall": 0.93, "f1-score": 0.93, "support": 901}
        file = write(tmp_path / "results.json", {"report": {**entries, "accuracy": 0.93}, "mcc": 0.0})
        assert set(codes(diagnose(file))) & {"EVL038", "EVL032"} == ({"EVL038"} if rows == 0 else {"EVL032"})


@pytest.mark.parametrize("is_swapped", [True, False])
def test_a_report_next_to_the_metrics_of_a_trainer_is_read(is_swapped: bool, tmp_path: Path) -> None:
    predicted = np.where(LABELS == 1, 1, 2 - LABELS) if is_swapped else PREDICTED
    accuracy = float((predicted == LABELS).mean())
    results = {"eval_accuracy": accuracy, "eval_loss": 0.5, "confusion_matrix": confusion_matrix(LABELS, predicted)}
    write(tmp_path / "eval_results.json", {**results, "confusion_matrix": results["confusion_matrix"].tolist()})
    assert ("EVL007" in codes(diagnose(tmp_path))) == is_swapped


def test_scores_next_to_a_list_of_true_classes_give_the_predictions(tmp_path: Path) -> None:
    scores = np.full((300, 3), 0.1)
    scores[np.arange(300), PREDICTED] = 0.8
    one = claims(write(tmp_path / "rows.json", {"y_true": LABELS.tolist(), "y_prob": scores.tolist()}))
    assert np.array_equal(one.predicted, PREDICTED)


# Predictions without true classes, as `tenor predict` writes them.


def labelled(predicted: list[str], probabilities: list[float]) -> str:
    lines = ["text,prediction,probability,probability_neg,probability_pos,truncated,error"]
    for row, (name, p) in enumerate(zip(predicted, probabilities, strict=True)):
        lines.append(f"film {row},{name},{max(p, 1 - p):.4f},{1 - p:.4f},{p:.4f},false,")
    return "\n".join(lines) + "\n"


def test_predictions_without_true_classes_say_what_can_be_judged(tmp_path: Path) -> None:
    scores = RANDOM.random(400)
    path = write(tmp_path / "labelled.csv", labelled(["pos" if p > 0.5 else "neg" for p in scores], scores.tolist()))
    diagnosis = diagnose(path)
    assert not diagnosis.findings
    assert "accuracy cannot be judged" in diagnosis.notes[0]
    assert "neg" in diagnosis.notes[1]
    assert "%" in diagnosis.notes[1]
    assert "on average" in diagnosis.notes[2]
    assert diagnosis.limits.startswith("Only")
    assert "true classes" in diagnosis.limits
    assert "no problem found" not in diagnosis.conclusion


def test_constant_predictions_are_found_without_true_classes(tmp_path: Path) -> None:
    scores = 0.6 + 0.3 * RANDOM.random(400)
    diagnosis = diagnose(write(tmp_path / "labelled.csv", labelled(["pos"] * 400, scores.tolist())))
    assert codes(diagnosis) == {"EVL023": "warning"}
    equal = diagnose(write(tmp_path / "labelled.csv", labelled(["pos"] * 400, [0.7] * 400)))
    assert codes(equal) == {"EVL014": "error", "EVL023": "warning"}


def test_rows_on_which_tenor_abstained_are_left_out(tmp_path: Path) -> None:
    scores = RANDOM.random(400)
    names = ["" if 0.4 < p < 0.6 else "pos" if p > 0.5 else "neg" for p in scores]
    diagnosis = diagnose(write(tmp_path / "labelled.csv", labelled(names, scores.tolist())))
    assert any(f"{names.count('')} of 400 rows have no prediction" in note for note in diagnosis.notes)


# Tenor's own evaluation, and folders.


def tenor_evaluation(folder: Path, predicted: np.ndarray, recorded: np.ndarray) -> Path:
    """`evaluation.json` and the rows, as `tenor evaluate --output` writes them."""
    result = {
        "n": 300,
        "accuracy": float((recorded == LABELS).mean()),
        "macro_f1": 0.8,
        "loss": 0.5,
        "baselines": {"text": {"missing": "no baseline"}, "majority": 0.4},
        "confusion_matrix": confusion_matrix(LABELS, recorded).tolist(),
        "report": classification_report(LABELS, recorded, output_dict=True),
    }
    folder.mkdir()
    record = {"run": "runs/a", "origin": "x.csv", "split": "test", "class_names": NAMES, "result": result}
    write(folder / "evaluation.json", record | {"checkpoint": {"digest": "0", "step": 3}, "findings": []})
    rows = [[row, *pair] for row, pair in enumerate(zip(LABELS, predicted, strict=True))]
    write(folder / "predictions.csv", as_csv(["id", "label", "prediction"], rows))
    write(folder / "report.html", "<html>")
    return folder


def test_an_evaluation_of_tenor_is_read_alone_and_with_its_rows(tmp_path: Path) -> None:
    folder = tenor_evaluation(tmp_path / "evaluation", PREDICTED, PREDICTED)
    assert claims(folder / "evaluation.json").class_names == tuple(NAMES)
    assert not codes(diagnose(folder / "evaluation.json"))
    diagnosis = diagnose(folder)
    assert not diagnosis.findings
    assert "EVL011" in diagnosis.checked
    assert "no problem found" in diagnosis.conclusion


def test_rows_that_contradict_the_evaluation_in_their_folder_are_found(tmp_path: Path) -> None:
    folder = tenor_evaluation(tmp_path / "evaluation", WEAK, PREDICTED)
    assert codes(diagnose(folder))["EVL011"] == "error"


def test_a_finding_that_tenor_recorded_with_an_evaluation_is_kept(tmp_path: Path) -> None:
    folder = tenor_evaluation(tmp_path / "evaluation", PREDICTED, PREDICTED)
    record = json.loads((folder / "evaluation.json").read_text())
    finding = {"code": "EVL016", "title": "t", "severity": "error", "stage": "evaluation", "observed": "9 rows"}
    record["findings"] = [finding | {"expected": "0", "n": 9, "cause": "c", "fix": "f", "caused_by": [], "allowed": ""}]
    assert "EVL016" in codes(diagnose(write(folder / "evaluation.json", record)))


def test_a_folder_of_several_results_is_read_and_the_rest_is_named(tmp_path: Path) -> None:
    write(tmp_path / "test_report.txt", report(WEAK))
    write(tmp_path / "val_matrix.json", BODY)
    write(tmp_path / "weather.json", {"rain": True})
    diagnosis = diagnose(tmp_path)
    assert codes(diagnosis) == {"EVL021": "warning", "EVL015": "note"}
    assert any("weather.json" in note for note in diagnosis.notes)
    assert "test rows" in diagnosis.conclusion
    assert "validation rows" in diagnosis.conclusion


def test_a_folder_without_any_result_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "weather.json", {"rain": True})
    with pytest.raises(UserError, match="not recognized"):
        diagnose(tmp_path)


# Confusion matrices that leave out classes, and logs.


def test_a_crosstab_without_the_classes_that_are_never_predicted_is_completed(tmp_path: Path) -> None:
    true = pd.Series(["neg"] * 60 + ["neu"] * 70 + ["pos"] * 80, name="true")
    pd.crosstab(true, pd.Series(["neu"] * 210, name="pred")).to_csv(tmp_path / "one.csv")
    assert codes(diagnose(tmp_path / "one.csv"))["EVL001"] == "error"
    right = true.where(np.arange(210) % 10 != 0, "neu")
    pd.crosstab(true, pd.Series(right, name="pred")).to_csv(tmp_path / "fine.csv")
    assert not codes(diagnose(tmp_path / "fine.csv"))


def trained(epochs: int, falls: bool) -> list[tuple[float, float, float]]:
    """Training loss, validation loss and accuracy by epoch."""
    noise = np.random.default_rng(0).normal(0, 0.001, (epochs, 2))
    fall = 0.85 ** np.arange(epochs) if falls else np.ones(epochs)
    return [(0.7 * f + a, 0.7 * f + b, 1 - 0.5 * f) for f, (a, b) in zip(fall, noise, strict=True)]


LOGS = {
    "epochs": "Epoch {e}/12 | Train Loss: {t:.4f} | Val Loss: {v:.4f} | Val Acc: {p:.2f}%\n",
    "keras": "Epoch {e}/12\n22/22 ━━━━ 0s 3ms/step - accuracy: {a:.4f} - loss: {t:.4f} - val_accuracy: {a:.4f} - "
    "val_loss: {v:.4f}\n",
    "rulers": "Epoch {e}/12\n----------\nTrain loss {t:.4f} accuracy {a:.4f}\nVal   loss {v:.4f} accuracy {a:.4f}\n\n",
    "trainer": "{{'loss': '{t:.4f}', 'grad_norm': '0.5', 'learning_rate': '2e-05', 'epoch': '{e}'}}\n"
    "{{'eval_loss': {v:.4f}, 'eval_accuracy': {a:.4f}, 'eval_runtime': 1.2, 'epoch': {e}.0}}\n",
    "logging": "2026-05-01 10:00:01,123 - INFO - epoch {e} train_loss={t:.4f} val_loss={v:.4f} "
    "val_acc={a:.3f} lr=2e-5\n",
    "torchtext": "Epoch: {e:02d} | Epoch Time: 0m 2s\n\tTrain Loss: {t:.4f} | Train Acc: {p:.1f}%\n\t Val. Loss: "
    "{v:.4f} |  Val. Acc: {p:.1f}%\n",
}


@pytest.mark.parametrize("form", LOGS)
def test_a_printed_log_is_read_in_every_usual_form(form: str, tmp_path: Path) -> None:
    for name, falls in (("flat.txt", False), ("fine.log", True)):
        lines = [
            LOGS[form].format(e=epoch, t=t, v=v, a=a, p=100 * a)
            for epoch, (t, v, a) in enumerate(trained(12, falls), start=1)
        ]
        diagnosis = diagnose(write(tmp_path / name, "Using device: cpu\n" + "".join(lines) + "done\n"))
        assert ("LOS006" in codes(diagnosis)) is not falls
        assert not set(codes(diagnosis).values()) & {"error", "warning"} or not falls
        (evidence,) = [one for one in read_artifacts(tmp_path / name)[0].evidence if isinstance(one, StepEvidence)]
        assert np.allclose(evidence.loss, [t for t, *_ in trained(12, falls)], atol=1e-4)
        assert np.allclose(
            [p.value for p in evidence.validation_loss], [v for _, v, _ in trained(12, falls)], atol=1e-4
        )


def test_a_log_and_the_report_below_it_are_read_together(tmp_path: Path) -> None:
    lines = [LOGS["epochs"].format(e=e, t=t, v=v, p=100 * a) for e, (t, v, a) in enumerate(trained(12, False), start=1)]
    text = "".join(lines) + "\n" + classification_report(LABELS, np.zeros_like(LABELS), zero_division=0)
    assert {"EVL001", "LOS006"} <= set(codes(diagnose(write(tmp_path / "output.txt", text))))


@pytest.mark.parametrize("text", ["loss 0.5\naccuracy 0.8\n", "Paris 1.5\nLondon 2.5\nRome 3.5\nBerlin 4.5\n"])
def test_a_text_of_few_metrics_or_of_others_is_no_log(text: str) -> None:
    assert log_records(text) == ([], "")


@given(st.text(alphabet="epochstpldac 0123456789.:=/%|-\n{}'", max_size=400))
def test_any_log_is_read_or_left(text: str) -> None:
    assert all(isinstance(value, float) for record in records_of_lines(text) for value in record.values())
