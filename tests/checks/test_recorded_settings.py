"""Settings that a run records are evidence: they rank the causes. And what a diagnosis prints and refuses besides."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.diagnosis.observations import observations_of
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.console.diagnosis_text import render
from tenor.errors import UserError

FLAT = [0.6951, 0.6948, 0.6955, 0.6962, 0.6949, 0.6971, 0.6958, 0.6966]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def printed(diagnosis: Diagnosis, width: int = 200) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(render(diagnosis))
    return capture.get()


# A learning rate in the settings.


def history(folder: Path, losses: list[float] = FLAT) -> Path:
    """Keras' history: at chance, without a learning rate."""
    every = [0.6966 + 1e-5 * epoch for epoch in range(len(losses))]
    values = {"loss": losses, "val_loss": every, "val_accuracy": [0.5] * len(losses)}
    return write(folder / "history.json", values).parent


def lightning(folder: Path) -> Path:
    """Of CSVLogger: a validation in a row of its own."""
    rows = []
    for epoch, loss in enumerate(FLAT):
        rows += [f"{epoch},{60 * epoch + step},{loss},," for step in (19, 39, 59)]
        rows.append(f"{epoch},{60 * epoch + 59},,0.5,{0.6966 + 1e-5 * epoch}")
    return write(folder / "metrics.csv", "\n".join(["epoch,step,train_loss,val_acc,val_loss", *rows]) + "\n").parent


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("hparams.yaml", "batch_size: 32\nlearning_rate: 1.0e-07\n"),
        ("args.json", {"lr": 1e-7}),
        ("config.yaml", "optimizer:\n  lr: 1.0e-07\n"),
        ("model_args.json", {"learning_rate": 1e-07, "num_train_epochs": 8}),
        ("params.json", {"optimizer.lr": "1e-07"}),
    ],
)
def test_a_configured_rate_that_is_far_too_small_is_the_first_cause(tmp_path: Path, file: str, content: Any) -> None:
    folder = history(tmp_path) if file != "hparams.yaml" else lightning(tmp_path)
    assert diagnose(folder).causes[0].code != "OPT006"
    write(folder / file, content)
    diagnosis = diagnose(folder)
    assert (diagnosis.causes[0].code, diagnosis.causes[0].status) == ("OPT006", "suspected")
    assert "1e-07" in diagnosis.causes[0].evidence
    assert "OPT007" in diagnosis.ruled_out
    assert "OPT007" not in {cause.code for cause in diagnosis.causes}


@pytest.mark.parametrize(("rate", "first"), [(4e-3, "OPT007"), (2e-5, ""), (1e-3, "")])
def test_a_usual_rate_in_the_settings_is_blamed_for_nothing(tmp_path: Path, rate: float, first: str) -> None:
    write(history(tmp_path) / "args.json", {"learning_rate": rate, "optim": "adamw_torch"})
    causes = [cause.code for cause in diagnose(tmp_path).causes]
    assert (causes[0] == first) if first else causes[0] not in ("OPT006", "OPT007")
    assert "OPT006" not in causes


@pytest.mark.parametrize(
    ("file", "content"),
    [("params.json", {"lr": 0.0}), ("args.json", {"learning_rate": 0}), ("config.yaml", "optimizer:\n  lr: 0.0\n")],
)
def test_a_rate_of_zero_in_the_settings_is_the_first_cause(tmp_path: Path, file: str, content: Any) -> None:
    write(tmp_path / "still" / file, content)
    values = {"loss": FLAT, "val_loss": [0.6966] * 8, "val_accuracy": [0.5] * 8}
    write(tmp_path / "still" / "history.json", values)
    first = diagnose(tmp_path / "still").causes[0]
    assert (first.code, first.status) == ("OPT026", "confirmed")
    # The settings of a run that learns do not contain the rate that was used.
    write(tmp_path / "learns" / file, content)
    learns = [0.6, 0.4, 0.3, 0.25, 0.22, 0.21, 0.2, 0.2]
    write(tmp_path / "learns" / "history.json", {"loss": learns, "val_loss": learns, "val_accuracy": [0.9] * 8})
    assert "OPT026" not in {finding.code for finding in diagnose(tmp_path / "learns").findings}


def test_two_records_of_one_training_are_read_once(tmp_path: Path) -> None:
    """skorch's history and the table that it prints, rounded; the log of another training is one more run."""
    losses = [0.65123, 0.5312, 0.41005, 0.36111, 0.3]
    records = [{"epoch": k, "train_loss": one, "valid_loss": one + 0.01} for k, one in enumerate(losses, 1)]
    write(tmp_path / "history.json", records)
    table = ["epoch    train_loss    valid_loss", "-----    ----------    ----------"]
    printed = [f"{k}  {one:.4f}  {one + 0.01:.4f}" for k, one in enumerate(losses, 1)]
    write(tmp_path / "output.txt", "\n".join([*table, *printed]) + "\n")
    assert len(read_artifacts(tmp_path)) == 1
    assert any("output.txt" in note for note in diagnose(tmp_path).notes)
    write(tmp_path / "output.txt", "\n".join([*table, *(row.replace("0.5312", "0.6312") for row in printed)]) + "\n")
    assert len(read_artifacts(tmp_path)) == 2


def test_settings_next_to_a_history_are_named_and_change_nothing_in_a_sound_run(tmp_path: Path) -> None:
    losses = [0.69, 0.55, 0.45, 0.40, 0.36, 0.33]
    values = {
        "loss": losses,
        "val_loss": [one + 0.02 for one in losses],
        "val_accuracy": [0.6, 0.7, 0.78, 0.8, 0.82, 0.83],
    }
    write(tmp_path / "history.json", values)
    write(tmp_path / "config.yaml", "learning_rate: 1.0e-07\n")
    diagnosis = diagnose(tmp_path)
    assert not diagnosis.findings
    assert "settings read from config.yaml" in diagnosis.notes


@pytest.mark.parametrize(
    ("name", "is_subset"),
    [
        *((name, True) for name in ("max_train_samples", "n_train", "train_size", "subset", "limit_train_batches")),
        *((name, False) for name in ("num_train_epochs", "max_train_steps", "train_batch_size", "save_total_limit")),
        *((name, False) for name in ("max_eval_samples", "max_seq_length", "numTrainEpochs", "limit_val_batches")),
    ],
)
def test_only_a_limit_of_training_rows_is_a_subset(tmp_path: Path, name: str, is_subset: bool) -> None:
    write(history(tmp_path) / "args.json", {name: 2})
    [run] = read_artifacts(tmp_path)
    assert observations_of(run).subset == (f"{name} = 2" if is_subset else "")


# simpletransformers.

SCORES = """global_step,train_loss,mcc,accuracy,f1_score,tp,tn,fp,fn,auroc,auprc,eval_loss
20,0.7219844460487366,0.0,0.51,0.33774834437086093,102,0,98,0,0.4796,0.5041,0.7204957753419876
40,0.6888132095336914,0.0,0.49,0.3288590604026846,0,98,0,102,0.4972,0.5070,0.693472221493721
60,0.6937153935432434,0.0,0.49,0.3288590604026846,0,98,0,102,0.5165,0.5046,0.6929183453321457
80,0.6955580711364746,0.0,0.51,0.33774834437086093,102,0,98,0,0.4742,0.5175,0.693223625421524
"""
RESULTS = "accuracy = 0.51\neval_loss = 0.693223625421524\nfn = 0\nfp = 98\nmcc = 0.0\ntn = 0\ntp = 102\n"
ARGUMENTS = {"learning_rate": 0.004, "num_train_epochs": 2, "optimizer": "AdamW", "save_eval_checkpoints": True}


def simpletransformers(folder: Path) -> Path:
    write(folder / "training_progress_scores.csv", SCORES)
    write(folder / "eval_results.txt", RESULTS)
    return write(folder / "model_args.json", ARGUMENTS).parent


def test_the_folder_above_the_outputs_is_enough(tmp_path: Path) -> None:
    simpletransformers(tmp_path / "outputs")
    diagnosis = diagnose(tmp_path)
    assert diagnosis.kind == "the output of simpletransformers"
    assert "read from the folder outputs in it" in diagnosis.notes
    simpletransformers(tmp_path / "second")
    assert diagnose(tmp_path).kind == "the output of simpletransformers, 2 runs"


def test_few_steps_are_no_confirmed_cause_above_a_rate_that_is_far_too_large(tmp_path: Path) -> None:
    causes = diagnose(simpletransformers(tmp_path)).causes
    assert [(cause.code, cause.status) for cause in causes[:2]] == [("OPT007", "suspected"), ("OPT030", "suspected")]
    assert "0.004" in causes[0].evidence
    assert not any("subset" in cause.evidence for cause in causes)


def test_the_counts_of_every_record_are_a_confusion_matrix(tmp_path: Path) -> None:
    table = write(tmp_path / "training_progress_scores.csv", SCORES)
    assert "200 of 200 predicted as class 1" in printed(diagnose(table))
    columns = [line.split(",") for line in SCORES.splitlines()]
    counts = write(tmp_path / "counts.csv", "\n".join(",".join((*row[:2], *row[5:9])) for row in columns) + "\n")
    [run] = read_artifacts(counts)
    [evaluation] = [one for one in run.evidence if isinstance(one, EvaluationEvidence)]
    assert evaluation.splits["validation"].confusion.tolist() == [[0, 98], [0, 102]]
    assert evaluation.course is not None
    assert [point.value for point in evaluation.course.accuracy] == [0.51, 0.49, 0.49, 0.51]


def test_sound_counts_have_no_finding(tmp_path: Path) -> None:
    rows = [f"{100 * k},{0.7 - 0.1 * k:.2f},{60 + 6 * k},{60 + 5 * k},{40 - 5 * k},{40 - 6 * k}" for k in range(1, 6)]
    table = write(tmp_path / "scores.csv", "\n".join(["global_step,train_loss,tp,tn,fp,fn", *rows]) + "\n")
    assert not diagnose(table).findings


def test_counts_of_the_training_are_not_taken_for_those_of_the_validation(tmp_path: Path) -> None:
    """Keras names the metrics of the validation val_…, and those of the training without a split."""
    rows = [f"{epoch},{0.7 - 0.1 * epoch},80,80,20,20,70,75,25,30" for epoch in range(4)]
    header = "epoch,loss,tp,tn,fp,fn,val_tp,val_tn,val_fp,val_fn"
    [run] = read_artifacts(write(tmp_path / "training.log", "\n".join([header, *rows]) + "\n"))
    [evaluation] = [one for one in run.evidence if isinstance(one, EvaluationEvidence)]
    assert evaluation.splits["validation"].confusion.tolist() == [[75, 25], [30, 70]]


# NaN, and what follows from it.


def mlflow_run(folder: Path, losses: list[str], accuracy: list[float], f1: list[float]) -> Path:
    """A run in MLflow's file store: lines of time, value and step."""
    run = folder / "mlruns" / "1" / "abc"
    write(run / "meta.yaml", "run_name: a\nstart_time: 1\n")
    write(run / "params" / "learning_rate", "5e-05")
    series = {"loss": losses, "eval_accuracy": accuracy, "eval_f1": f1}
    for name, values in series.items():
        lines = "".join(f"17958872{k:05} {value} {10 * k}\n" for k, value in enumerate(values, start=1))
        write(run / "metrics" / name, lines)
    return folder


def test_what_follows_from_nan_is_linked_to_it_and_printed_after_it(tmp_path: Path) -> None:
    """NaN is predicted as class 0: accuracy and F1 are those of one class."""
    share, losses = 37 / 75, ["0.69", "0.6", "0.5", *["nan"] * 5]
    one_class = 2 * share / (1 + share) / 2
    diagnosis = diagnose(mlflow_run(tmp_path, losses, [0.6, *[share] * 7], [0.535, *[one_class] * 7]))
    causes = {finding.code: finding.caused_by for finding in diagnosis.findings if finding.severity == "error"}
    assert set(causes) == {"LOS007", "EVL032"}
    assert "LOS007" in causes["EVL032"]
    assert "EVL021" not in {finding.code for finding in diagnosis.findings}
    assert diagnosis.causes[0].code == "LOS007"
    assert "OPT030" not in {cause.code for cause in diagnosis.causes}
    text = printed(diagnosis)
    assert text.index("LOS007  A loss") < text.index("EVL032  The scores")
    sound = mlflow_run(
        tmp_path / "sound", ["0.69", "0.6", "0.5", "0.4", "0.35", "0.3", "0.28", "0.25"], [0.8] * 3, [0.79] * 3
    )
    assert not [finding for finding in diagnose(sound).findings if finding.severity != "note"]


def test_errors_are_printed_before_warnings() -> None:
    for path in sorted((Path(__file__).parents[1] / "folders").iterdir()):
        order = [{"error": 0, "warning": 1, "note": 2}[one.severity] for one in diagnose(path).symptoms]
        assert order == sorted(order)


# Wording.

SWAPPED = {"validation": {"confusion_matrix": [[60, 20, 20, 20], [22, 20, 67, 27], [20, 82, 7, 26], [10, 15, 10, 94]]}}


def test_suspects_that_swapped_classes_exclude_are_left_out(tmp_path: Path) -> None:
    """The other classes are told apart, so that the model was trained, and with a loss that rewards each of them."""
    diagnosis = diagnose(write(tmp_path / "swapped.json", SWAPPED))
    assert diagnosis.findings[0].code == "EVL007"
    assert {cause.code for cause in diagnosis.causes} == {"DAT009", "MOD002", "MOD011"}
    text = printed(diagnosis)
    assert "neither confirm" not in text
    assert "evidence: the same" not in text
    assert "the class is rare" not in text  # The exchange explains it.


def test_what_was_not_checked_is_one_sentence_without_codes(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "swapped.json", SWAPPED))
    [line] = [line for line in printed(diagnosis, 400).splitlines() if line.startswith("Not checked")]
    assert line.startswith(f"Not checked: {len(diagnosis.not_checked)} rules")
    assert "the training rows with their labels" in line
    assert not any(one.code in line for one in diagnosis.not_checked)
    assert {one["code"] for one in diagnosis.as_dict()["not_checked"]} == {one.code for one in diagnosis.not_checked}


# A model and texts.


def model(folder: Path, **config: Any) -> Path:
    write(folder / "model.safetensors", "")
    return write(folder / "config.json", {"architectures": ["BertForSequenceClassification"], **config}).parent


def test_a_folder_with_a_model_and_texts_says_what_the_model_is_and_which_command_to_use(tmp_path: Path) -> None:
    model(tmp_path / "my model", id2label={"0": "bad", "1": "good"}, model_type="bert")
    write(tmp_path / "texts.csv", "text\na fine film\na dull one\n")
    with pytest.raises(UserError, match="contains a model") as raised:
        diagnose(tmp_path)
    message = str(raised.value)
    assert "BertForSequenceClassification with 2 outputs: bad, good" in message
    assert f"tenor predict '{tmp_path}/my model' --input {tmp_path}/texts.csv" in message
    model(tmp_path / "other", problem_type="multi_label_classification", id2label={str(k): f"l{k}" for k in range(3)})
    with pytest.raises(UserError, match=r"contains 2 models .* multi label classification"):
        diagnose(tmp_path)


def test_texts_without_a_model_are_refused_as_before(tmp_path: Path) -> None:
    write(tmp_path / "texts.csv", "text\na fine film\na dull one\n")
    with pytest.raises(UserError, match="columns text are not recognized"):
        diagnose(tmp_path)
