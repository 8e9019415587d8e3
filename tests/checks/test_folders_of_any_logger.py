"""Logs, arrays and tables in forms that many programs write: what is in them is read, and a sound one stays silent."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenor.checks import diagnose
from tenor.checks.diagnosis import Diagnosis
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.errors import UserError

# metrics.jsonl of other programs.

FALLING = [{"step": 20 * k, "train_loss": 0.7 * 0.95**k, "lr": 5e-5 * (1 - k / 31)} for k in range(1, 31)]
VALIDATIONS = [(200, 0.5, 0.8), (400, 0.36, 0.86), (600, 0.33, 0.87)]
OVERFIT = [(200, 0.4, 0.83), (400, 0.9, 0.83), (600, 1.6, 0.83)]


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("is_at_end", [True, False])
@pytest.mark.parametrize(
    "first", [{}, {"args": {"lr": 5e-5, "seed": 1}}, {"step": 0, "val_loss": 0.71, "val_acc": 0.5}]
)
@pytest.mark.parametrize("validations", [VALIDATIONS, OVERFIT])
def test_metrics_jsonl_of_another_program_is_a_history(
    validations: list[tuple[int, float, float]], first: dict[str, Any], is_at_end: bool, tmp_path: Path
) -> None:
    held_out = [{"step": step, "val_loss": loss, "val_acc": accuracy} for step, loss, accuracy in validations]
    records = [*([first] if first else []), *FALLING, *held_out]
    if not is_at_end:
        records.sort(key=lambda record: record.get("step", -1))
    (tmp_path / "metrics.jsonl").write_text(lines(records) + '{"step": 620, "train')
    diagnosis = diagnose(tmp_path)
    assert "JSON Lines" in diagnosis.kind
    assert "600 steps" in diagnosis.conclusion or "step 200" in str(diagnosis.findings)
    assert ("LOS015" in codes(diagnosis)) == (validations is OVERFIT)
    assert diagnose(tmp_path / "metrics.jsonl").findings == diagnosis.findings


def codes(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings}


def problems(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings if finding.severity != "note"}


@pytest.mark.parametrize("broken", ['{"kind": "train"}', "not JSON", '{"step": 1, "kind": 3, "loss": 0.6}'])
def test_a_broken_record_of_tenor_is_refused(broken: str, tmp_path: Path) -> None:
    good = '{"kind": "train", "step": 1, "loss": 0.69}'
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{broken}\n{good}\n")
    with pytest.raises(UserError, match="line 2: is not a record"):
        diagnose(tmp_path)


# Printed logs: settings, results of the test, and the end of a training that was killed.

LOGGER = "2026-03-01 12:00:00,001 - INFO - __main__ - "
SETTINGS = (
    "Namespace(lr=0.01, epochs=30, batch_size=32, scheduler=None)",
    "TrainConfig(epochs=30, lr=0.01, val_loss=0.1)",
    "{'lr': 0.01, 'epochs': 30, 'batch_size': 32}",
    "Num Epochs = 30",
    "learning rate: 0.01",
    "",
)


def epochs_of_log(losses: list[tuple[float, float, float]], before: str, after: str, prefix: str = "") -> str:
    rows = [
        f"Epoch [{epoch}/{len(losses)}] train_loss: {train:.4f} | val_loss: {held_out:.4f} val_acc: {accuracy:.4f}"
        for epoch, (train, held_out, accuracy) in enumerate(losses, start=1)
    ]
    return "\n".join(f"{prefix}{line}" for line in (before, *rows, after)) + "\n"


SOUND = [(0.6 * 0.8**k, 0.55 * 0.87**k + 0.05, min(0.75 + 0.03 * k, 0.9)) for k in range(8)]
MEMORIZED = [(0.6 * 0.5**k, 0.5 - 0.1 * k if k < 3 else 0.3 + 0.12 * (k - 2), 0.85) for k in range(12)]


@pytest.mark.parametrize("prefix", ["", LOGGER, "INFO:root:"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_and_the_test_result_are_no_records(settings: str, prefix: str, tmp_path: Path) -> None:
    for name, losses in (("sound", SOUND), ("memorized", MEMORIZED)):
        log = tmp_path / f"{name}.out"
        log.write_text(epochs_of_log(losses, settings, "Test loss: 0.3000, test accuracy: 0.8600", prefix))
        diagnosis = diagnose(log)
        assert f"{len(losses)} epochs" in diagnosis.conclusion, diagnosis.conclusion
        (overfits,) = [one for one in diagnosis.findings if one.code == "LOS015"] or [None]
        assert (overfits is not None) == (name == "memorized")
        assert overfits is None or "epoch 3" in overfits.observed or "epoch 4" in overfits.observed


@pytest.mark.parametrize("prefix", ["", LOGGER])
@pytest.mark.parametrize(
    "line",
    [
        "Test: loss=0.9120 acc={}",
        "Test loss: 0.912, test accuracy: {}",
        "Test Results | loss: 0.912 | acc: {}",
        "Test set: Average loss: 0.9120, Accuracy: {}",
        "Test results: {{'loss': 0.912, 'accuracy': {}}}",
        "Testing...\nloss 0.912 accuracy {}",
    ],
)
def test_the_last_lines_of_a_log_are_the_test_result(line: str, prefix: str, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    for accuracy, is_far in ((0.52, True), (0.89, False)):
        for shown in (f"{accuracy}", f"{accuracy:.0%}", f"{round(1000 * accuracy)}/1000"):
            if "'" in line and "/" in shown:
                continue
            log.write_text(epochs_of_log(SOUND, "", line.format(shown).replace("\n", f"\n{prefix}"), prefix))
            diagnosis = diagnose(log)
            assert ("EVL015" in problems(diagnosis)) == is_far, (shown, diagnosis.conclusion)
            assert "8 epochs" in diagnosis.conclusion


def test_a_perfect_validation_with_a_poor_test_is_a_warning(tmp_path: Path) -> None:
    losses = [(0.5 * 0.6**k, 0.3 * 0.5**k, min(0.9 + 0.03 * k, 1.0)) for k in range(5)]
    log = tmp_path / "train.log"
    log.write_text(epochs_of_log(losses, "", "Test: loss=0.9120 acc=0.7340"))
    assert "EVL015" in problems(diagnose(log))
    log.write_text(epochs_of_log(losses, "", "Test: loss=0.0900 acc=0.9840"))
    assert not problems(diagnose(log))


KILLS = (
    "slurmstepd: error: *** JOB 1234 ON gpu01 CANCELLED AT 2026-03-01T12:00:00 DUE TO TIME LIMIT ***",
    'Traceback (most recent call last):\n  File "train.py", line 3\nKeyboardInterrupt',
    "Killed",
)


def bars_of_log(steps: int, planned: int, after: str) -> str:
    rows = []
    for step in range(50, steps + 1, 50):
        rows.append(f"{step / planned:4.0%}|███ | {step}/{planned} [00:{step % 60:02d}<10:00,  5.01it/s]")
        epoch, loss = 3 * step / planned, 0.3 + 0.4 * 0.9 ** (step / 50)
        rate = 2e-5 * (1 - step / planned)
        rows.append(f"{{'loss': {loss:.4f}, 'grad_norm': 2.1, 'learning_rate': {rate:.4g}, 'epoch': {epoch:.2f}}}")
    return "\r".join(rows) + f"\n{after}\n"


@pytest.mark.parametrize(
    ("steps", "after", "is_cut"),
    [
        *((1150, kill, True) for kill in (*KILLS, "")),
        (1150, "Early stopping at step 1150", False),
        (1150, "{'train_runtime': 812.0, 'train_loss': 0.4, 'epoch': 1.15}", False),
        (3000, "{'train_runtime': 812.0, 'train_loss': 0.4, 'epoch': 3.0}", False),
        (3000, "", False),
    ],
)
def test_a_bar_that_did_not_reach_its_end_is_told(steps: int, after: str, is_cut: bool, tmp_path: Path) -> None:
    log = tmp_path / "slurm-1234.out"
    log.write_text(bars_of_log(steps, 3000, after))
    found = [one for one in diagnose(tmp_path).findings if one.code == "OPT025"]
    assert bool(found) == is_cut
    assert not found or "1,150 of 3,000" in found[0].observed


@pytest.mark.parametrize(
    ("after", "is_cut"), [*((kill, True) for kill in KILLS), ("", False), ("Early stopping", False)]
)
def test_epochs_that_a_kill_left_out_are_told(after: str, is_cut: bool, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(epochs_of_log(SOUND, "", "").replace("/8]", "/30]") + after + "\n")
    found = [one for one in diagnose(log).findings if one.code == "OPT025"]
    assert bool(found) == is_cut
    assert not found or "the last epoch is 8 of 30" in found[0].observed


# Tables of evaluators, results next to a history, and tables of runs.


def test_scores_of_a_cross_encoder_are_read(tmp_path: Path) -> None:
    rows = [f"{k / 2},{100 * k},{0.7 + 0.01 * k},{0.72 + 0.01 * k},0.71" for k in range(1, 5)]
    name = "CrossEncoderClassificationEvaluator_sent-dev_results.csv"
    (tmp_path / name).write_text("\n".join(["epoch,steps,Macro_F1,Micro_F1,Weighted_F1", *rows]) + "\n")
    for path in (tmp_path, tmp_path / name):
        (run,) = read_artifacts(path)
        (evaluation,) = [one for one in run.evidence if isinstance(one, EvaluationEvidence)]
        assert evaluation.course is not None
        assert [point.value for point in evaluation.course.accuracy] == pytest.approx([0.73, 0.74, 0.75, 0.76])
        assert (evaluation.splits["validation"].accuracy, evaluation.splits["validation"].macro_f1) == (0.76, 0.74)
        assert not diagnose(path).findings


@pytest.mark.parametrize("name", ["test_metrics.json", "test_results.json"])
@pytest.mark.parametrize("accuracy", [0.51, 0.9])
def test_a_test_result_next_to_a_history_is_of_the_same_run(accuracy: float, name: str, tmp_path: Path) -> None:
    rows = [f"{k},{value},{loss},{value - 0.01},{held_out}" for k, (loss, held_out, value) in enumerate(SOUND)]
    (tmp_path / "training.log").write_text("\n".join(["epoch,accuracy,loss,val_accuracy,val_loss", *rows]) + "\n")
    (tmp_path / name).write_text(json.dumps({"accuracy": accuracy, "loss": 0.3}))
    diagnosis = diagnose(tmp_path)
    assert "runs" not in diagnosis.kind
    assert ("EVL015" in problems(diagnosis)) == (accuracy < 0.6)
    assert not any(name in note for note in diagnosis.notes)


# Scores as transformers' pipeline gives them.


def pipeline_rows(is_wrong: bool, names: tuple[str, ...]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for k in range(300):
        label = int(rng.integers(len(names)))
        chosen = label if rng.random() < 0.88 else (label + 1) % len(names)
        chosen = (chosen + 1) % len(names) if is_wrong else chosen
        scores = [0.9 if one == chosen else 0.1 / (len(names) - 1) for one in range(len(names))]
        cell = [{"label": name, "score": score} for name, score in zip(names, scores, strict=True)]
        rows.append({"text": f"row {k}", "gold": names[label], "pred": sorted(cell, key=lambda one: -one["score"])})
    return rows


@pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.csv"])
@pytest.mark.parametrize("names", [("NEGATIVE", "POSITIVE"), ("bad", "fair", "good")])
@pytest.mark.parametrize("column", ["pred", "output"])
def test_the_output_of_a_pipeline_is_read(column: str, names: tuple[str, ...], name: str, tmp_path: Path) -> None:
    for is_wrong in (False, True):
        rows = [{**row, column: row["pred"]} for row in pipeline_rows(is_wrong, names)]
        rows = [{key: one for key, one in row.items() if key != "pred" or column == "pred"} for row in rows]
        file = tmp_path / name
        if name.endswith(".csv"):
            cells = [f'{row["text"]},{row["gold"]},"{row[column]}"' for row in rows]
            file.write_text("\n".join([f"text,gold,{column}", *cells]) + "\n")
        else:
            file.write_text(lines(rows) if name.endswith(".jsonl") else json.dumps(rows))
        (run,) = read_artifacts(file)
        (evaluation,) = run.evidence
        (claims,) = evaluation.splits.values()
        assert claims.probabilities.shape == (300, len(names))
        assert (claims.predicted == claims.probabilities.argmax(axis=1)).all()
        assert ("EVL002" in codes(diagnose(file)) or bool(problems(diagnose(file)))) == is_wrong


@pytest.mark.parametrize("bad", [None, 0, 2])
def test_a_table_of_runs_has_a_run_in_each_row(bad: int | None, tmp_path: Path) -> None:
    rows = ["Name,State,Notes,learning_rate,epochs,train/loss,eval/loss,eval/accuracy,num_labels"]
    for run in range(3):
        result = "0.697,0.694,0.5" if run == bad else "0.22,0.27,0.894"
        rate = 0.005 if run == bad else 2e-5
        rows.append(f'"sweep-{run}",finished,-,{rate},3,{result},2')
    file = tmp_path / "wandb_export_2026-03-01T10_00_00.csv"
    file.write_text("\n".join(rows) + "\n")
    for path in (file, tmp_path):
        runs = read_artifacts(path)
        assert [run.name for run in runs] == ["sweep-0", "sweep-1", "sweep-2"]
        diagnosis = diagnose(path)
        assert bool(problems(diagnosis)) == (bad is not None)
        assert bad is None or all(f"sweep-{bad}" in one.observed for one in diagnosis.findings)


@pytest.mark.parametrize("losses", [[0.6, 0.45, 0.4, 0.38], [0.45, 0.8, 1.3, 1.6]])
def test_what_a_run_printed_is_its_history_next_to_its_last_values(losses: list[float], tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    printed = "".join(
        f"{{'loss': {0.6 * 0.4**k:.4f}, 'learning_rate': 5e-05, 'epoch': {k + 1}.0}}\n"
        f"{{'eval_loss': {loss}, 'eval_accuracy': 0.84, 'epoch': {k + 1}.0}}\n"
        for k, loss in enumerate(losses)
    )
    (files / "output.log").write_text(printed)
    summary = {"_step": 8, "_runtime": 9, "_timestamp": 1.0, "eval/loss": losses[-1], "eval/accuracy": 0.84}
    (files / "wandb-summary.json").write_text(json.dumps(summary))
    diagnosis = diagnose(tmp_path)
    assert ("LOS015" in codes(diagnosis)) == (losses[-1] > 1)
    assert not any(
        "only the last value" in note or ("output.log" in note and "not read" in note) for note in diagnosis.notes
    )
