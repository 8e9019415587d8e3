"""Exports of Weights & Biases and stores of MLflow as people keep them: charts one by one, summaries, artifacts."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import classification_report

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.errors import UserError

LOSSES = [0.69, 0.63, 0.58, 0.48, 0.41, 0.33, 0.33, 0.35, 0.18, 0.20, 0.26, 0.29]
HELD_OUT = [0.61, 0.47, 0.36, 0.33, 0.335]
RISING = [0.61, 0.47, 0.56, 0.73, 0.98]
ACCURACY = [0.78, 0.91, 0.89, 0.9, 0.89]
SUMMARY = {"_step": 50, "_runtime": 41.2, "_timestamp": 1740911000.3, "_wandb": {"runtime": 41}}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def found(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnosis.findings}


def chart(path: Path, metric: str, every: int, runs: dict[str, Sequence[float]], axis: str = "Step") -> Path:
    """As the button "Export as CSV" of a chart writes it: each value with the bounds of its bucket."""
    names = [f"{run} - {metric}{bound}" for run in runs for bound in ("", "__MIN", "__MAX")]
    length = max(map(len, runs.values()))
    rows = [
        [every * (at + 1), *(values[at] if at < len(values) else "" for values in runs.values() for _ in range(3))]
        for at in range(length)
    ]
    lines = [[axis, *names], *rows]
    return write(path, "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines) + "\n")


# Charts.


@pytest.mark.parametrize("with_summary", [True, False])
def test_charts_of_one_run_are_joined(with_summary: bool, tmp_path: Path) -> None:
    """Each chart alone has no evaluation, or nothing but one."""
    for name, held_out, expected in (("sound", HELD_OUT, {}), ("overfit", RISING, {"LOS015": "warning"})):
        folder = tmp_path / name
        run = "vivid-lake - 12"
        chart(folder / "wandb_export_1.csv", "train/loss", 4, {run: LOSSES})
        chart(folder / "wandb_export_2.csv", "eval/loss", 10, {run: held_out})
        chart(folder / "wandb_export_3.csv", "eval/accuracy", 10, {run: ACCURACY})
        if with_summary:
            last = {"train/loss": LOSSES[-1], "eval/loss": held_out[-1], "eval/accuracy": ACCURACY[-1]}
            write(folder / "wandb-summary.json", {**SUMMARY, **last})
        diagnosis = diagnose(folder)
        assert found(diagnosis) == expected
        assert {"LOS015", "EVL033"} <= set(diagnosis.checked)
        assert not [note for note in diagnosis.notes if "wandb_export" in note]


def test_charts_of_several_runs_are_joined_by_run(tmp_path: Path) -> None:
    runs = {"sound": HELD_OUT, "overfit": RISING}
    chart(tmp_path / "wandb_export_1.csv", "train/loss", 4, {"sound": LOSSES, "overfit": [0.7, *LOSSES[1:]]})
    chart(tmp_path / "wandb_export_2.csv", "eval/loss", 10, runs)
    artifacts = read_artifacts(tmp_path)
    assert sorted(one.name for one in artifacts) == ["overfit", "sound"]
    assert found(diagnose(tmp_path)) == {"LOS015": "warning"}
    # The summary of one of them says which run the folder is about.
    write(tmp_path / "wandb-summary.json", {**SUMMARY, "train/loss": LOSSES[-1], "eval/loss": HELD_OUT[-1]})
    diagnosis = diagnose(tmp_path)
    assert found(diagnosis) == {}
    assert [note for note in diagnosis.notes if "overfit" in note]


def test_steps_of_different_axes_are_not_compared(tmp_path: Path) -> None:
    """The steps of `wandb.log` and of the optimizer: only the last result of the other chart is known."""
    chart(tmp_path / "1.csv", "train/loss", 4, {"a": LOSSES}, axis="train/global_step")
    chart(tmp_path / "2.csv", "eval/loss", 1, {"a": RISING})
    diagnosis = diagnose(tmp_path)
    assert "LOS015" not in diagnosis.checked
    assert [note for note in diagnosis.notes if "another axis" in note]


def test_an_evaluation_that_is_only_in_the_summary_is_one(tmp_path: Path) -> None:
    chart(tmp_path / "wandb_export_1.csv", "train/loss", 4, {"a": LOSSES})
    summary = {**SUMMARY, "train/loss": LOSSES[-1], "eval/loss": 0.33, "test/accuracy": 0.9}
    write(tmp_path / "wandb-summary.json", summary)
    assert found(diagnose(tmp_path)) == {}
    write(tmp_path / "wandb-summary.json", {**SUMMARY, "train/loss": LOSSES[-1]})
    assert "EVL022" in found(diagnose(tmp_path))


def test_a_chart_of_validation_losses_alone_is_a_course(tmp_path: Path) -> None:
    diagnosis = diagnose(chart(tmp_path / "sound.csv", "eval/loss", 10, {"a": HELD_OUT}))
    assert found(diagnosis) == {}
    assert {"LOS007", "LOS015"} <= set(diagnosis.checked)
    broken = chart(tmp_path / "broken.csv", "eval/loss", 10, {"a": [*HELD_OUT, float("nan")]})
    assert found(diagnose(broken))["LOS007"] == "error"


# Summaries.


@pytest.mark.parametrize("last", ["NaN", "Infinity", "-Infinity"])
def test_words_for_nan_in_a_summary_are_numbers(last: str, tmp_path: Path) -> None:
    """An exported history leaves NaN blank; only the summary says that it was one."""
    header = ",_step,train/loss,train/learning_rate,train/epoch,eval/loss,eval/accuracy"
    rows = [f"{k},{10 * k},{0.69 - 0.05 * k if k < 4 else ''},1e-4,{k // 4},," for k in range(1, 9)]
    validations = [f"9,81,,,2,0.55,{0.72}", "10,82,,,2,,0.5"]
    write(tmp_path / "history.csv", "\n".join([header, *rows, *validations]) + "\n")
    summary = {**SUMMARY, "_step": 82, "train/loss": last, "eval/loss": last, "eval/accuracy": 0.5}
    write(tmp_path / "wandb-summary.json", summary)
    diagnosis = diagnose(tmp_path)
    assert found(diagnosis)["LOS007"] == "error"
    assert diagnosis.causes[0].code == "LOS007"
    (steps,) = [one for run in read_artifacts(tmp_path) for one in run.evidence if isinstance(one, StepEvidence)]
    assert [int(step) for step, loss in zip(steps.steps, steps.loss, strict=True) if not abs(loss) < 9] == [
        *(40, 50, 60, 70, 80, 82)
    ]
    assert [point.step for point in steps.validation_loss] == [81, 82]
    sound = {**summary, "train/loss": 0.54, "eval/loss": 0.55}
    write(tmp_path / "wandb-summary.json", sound)
    assert "LOS007" not in found(diagnose(tmp_path))


# Test splits and artifacts of MLflow.

SWAPPED, RIGHT = [[12, 70], [72, 6]], [[70, 12], [6, 72]]


def mlflow_run(folder: Path, test_accuracy: float | None, artifacts: dict[str, Any], prefix: str = "val") -> Path:
    """A run in a file store whose validations are right in nine of ten rows."""
    run = write(folder / "mlruns" / "1" / "abc" / "meta.yaml", "run_name: a\nstart_time: 1\n").parent
    series = {f"{prefix}_accuracy": ACCURACY, f"{prefix}_loss": HELD_OUT, "train_loss": [0.67, 0.5, 0.4, 0.35, 0.33]}
    if test_accuracy is not None:
        series |= {"test_accuracy": [test_accuracy], "test_loss": [3.16 if test_accuracy < 0.5 else 0.3]}
    for name, values in series.items():
        write(run / "metrics" / name, "".join(f"17958872{k:05} {value} {k}\n" for k, value in enumerate(values)))
    for name, content in artifacts.items():
        write(run / "artifacts" / name, content)
    return folder


def errors_and_warnings(diagnosis: Diagnosis) -> dict[str, str]:
    return {code: severity for code, severity in found(diagnosis).items() if severity != "note"}


@pytest.mark.parametrize("prefix", ["val", "eval", "valid"])
def test_a_test_split_far_below_the_validations_is_told(prefix: str, tmp_path: Path) -> None:
    assert errors_and_warnings(diagnose(mlflow_run(tmp_path / "bad", 0.1125, {}, prefix))) == {"EVL015": "warning"}
    for accuracy in (0.85, None):
        assert found(diagnose(mlflow_run(tmp_path / str(accuracy), accuracy, {}, prefix))) == {}


@pytest.mark.parametrize("program", ["wandb summary", "dvclive", "sacred"])
def test_a_test_split_of_any_tracker_is_compared_with_the_validations(program: str, tmp_path: Path) -> None:
    for test in (0.1125, 0.88):
        folder = tmp_path / str(test)
        series = {"train/loss": [0.67, 0.5, 0.4, 0.35, 0.33], "val/loss": HELD_OUT, "val/acc": ACCURACY}
        if program == "wandb summary":
            lines = [",".join(map(str, row)) for row in zip(range(5), *series.values(), strict=True)]
            write(folder / "history.csv", "\n".join([",".join(["_step", *series]), *lines]) + "\n")
            write(folder / "wandb-summary.json", {**SUMMARY, "val/acc": ACCURACY[-1], "test/acc": test})
        elif program == "dvclive":
            for name, values in {**series, "test/acc": [test]}.items():
                rows = [f"{step}\t{value}" for step, value in enumerate(values)]
                table = "\n".join([f"step\t{name.rpartition('/')[2]}", *rows]) + "\n"
                write(folder / "plots" / "metrics" / f"{name}.tsv", table)
        else:
            every = {**series, "test/acc": [test]}
            metrics = {name: {"steps": list(range(len(one))), "values": one} for name, one in every.items()}
            write(folder / "metrics.json", metrics)
            write(folder / "run.json", {"status": "COMPLETED"})
        assert errors_and_warnings(diagnose(folder)) == ({"EVL015": "warning"} if test < 0.5 else {})


@pytest.mark.parametrize("form", ["matrix", "report", "text"])
def test_results_among_the_artifacts_are_those_of_the_run(form: str, tmp_path: Path) -> None:
    for counts, accuracy in ((SWAPPED, 0.1125), (RIGHT, 0.8875)):
        labels = [k for k in (0, 1) for _ in range(sum(counts[k]))]
        predicted = [j for k in (0, 1) for j in (0, 1) for _ in range(counts[k][j])]
        names: dict[str, Any] = {"target_names": ["bad", "good"]}
        content = {
            "matrix": {"labels": ["bad", "good"], "confusion_matrix": counts},
            "report": classification_report(labels, predicted, output_dict=True, **names),
            "text": classification_report(labels, predicted, digits=4, **names),
        }[form]
        name = f"evaluation/test_results.{'txt' if form == 'text' else 'json'}"
        folder = tmp_path / str(accuracy)
        diagnosis = diagnose(mlflow_run(folder, accuracy, {name: content, "model/MLmodel": "flavors: {}"}))
        assert ("EVL007" in found(diagnosis)) == (counts is SWAPPED)
        assert bool(errors_and_warnings(diagnosis)) == (counts is SWAPPED)
        assert "160 test rows" in diagnosis.conclusion
        assert not [note for note in diagnosis.notes if "test_results" in note]


def test_of_numbered_artifacts_the_last_one_is_the_result(tmp_path: Path) -> None:
    constant = [[0, 80], [0, 80]]
    early = {f"val_confusion_{k}.json": {"confusion_matrix": constant} for k in range(1, 10)}
    sound = {**early, "val_confusion_10.json": {"confusion_matrix": RIGHT}}
    trained = {"train_confusion.json": {"confusion_matrix": constant}}
    assert errors_and_warnings(diagnose(mlflow_run(tmp_path / "sound", 0.88, {**sound, **trained}))) == {}
    faulty = {**sound, "val_confusion_11.json": {"confusion_matrix": constant}}
    assert "EVL001" in found(diagnose(mlflow_run(tmp_path / "faulty", 0.88, faulty)))


def test_swapped_labels_come_before_a_note(tmp_path: Path) -> None:
    """The validation loss rises a little; the test rows number the classes differently."""
    folder = mlflow_run(tmp_path, 0.1125, {"test_confusion.json": {"confusion_matrix": SWAPPED}})
    losses = [0.61, 0.49, 0.37, 0.35, 0.38, 0.39, 0.42, 0.44]
    trained = [0.67, 0.52, 0.35, 0.25, 0.21, 0.18, 0.16, 0.14]
    for name, values in {
        "val_loss": losses,
        "train_loss": trained,
        "val_accuracy": [*ACCURACY, 0.9, 0.89, 0.9],
    }.items():
        lines = "".join(f"17958872{k:05} {value} {k}\n" for k, value in enumerate(values))
        write(folder / "mlruns" / "1" / "abc" / "metrics" / name, lines)
    diagnosis = diagnose(folder)
    assert {"EVL007": "error", "LOS015": "note"}.items() <= found(diagnosis).items()
    assert diagnosis.causes[0].code == "DAT009"


@pytest.mark.parametrize("store", ["mlruns", "mlartifacts"])
def test_artifacts_next_to_a_database_are_read(store: str, tmp_path: Path) -> None:
    series = {"train_loss": [0.67, 0.5, 0.4, 0.35, 0.33], "val_loss": HELD_OUT, "val_accuracy": ACCURACY}
    for name, counts in (("swapped", SWAPPED), ("right", RIGHT)):
        file = write(tmp_path / name / store / "0" / "abc" / "artifacts" / "test_cm.json", {"confusion_matrix": counts})
        with closing(sqlite3.connect(tmp_path / name / "mlflow.db")) as database:
            database.executescript(
                "CREATE TABLE runs (run_uuid, name, start_time, lifecycle_stage);"
                "CREATE TABLE metrics (run_uuid, key, step, value, is_nan, timestamp);"
                "CREATE TABLE params (run_uuid, key, value);"
            )
            database.execute("INSERT INTO runs VALUES ('abc', 'n', 1, 'active')")
            rows = [(key, 50 * k, value, k) for key, values in series.items() for k, value in enumerate(values)]
            database.executemany("INSERT INTO metrics VALUES ('abc', ?, ?, ?, 0, ?)", rows)
            database.commit()
        diagnosis = diagnose(tmp_path / name)
        assert ("EVL007" in found(diagnosis)) == bool(errors_and_warnings(diagnosis)) == (counts is SWAPPED)
        assert not [note for note in diagnosis.notes if file.name in note]


# Tables: `wandb.plot.confusion_matrix`, `wandb.Table`, `mlflow.log_table`.


def counted(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, Any]:
    cells = [[a, b, float(matrix[i][j])] for i, a in enumerate(names) for j, b in enumerate(names)]
    return {"columns": ["Actual", "Predicted", "nPredictions"], "data": cells}


def predicted(matrix: Sequence[Sequence[int]]) -> dict[str, Any]:
    rows = [(i, j) for i, line in enumerate(matrix) for j, count in enumerate(line) for _ in range(count)]
    return {"columns": ["text", "label", "prediction"], "data": [[f"text {k}", i, j] for k, (i, j) in enumerate(rows)]}


@pytest.mark.parametrize("table", [counted(SWAPPED, ["bad", "good"]), predicted(SWAPPED)])
def test_tables_with_columns_and_data_are_results(table: dict[str, Any], tmp_path: Path) -> None:
    assert found(diagnose(write(tmp_path / "test.table.json", table)))["EVL007"] == "error"


def test_the_last_matrix_that_a_run_logged_to_weights_and_biases_is_read(tmp_path: Path) -> None:
    """Each step has its own file, with a digest in its name; the first ones have two swapped classes."""
    run = tmp_path / "run-20260301_101500-abcd1234" / "files"
    write(run / "wandb-summary.json", {**SUMMARY, "train/loss": 0.3, "val/loss": 0.35, "val/accuracy": 0.8875})
    names = [f"conf_mat_table_{step}_{digest * 20}.table.json" for step, digest in ((2, "c"), (10, "0"), (9, "f"))]
    for name, matrix in zip(names, (SWAPPED, RIGHT, SWAPPED), strict=True):
        write(run / "media" / "table" / "val" / name, counted(matrix, ["bad", "good"]))
    diagnosis = diagnose(tmp_path)
    assert found(diagnosis) == {}
    assert "EVL007" in diagnosis.checked
    assert f"of 3 files such as {names[1]}, the last one was read" in diagnosis.notes
    write(run / "media" / "table" / "val" / names[1], counted(SWAPPED, ["bad", "good"]))
    assert found(diagnose(tmp_path))["EVL007"] == "error"


@pytest.mark.parametrize("value", [{"columns": ["a", "a"], "data": []}, {"columns": ["a"], "data": [[1, 2]]}])
def test_tables_that_are_none_are_refused(value: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        diagnose(write(tmp_path / "table.json", value))
