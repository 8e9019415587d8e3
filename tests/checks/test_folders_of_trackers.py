"""Exports of Weights & Biases and stores of MLflow as people keep them: charts one by one, summaries, artifacts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.evidence.training_evidence import StepEvidence

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
