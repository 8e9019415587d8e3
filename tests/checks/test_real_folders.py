"""Run folders that other programs wrote (`tests/folders/`, made by `tests/real_folders.py`): the sound runs have no
finding, the faulty ones have the one that is named here."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.console.diagnosis_text import render
from tenor.errors import UserError
from tenor.runs.findings import Finding

FOLDERS = Path(__file__).parents[1] / "folders"
HEALTHY = {
    "wandb_healthy": "a Weights & Biases run",
    "mlflow_healthy": "an MLflow run",
    "mlflow_healthy_files": "an MLflow run",
    "lightning_healthy": "a run of Lightning",
    "lightning_tensorboard": "a run of Lightning",
    "keras_healthy": "TensorBoard event files",
    "keras_healthy/history.json": "a training history (JSON with a list per metric)",
    "keras_healthy/csv/training.log": "a training history (a table)",
    "simpletransformers_healthy": "the output of simpletransformers",
    "setfit_healthy": "the output of SetFit",
    "trainer_healthy": "the output of transformers.Trainer",
}
FAULTY = {
    "wandb_not_a_number": "LOS007",
    "mlflow_flat": "LOS006",
    "lightning_overfitting": "LOS015",
    "keras_at_chance/history.json": "LOS006",
    "keras_at_chance/csv": "LOS006",
    "keras_overfitting": "LOS015",
    "simpletransformers_one_class": "EVL001",
    "setfit_not_a_number": "LOS007",
    "trainer_rate_too_large": "EVL020",
    "trainer_rate_far_too_large": "EVL020",
}


def found(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings if finding.severity != "note"}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_sound_run_has_no_finding_and_its_kind_is_named(name: str) -> None:
    diagnosis = diagnose(FOLDERS / name)
    assert diagnosis.kind == HEALTHY[name]
    assert not found(diagnosis)
    assert diagnosis.checked


@pytest.mark.parametrize("name", FAULTY)
def test_the_fault_of_a_run_is_named(name: str) -> None:
    assert FAULTY[name] in found(diagnose(FOLDERS / name))


@pytest.mark.parametrize("name", ["trainer_rate_too_large", "trainer_rate_far_too_large"])
def test_a_recorded_rate_that_is_far_too_large_is_the_first_suspect(name: str) -> None:
    """The weights moved, so faults that keep them are no suspects; the training loss never came below ln K."""
    diagnosis = diagnose(FOLDERS / name)
    assert diagnosis.causes[0].code == "OPT007"
    assert "recorded learning rate" in diagnosis.causes[0].evidence
    assert not {"FRZ003", "OPT020", "OPT021"} & {cause.code for cause in diagnosis.causes}
    assert "LOS015" not in {finding.code for finding in diagnosis.findings}


@pytest.mark.parametrize("name", ["mlflow_flat", "keras_at_chance/history.json", "simpletransformers_one_class"])
def test_weights_that_do_not_move_are_suspected_first(name: str) -> None:
    """These were made with a rate of almost 0: the validation loss is the same to many digits."""
    first = diagnose(FOLDERS / name).causes[0]
    assert first.status == "suspected"
    assert "hardly change" in first.evidence


def test_a_symptom_without_a_cause_says_what_to_do() -> None:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(render(diagnose(FOLDERS / "trainer_rate_far_too_large")))
    assert capture.get().count("fix: ") == 3  # Of the suspects that are printed in full.
    finding = Finding(
        observed="a wrong label",
        expected="none",
        n=1,
        cause="mislabelled",
        fix="correct the label",
        code="EVL021",
        severity="warning",
    )
    diagnosis = Diagnosis("run", "a run", (finding,), (finding,), (), (), ())
    with console.capture() as capture:
        console.print(render(diagnosis))
    assert "fix: correct the label" in capture.get()


@pytest.mark.parametrize("name", HEALTHY)
def test_step_records_and_validations_are_read(name: str) -> None:
    """The losses fall in all of these runs, and the validations are those of the same run."""
    [run] = read_artifacts(FOLDERS / name)
    steps = next(one for one in run.evidence if isinstance(one, StepEvidence))
    assert len(steps.loss) >= 4
    assert steps.loss[-1] < steps.loss[0]
    assert steps.validation_loss or name in ("setfit_healthy",)
    assert {point.step for point in steps.validation_loss} <= set(range(int(steps.steps[-1]) + 2))


def test_both_stores_of_mlflow_give_the_same_evidence() -> None:
    """The same loop with the same seed, logged to the database and to files."""
    [[database], [files]] = [read_artifacts(FOLDERS / name) for name in ("mlflow_healthy", "mlflow_healthy_files")]
    first, second = database.evidence[0], files.evidence[0]
    assert list(first.loss) == list(second.loss)
    assert first.validation_loss == second.validation_loss
    assert (first.n_classes, second.n_classes) == (2, 2)
    assert database.settings == files.settings == {"learning_rate": 0.1, "num_labels": 2}


def test_weights_and_biases_and_mlflow_record_the_same_run() -> None:
    """The record of Weights & Biases is binary; the text of MLflow shows that it is decoded right."""
    [[wandb], [files]] = [read_artifacts(FOLDERS / name) for name in ("wandb_healthy", "mlflow_healthy_files")]
    assert list(wandb.evidence[0].steps) == list(files.evidence[0].steps)
    assert wandb.evidence[0].loss == pytest.approx(files.evidence[0].loss, abs=1e-6)
    assert wandb.settings["optimizer"] == {"kind": "SGD"}


def test_the_forms_of_a_keras_history_agree() -> None:
    """JSON, CSVLogger and the event files of one run; Keras counts epochs from 0 in the last two."""
    names = ("history.json", "csv/training.log", "logs")
    runs = [read_artifacts(FOLDERS / "keras_healthy" / name)[0].evidence[0] for name in names]
    for run in runs[1:]:
        assert run.loss == pytest.approx(runs[0].loss, abs=1e-6)
        assert [point.value for point in run.validation_loss] == pytest.approx(
            [point.value for point in runs[0].validation_loss], abs=1e-6
        )
        assert run.epochs == runs[0].epochs == 8


def test_train_and_validation_folders_are_one_run_with_two_splits() -> None:
    [run] = read_artifacts(FOLDERS / "keras_overfitting")
    assert [type(one) for one in run.evidence] == [StepEvidence, CheckpointEvidence, EvaluationEvidence]
    assert len(run.evidence[0].validation_loss) == len(run.evidence[0].loss) == 40


def test_the_counts_of_simpletransformers_are_a_confusion_matrix() -> None:
    [run] = read_artifacts(FOLDERS / "simpletransformers_one_class")
    evaluation = next(one for one in run.evidence if isinstance(one, EvaluationEvidence))
    matrix = evaluation.splits["validation"].confusion
    assert matrix is not None
    assert matrix.sum() == 200
    assert (matrix.sum(axis=0) == 0).any()


def test_a_result_at_chance_without_a_recorded_accuracy_is_named(tmp_path: Path) -> None:
    """simpletransformers records no accuracy with a sliding window, only the counts."""
    (tmp_path / "eval_results.txt").write_text("eval_loss = 0.6931\nfn = 50\nfp = 50\ntn = 50\ntp = 50\n")
    assert "EVL020" in found(diagnose(tmp_path / "eval_results.txt"))


def test_results_of_trainer_alone_are_read() -> None:
    for name in ("", "all_results.json", "eval_results.json", "train_results.json"):
        diagnosis = diagnose(FOLDERS / "trainer_results_alone" / name)
        assert not found(diagnosis)
        assert diagnosis.checked


@pytest.mark.parametrize("name", ["sentence_transformers"])
def test_evaluations_of_sentence_transformers_are_validations(name: str) -> None:
    [run] = read_artifacts(FOLDERS / name)
    [validations] = [one for one in run.evidence if isinstance(one, CheckpointEvidence)]
    assert [point.step for point in validations.validations] == [1, 2, 3]


def test_a_file_that_is_not_read_is_named_with_the_reason(tmp_path: Path) -> None:
    shutil.copytree(FOLDERS / "lightning_healthy", tmp_path / "run")
    version = tmp_path / "run" / "lightning_logs" / "version_0"
    (version / "last.ckpt").write_bytes(b"")
    (version / "my_numbers.xyz").write_text("1")
    notes = "\n".join(diagnose(tmp_path / "run").notes)
    assert "not read (pickles, which are never opened): lightning_logs/version_0/last.ckpt" in notes
    assert "my_numbers.xyz" in notes


def test_records_of_other_programs_and_broken_files_are_told_apart(tmp_path: Path) -> None:
    shutil.copytree(FOLDERS / "keras_healthy", tmp_path / "run")
    (tmp_path / "run" / "empty.csv").write_text("")
    (tmp_path / "run" / "broken.json").write_text('{"loss": [')
    notes = "\n".join(diagnose(tmp_path / "run").notes)
    assert "not read (another record of training, which can be given alone): history.json, csv/training.log" in notes
    assert "not read (empty): empty.csv" in notes
    assert "not read (not valid JSON): broken.json" in notes


def test_every_reader_names_the_files_that_it_did_not_read(tmp_path: Path) -> None:
    """A note for each file that was put there, and none for what belongs to the run."""
    (tmp_path / "printed").mkdir()
    (tmp_path / "printed" / "report.txt").write_text("[[40 10]\n [10 40]]\n")
    (tmp_path / "tenor" / "checkpoints" / "step-000010").mkdir(parents=True)
    (tmp_path / "tenor" / "checkpoints" / "step-000010" / "state.json").write_text("{}")
    (tmp_path / "tenor" / "manifest.json").write_text('{"status": "completed"}')
    (tmp_path / "tenor" / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 0.5}\n')
    for name in ("printed", "tenor"):
        assert not any(note.startswith("not read") for note in diagnose(tmp_path / name).notes)
        (tmp_path / name / "my.xyz").write_text("1")
        (tmp_path / name / "old" / "checkpoint-5").mkdir(parents=True)
        (tmp_path / name / "old" / "checkpoint-5" / "config.json").write_text("{}")
        notes = "\n".join(diagnose(tmp_path / name).notes)
        assert "my.xyz" in notes
        assert "not read (checkpoints, each of which can be given alone): old/checkpoint-5" in notes


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("config.json", "model.safetensors"), "tenor predict"),
        (("config.json", "pytorch_model.bin"), "a pickle file"),
        (("adapter_config.json", "adapter_model.safetensors"), "an adapter of PEFT"),
        (("model.joblib",), "a pickle (as of scikit-learn)"),
        (("model.keras",), "a model of Keras"),
        (("inner/config.json", "inner/model.safetensors"), "inner --input ROWS.csv"),
    ],
)
def test_a_model_alone_is_named_with_the_way_to_its_predictions(
    files: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="nothing to diagnose") as raised:
        diagnose(tmp_path)
    assert said in str(raised.value)
    weights = tmp_path / files[-1]
    with pytest.raises(UserError, match="nothing to diagnose"):
        diagnose(weights)


@pytest.mark.parametrize("size", [0, 3, 100, 5000, 20000])
def test_a_record_of_a_killed_run_is_read_as_far_as_it_goes(size: int, tmp_path: Path) -> None:
    [whole] = (FOLDERS / "wandb_healthy").rglob("*.wandb")
    cut = tmp_path / "wandb" / whole.parent.name / whole.name
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole.read_bytes()[:size])
    if size < 5000:
        with pytest.raises(UserError, match="Export the history"):
            diagnose(tmp_path)
    else:
        [run] = read_artifacts(tmp_path)
        assert 0 < len(run.evidence[0].loss) < 60 or size == 20000


def test_a_broken_entry_of_a_record_ends_what_is_read(tmp_path: Path) -> None:
    """An entry whose history is a number: the field's type is not that of the format."""
    [whole] = (FOLDERS / "wandb_healthy").rglob("*.wandb")
    content = whole.read_bytes()
    entry = b"\x10\x05"
    broken = content[:7] + b"\0\0\0\0" + len(entry).to_bytes(2, "little") + b"\x01" + entry
    (tmp_path / "run-a.wandb").write_bytes(broken + content[7:])
    with pytest.raises(UserError, match="no loss or accuracy"):
        diagnose(tmp_path / "run-a.wandb")


def test_exported_charts_of_weights_and_biases_are_read(tmp_path: Path) -> None:
    """The columns are named after run and metric, with the bounds of what was smoothed."""
    rows = [f'"{k}","{0.7 * math.exp(-k / 50)}","0","1","{0.69}","0","1"' for k in range(0, 100, 2)]
    header = ",".join(
        f'"{name}"'
        for name in ("Step", *(f"{run} - train/loss{bound}" for run in "ab" for bound in ("", "__MIN", "__MAX")))
    )
    (tmp_path / "wandb_export.csv").write_text("\n".join((header, *rows)))
    first, second = read_artifacts(tmp_path / "wandb_export.csv")
    assert (first.name, second.name) == ("a", "b")
    assert first.evidence[0].loss[0] == 0.7
    assert set(second.evidence[0].loss) == {0.69}


def test_a_summary_and_an_exported_history_of_weights_and_biases_are_read(tmp_path: Path) -> None:
    """What a synced run has on the disk: the last values, and the configuration with `value` at each key."""
    files = tmp_path / "wandb" / "run-20260101_000000-abc" / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text("wandb_version: 1\nnum_labels:\n  desc: null\n  value: 3\n")
    (files / "wandb-summary.json").write_text(
        '{"train/loss": 0.4, "eval/loss": "NaN", "eval/accuracy": 0.5, "_step": 9}'
    )
    diagnosis = diagnose(tmp_path)
    assert "EVL018" in found(diagnosis)
    assert any("only the last value" in note for note in diagnosis.notes)
    lines = ["_step,train/loss,eval/accuracy", *(f"{k},{1.0986 + k % 3 / 1000},0.33" for k in range(10, 1000, 10))]
    (files / "history.csv").write_text("\n".join(lines))
    [run] = read_artifacts(tmp_path)
    assert run.evidence[0].n_classes == 3
    assert "LOS006" in found(diagnose(tmp_path))


TABLES: dict[str, tuple[str, Callable[[int], str]]] = {
    "metric per column": ("step,loss,val_loss", lambda k: f"{k},{1 / k},{2 / k}"),
    "semicolons": ("epoch;loss;val_loss", lambda k: f"{k};{1 / k};{2 / k}"),
    "tabs": ("iteration\ttrain_loss\tvalid_loss", lambda k: f"{k}\t{1 / k}\t{2 / k}"),
    "spaces in names": ("Step,Training Loss,Validation Loss", lambda k: f"{k},{1 / k},{2 / k}"),
    "camel case": ("epoch,trainLoss,valLoss", lambda k: f"{k},{1 / k},{2 / k}"),
    "value per row": ("metric,step,value", lambda k: f"train/loss,{k},{1 / k}\neval/loss,{k},{2 / k}"),
    "empty cells": ("step,loss,val_loss", lambda k: f"{k},{1 / k},\n{k},,{2 / k}"),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_of_every_usual_form_are_read(form: str, tmp_path: Path) -> None:
    header, row = TABLES[form]
    (tmp_path / "log.csv").write_text("\n".join((header, *map(row, range(1, 13)))))
    [run] = read_artifacts(tmp_path / "log.csv")
    steps = run.evidence[0]
    assert list(steps.steps) == list(range(1, 13))
    assert list(steps.loss) == [1 / k for k in range(1, 13)]
    assert [point.value for point in steps.validation_loss] == [2 / k for k in range(1, 13)]


def test_many_runs_end_in_a_stated_limit(tmp_path: Path) -> None:
    for version in range(60):
        folder = tmp_path / "lightning_logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "hparams.yaml").write_text("{}\n")
        (folder / "metrics.csv").write_text("epoch,step,train_loss\n0,1,0.7\n0,2,0.6\n")
    diagnosis = diagnose(tmp_path)
    assert "50 runs" in diagnosis.kind
    assert any("the last 50 of 60 versions were read" in note for note in diagnosis.notes)


def test_of_many_runs_of_mlflow_the_newest_are_read(tmp_path: Path) -> None:
    [meta] = [file for file in (FOLDERS / "mlflow_flat").rglob("meta.yaml") if (file.parent / "metrics").is_dir()]
    for number in range(60):
        folder = tmp_path / "mlruns" / "1" / f"run{number}"
        shutil.copytree(meta.parent, folder)
        text = meta.read_text().replace("run_name: flat", f"run_name: number {number}")
        begun = next(line for line in text.splitlines() if line.startswith("start_time"))
        (folder / "meta.yaml").write_text(text.replace(begun, f"start_time: {1000 + number}"))
    runs = read_artifacts(tmp_path)
    assert [run.name for run in runs] == [f"number {number}" for number in range(10, 60)]
    assert any("only the newest 50 runs were read" in note for run in runs for note in run.notes)


def test_steps_of_transformers_come_before_the_number_of_calls(tmp_path: Path) -> None:
    """`_step` counts the calls of `wandb.log`; transformers logs its own steps next to it."""
    lines = ["_step,train/global_step,train/loss,eval/loss"]
    lines += [f"{k},{50 * k},{1 / k},{2 / k if k % 2 else ''}" for k in range(1, 13)]
    (tmp_path / "history.csv").write_text("\n".join(lines))
    [run] = read_artifacts(tmp_path / "history.csv")
    assert list(run.evidence[0].steps) == [50 * k for k in range(1, 13)]
    assert [point.step for point in run.evidence[0].validation_loss] == [50 * k for k in range(1, 13, 2)]
