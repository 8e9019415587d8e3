"""Run folders of spaCy, Flair, AllenNLP, Ludwig, run_glue and sentence-transformers, and logs that were pasted.

Folders in `tests/folders/` were written by the programs themselves; the others are written here as the programs write
them. Each fault has a healthy twin without an error or a warning.
"""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenor.checks.diagnosis import Diagnosis, diagnose
from tenor.checks.diagnosis.diagnose import read_artifacts
from tenor.checks.diagnosis.pasted_tables import pasted_records
from tenor.checks.diagnosis.printed_logs import log_records
from tenor.checks.diagnosis.progress_bars import keras_epochs, without_colours
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.errors import UserError

FOLDERS = Path(__file__).parents[1] / "folders"
HEALTHY = {
    "spacy_healthy": "a run of spaCy",
    "keras_captured_healthy": "a printed log of a training",
    "cross_encoder_healthy": "the evaluations of sentence-transformers (a table)",
    "flair_healthy": "the output of Flair",
}
FAULTY = {"spacy_one_class": "EVL032", "keras_captured_sorted": "EVL030", "flair_one_class": "EVL001"}


def found(diagnosis: Diagnosis) -> dict[str, str]:
    return {one.code: one.severity for one in diagnosis.findings if one.severity != "note"}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def kind_of(path: Path, kind: type) -> Any:
    [run] = read_artifacts(path)
    return next(one for one in run.evidence if isinstance(one, kind))


@pytest.mark.parametrize("name", HEALTHY)
def test_a_sound_run_has_no_finding_and_its_kind_is_named(name: str) -> None:
    diagnosis = diagnose(FOLDERS / name)
    assert diagnosis.kind.partition(", ")[0] == HEALTHY[name]
    assert not found(diagnosis)
    assert diagnosis.checked


@pytest.mark.parametrize("name", FAULTY)
def test_the_fault_of_a_run_is_named(name: str) -> None:
    assert FAULTY[name] in found(diagnose(FOLDERS / name))


# Keras, captured


def test_epochs_of_progress_bars_are_counted_once() -> None:
    """Each bar is written many times; the loss is that of its last state."""
    text = (FOLDERS / "keras_captured_sorted" / "train_output.log").read_text()
    steps = kind_of(FOLDERS / "keras_captured_sorted", StepEvidence)
    assert (list(steps.steps), steps.unit) == ([1, 2, 3, 4, 5, 6], "epoch")
    assert f"loss: {steps.loss[-1]}" in text
    assert len(steps.validation_loss) == 6


def test_validation_rows_of_one_class_come_before_overfitting() -> None:
    diagnosis = diagnose(FOLDERS / "keras_captured_sorted")
    assert found(diagnosis)["EVL030"] == "error"
    overfits = next(one for one in diagnosis.findings if one.code == "LOS015")
    assert overfits.caused_by == ("EVL030",)
    assert {"DAT020", "DAT023"} == {cause.code for cause in diagnosis.causes[:2]}
    assert "validation_split" in diagnosis.causes[0].evidence


def test_a_second_fit_counts_on_and_an_interrupted_epoch_is_left_out() -> None:
    bar = "\r1/2 ━━━━ 1s 5ms/step - loss: 9.0\r2/2 ━━━━ 0s 5ms/step - loss: {loss} - val_loss: 0.5\n"
    fit = "".join(f"Epoch {k}/3\n" + bar.format(loss=0.7 - k / 10) for k in (1, 2, 3))
    records = keras_epochs(f"{fit}{fit}Epoch 4/9\n\r1/2 ━━━━ 1s 5ms/step - loss: 0.1")
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["loss"] for record in records] == pytest.approx([0.6, 0.5, 0.4] * 2)


@pytest.mark.parametrize(
    ("values", "trained", "said"),
    [
        ([0.0, 0.0, 0.0, 0.01], 0.6, True),
        ([0.5, 0.5, 0.5, 0.5], 0.6, False),
        ([0.0, 0.0, 0.0, 0.0], 0.1, False),  # Many classes, hardly trained.
        ([0.1, 0.1, 0.1, 0.1], 0.9, False),  # Perhaps ten classes, memorized.
    ],
)
def test_an_accuracy_far_below_chance_is_told(
    values: Sequence[float], trained: float, said: bool, tmp_path: Path
) -> None:
    rows = "".join(f"{k},0.6{9 - k},{trained},0.9,{value}\n" for k, value in enumerate(values))
    write(tmp_path / "log.csv", f"epoch,loss,accuracy,val_loss,val_accuracy\n{rows}")
    assert ("EVL030" in found(diagnose(tmp_path))) is said


# spaCy


def test_a_table_and_the_scores_of_spacy_are_read_together(tmp_path: Path) -> None:
    folder = FOLDERS / "spacy_one_class"
    checkpoint = kind_of(folder, CheckpointEvidence)
    assert [point.step for point in checkpoint.validations] == [0, 10, 20, 30, 40, 50, 60]
    evaluation = kind_of(folder, EvaluationEvidence)
    assert evaluation.splits["validation"].recalls == {"NEG": 1.0, "POS": 0.0}
    assert "EVL033" in found(diagnose(folder / "train.log"))
    assert "EVL032" in found(diagnose(folder / "output"))
    assert "EVL032" in found(diagnose(folder / "output" / "model-last" / "meta.json"))


def test_a_pipeline_of_spacy_without_a_classifier_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "meta.json", {"spacy_version": ">=3", "performance": {"ents_f": 0.8}})
    with pytest.raises(UserError):
        diagnose(tmp_path / "meta.json")
    table = "E    #       LOSS NER  ENTS_F  SCORE \n---  ------  --------  ------  ------\n"
    table += "  0       0      0.25   35.17    0.35\n"
    with pytest.raises(UserError, match="no score of a text classifier"):
        diagnose(write(tmp_path / "train.log", table))


# Flair


def test_the_log_of_flair_alone_gives_the_same_losses(tmp_path: Path) -> None:
    """`loss.tsv` has the epochs; the log has them too, and the report of the test."""
    both = kind_of(FOLDERS / "flair_healthy", StepEvidence)
    shutil.copy(FOLDERS / "flair_healthy" / "training.log", tmp_path / "output.log")
    alone = kind_of(tmp_path / "output.log", StepEvidence)
    assert alone.loss == pytest.approx(both.loss, abs=1e-4)
    assert alone.unit == both.unit == "epoch"
    assert kind_of(tmp_path / "output.log", EvaluationEvidence).splits["test"].n == 200


def test_gradient_descent_of_flair_is_not_blamed_for_the_rate_of_adam() -> None:
    causes = diagnose(FOLDERS / "flair_one_class").causes
    assert causes
    assert causes[0].code != "OPT007"


# AllenNLP


def allennlp(folder: Path, training: Sequence[float], validation: Sequence[float], test: float) -> Path:
    record: dict[str, Any] = {}
    for epoch, (trained, validated) in enumerate(zip(training, validation, strict=True)):
        record = {"best_epoch": epoch, "training_duration": "0:01:12.481512", "epoch": epoch}
        record |= {"training_accuracy": trained, "training_loss": 1 - trained, "training_gpu_0_memory_MB": 1890.1}
        record |= {"validation_accuracy": validated, "validation_loss": 1.05 - validated}
        record |= {"best_validation_accuracy": max(validation[: epoch + 1]), "best_validation_loss": 0.1}
        write(folder / f"metrics_epoch_{epoch}.json", record)
    write(folder / "metrics.json", record | {"test_accuracy": test, "test_loss": 1 - test})
    write(folder / "vocabulary" / "labels.txt", "pos\nneg\n")
    write(folder / "config.json", {"model": {"type": "basic_classifier"}, "trainer": {"optimizer": {"lr": 0.001}}})
    return folder


def test_a_validation_that_is_too_good_is_told(tmp_path: Path) -> None:
    learned = (0.74, 0.83, 0.87, 0.90, 0.92)
    healthy = allennlp(tmp_path / "healthy", learned, (0.80, 0.83, 0.84, 0.85, 0.85), 0.84)
    assert not found(diagnose(healthy))
    leaked = diagnose(allennlp(tmp_path / "leaked", learned, (1.0,) * 5, 0.84))
    assert leaked.kind == "the output of AllenNLP"
    assert found(leaked)["EVL031"] == "warning"
    assert {"DAT011", "DAT013"} <= {cause.code for cause in leaked.causes}
    assert not any("not read" in note for note in leaked.notes)
    easy = allennlp(tmp_path / "easy", (0.9, 0.99, 1.0, 1.0, 1.0), (1.0,) * 5, 1.0)
    assert not found(diagnose(easy))
    assert kind_of(easy, StepEvidence).n_classes == 2


# Ludwig


def ludwig(folder: Path, losses: Sequence[float], accuracies: Sequence[float], rate: float) -> Path:
    metrics = {"sentiment": {"accuracy": list(accuracies), "loss": list(losses)}, "combined": {"loss": list(losses)}}
    statistics = {"evaluation_frequency": {"frequency": 1, "period": "epoch"}}
    statistics |= dict.fromkeys(("training", "validation", "test"), metrics)  # type: ignore[dict-item]
    for place in ("", "model/"):
        write(folder / "results" / "experiment_run" / f"{place}training_statistics.json", statistics)
    config = {
        "output_features": [{"name": "sentiment", "type": "category"}],
        "trainer": {"learning_rate": rate, "optimizer": {"type": "sgd"}},
    }
    write(folder / "results" / "experiment_run" / "description.json", {"ludwig_version": "0.10.3", "config": config})
    return folder


def test_statistics_of_ludwig_are_read_at_every_level(tmp_path: Path) -> None:
    healthy = ludwig(tmp_path / "healthy", (0.68, 0.6, 0.5, 0.45, 0.42), (0.6, 0.7, 0.8, 0.82, 0.84), 0.01)
    assert not found(diagnose(healthy))
    diverged = ludwig(tmp_path / "diverged", (0.73, 1.2, 3.9, 12.4, 41.7, 611.2), (0.51, 0.5, 0.5, 0.5, 0.5, 0.5), 1.0)
    run = diverged / "results" / "experiment_run"
    for path in (diverged, diverged / "results", run, run / "training_statistics.json", run / "model"):
        diagnosis = diagnose(path)
        assert diagnosis.kind == "a run of Ludwig"
        assert found(diagnosis)["LOS008"] == "error"
    causes = diagnose(diverged).causes
    assert [cause.code for cause in causes[:2]] == ["OPT007", "LOS008"]
    assert "up to 1" in causes[0].evidence


# run_glue


def run_glue(folder: Path, mcc: float, predictions: Sequence[int]) -> Path:
    write(folder / "eval_results_cola.txt", f"eval_loss = 0.6186\neval_mcc = {mcc}\nepoch = 3.0\n")
    rows = "".join(f"{row}\t{label}\n" for row, label in enumerate(predictions))
    write(folder / "test_results_cola.txt", f"index\tprediction\n{rows}")
    write(folder / "config.json", {"architectures": ["BertForSequenceClassification"], "finetuning_task": "cola"})
    return folder


def test_results_as_text_and_predictions_without_labels_are_read(tmp_path: Path) -> None:
    assert not found(diagnose(run_glue(tmp_path / "healthy", 0.58, [1, 0, 1] * 100)))
    folder = run_glue(tmp_path / "one_class", 0.0, [1] * 300)
    assert set(found(diagnose(folder))) == {"EVL032", "EVL023"}
    assert set(found(diagnose(folder / "eval_results_cola.txt"))) == {"EVL032"}
    assert set(found(diagnose(folder / "test_results_cola.txt"))) == {"EVL023"}


def test_an_mcc_of_zero_in_a_state_of_trainer_is_told(tmp_path: Path) -> None:
    """run_glue of today logs `eval_matthews_correlation`, and no accuracy."""
    for name, values in (("healthy", (0.3, 0.4, 0.5, 0.52, 0.55)), ("one_class", (0.0,) * 5)):
        log = [
            {"step": 100 * k, "eval_loss": 0.61, "eval_matthews_correlation": value, "epoch": k}
            for k, value in enumerate(values, start=1)
        ]
        losses = [{"step": 10 * k, "loss": 0.62 - k / 500, "epoch": k / 10} for k in range(1, 51)]
        state = {"global_step": 500, "max_steps": 500, "log_history": [*losses, *log]}
        write(tmp_path / name / "trainer_state.json", state)
    assert not found(diagnose(tmp_path / "healthy"))
    assert {"EVL032", "EVL033"} <= set(found(diagnose(tmp_path / "one_class")))


# Pasted tables

FASTAI = """learn = text_classifier_learner(dls, AWD_LSTM, drop_mult=0.5, metrics=accuracy)
learn.fine_tune(4, 1e-2)

epoch	train_loss	valid_loss	accuracy	time
0	0.463127	0.397902	0.820480	01:12

epoch	train_loss	valid_loss	accuracy	time
0	0.305811	0.262034	0.891760	02:31
1	0.248207	0.214866	0.915920	02:32
2	0.198346	0.190124	0.927160	02:31
3	0.169520	0.186451	0.929840	02:32
"""


@pytest.mark.parametrize("separator", ["\t", "  ", " | ", " "])
def test_tables_after_code_are_read_as_one_training(separator: str, tmp_path: Path) -> None:
    write(tmp_path / "output.txt", FASTAI.replace("\t", separator))
    diagnosis = diagnose(tmp_path)
    assert not found(diagnosis)
    assert "2 tables, read as one training" in diagnosis.notes
    steps = kind_of(tmp_path, StepEvidence)
    assert list(steps.steps) == [0, 1, 2, 3, 4]
    assert steps.validation_loss[0].value == 0.397902
    course = kind_of(tmp_path, EvaluationEvidence).course
    assert [point.value for point in course.accuracy] == [0.82048, 0.89176, 0.91592, 0.92716, 0.92984]
    assert not course.training_accuracy


def test_a_table_with_other_columns_is_named() -> None:
    rows, note = pasted_records("step\tloss\n1\t0.5\n\nepoch\ttrain_loss\n0\t0.5\n1\t0.4\n")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert note == "1 with other columns not read"


def test_headings_name_the_split_of_the_lines_below_them(tmp_path: Path) -> None:
    """As in the BERT tutorial: the accuracy below "Running Validation..." is not that of the training."""
    epoch = "\n======== Epoch {k} / 4 ========\nTraining...\n\n  Average training loss: {t}\n\nRunning Validation...\n"
    epoch += "  Accuracy: {a}\n  Validation Loss: 0.4\n"
    text = "".join(epoch.format(k=k, t=0.6 - k / 10, a=0.8 + k / 100) for k in range(1, 5))
    course = kind_of(write(tmp_path / "cell.txt", text), EvaluationEvidence).course
    assert [point.value for point in course.accuracy] == pytest.approx([0.81, 0.82, 0.83, 0.84])
    assert not course.training_accuracy


@given(st.text(alphabet="epochstlrain_d 0123456789.:/|-\t\n\r[<>]━=%", max_size=400))
def test_any_text_is_read_or_left(text: str) -> None:
    assert isinstance(pasted_records(text)[0], list)
    assert all(math.isfinite(one["epoch"]) for one in keras_epochs(without_colours(text)))
    log_records(text)


# What was stated falsely


def test_steps_of_a_printed_trainer_log_are_those_of_its_bar(tmp_path: Path) -> None:
    """Its dictionaries have only epochs; the bar of the rows ("examples/s") counts no steps."""
    lines = ["Map: 100%|██████████| 1280/1280 [00:00<00:00, 6521.95 examples/s]\n"]
    for k in range(1, 13):
        lines.append(f"  8%|▊  | {10 * k}/120 [00:00<00:08, 12.56it/s]\r" + " " * 8)
        lines.append(f"{{'loss': '1.099', 'learning_rate': '{k * 5e-8:.3g}', 'epoch': '{k / 4}'}}\n")
        if k % 4 == 0:
            lines.append(f"{{'eval_loss': '1.099', 'eval_accuracy': '0.325', 'epoch': '{k // 4}'}}\n")
    lines.append("{'train_runtime': '13.1', 'train_loss': '1.099', 'epoch': '3'}\n")
    diagnosis = diagnose(write(tmp_path / "train.log", "".join(lines)))
    rising = next(one for one in diagnosis.findings if one.code == "OPT024")
    assert "at step 120," in rising.observed
    assert "7 optimizer steps (6%)" in rising.fix


def trainer(folder: Path, kept: Sequence[int]) -> Path:
    """The state of a run that overfits from step 40 on, with these checkpoints."""
    losses = [{"step": k, "loss": 0.7 if k <= 40 else 0.1, "epoch": k / 40} for k in range(10, 130, 10)]
    log = [{"step": k, "eval_loss": v, "epoch": k / 40} for k, v in ((40, 0.6), (80, 1.2), (120, 2.0))]
    state = {"global_step": 120, "max_steps": 120, "log_history": [*losses, *log]}
    for step in kept:
        write(folder / f"checkpoint-{step}" / "trainer_state.json", state)
        write(folder / f"checkpoint-{step}" / "training_args.bin", "")
    return folder


def test_a_checkpoint_that_is_gone_is_not_recommended(tmp_path: Path) -> None:
    for name, kept, said in (
        ("gone", (120,), "only 120 is kept"),
        ("there", (40, 120), "use the checkpoint of step 40"),
    ):
        diagnosis = diagnose(trainer(tmp_path / name, kept))
        assert said in next(one for one in diagnosis.findings if one.code == "LOS015").fix


def test_a_checkpoint_whose_state_was_read_is_not_called_unread(tmp_path: Path) -> None:
    notes = diagnose(trainer(tmp_path, (120,))).notes
    assert notes == ("not read (weights and other files of checkpoints whose state was read): checkpoint-120",)


def test_rows_and_steps_of_a_short_training_are_its_first_cause(tmp_path: Path) -> None:
    """The state of such a run logs only the mean loss of the training."""
    whole = {"train_loss": 0.6952, "train_runtime": 5.9}
    state = {"global_step": 12, "max_steps": 12, "epoch": 3.0, "log_history": [{"step": 12, "epoch": 3.0, **whole}]}
    write(tmp_path / "trainer_state.json", state)
    write(tmp_path / "all_results.json", {"eval_accuracy": 0.5092, "eval_loss": 0.6916, "train_samples": 32, **whole})
    diagnosis = diagnose(tmp_path)
    assert diagnosis.causes[0].code == "OPT030"
    assert "12 optimizer steps on 32 training rows" in diagnosis.causes[0].evidence
    assert "OPT007" in {cause.code for cause in diagnosis.causes}  # A heuristic excludes no other cause.
    assert "trainer_state.json" not in diagnosis.limits


def test_a_recorded_rate_is_not_asked_for(tmp_path: Path) -> None:
    """Lightning logs the rate at other steps than the losses, and names the optimizer in the column."""
    write(tmp_path / "hparams.yaml", "lr: 0.008\nnum_classes: 2\n")
    rows = ["epoch,lr-SGD,step,train_loss,val_loss", ",0.008,0,,"]
    rows += [f"0,,{k},nan,{'nan' if k % 20 == 19 else ''}" for k in range(4, 100, 5)]
    write(tmp_path / "metrics.csv", "\n".join(rows))
    rate = next(cause for cause in diagnose(tmp_path).causes if cause.code == "OPT007")
    assert "0.008" in rate.evidence
    assert rate.settled_by == "the same run with a rate from the fix"
    assert "a tenth of this rate" in rate.fix


def test_untrained_weights_are_no_suspects_of_swapped_labels(tmp_path: Path) -> None:
    swapped = {"validation": {"confusion_matrix": [[48, 449], [442, 61]]}}
    causes = {cause.code for cause in diagnose(write(tmp_path / "two.json", swapped)).causes}
    assert {"DAT009", "MOD002", "LOS003"} <= causes
    assert not causes & {"FRZ003", "FRZ005", "OPT002", "OPT005", "OPT006", "OPT021"}
    cycle = {"validation": {"confusion_matrix": [[31, 402, 17], [22, 29, 399], [411, 26, 13]]}}
    assert "LOS003" not in {cause.code for cause in diagnose(write(tmp_path / "three.json", cycle)).causes}
    weak = {"validation": {"confusion_matrix": [[200, 300], [300, 200]]}}
    assert "OPT006" in {cause.code for cause in diagnose(write(tmp_path / "weak.json", weak)).causes}


# Columns and refusals


@pytest.mark.parametrize("label", ["sentiment", "category", "class"])
def test_true_classes_under_another_name_are_read_next_to_predictions(label: str, tmp_path: Path) -> None:
    rows = "".join(f"a text,{k % 2},LABEL_{k % 2 if k % 10 else 1 - k % 2},0.9\n" for k in range(200))
    write(tmp_path / "scored_test.csv", f"review,{label},model_label,model_score\n{rows}")
    evaluation = kind_of(tmp_path, EvaluationEvidence)
    assert not found(diagnose(tmp_path))
    claims = evaluation.splits["test"]
    assert (claims.labels == claims.predicted).mean() == 0.9
    assert any(f"true class {label}" in note for note in claims.notes)


def test_a_column_with_other_classes_is_not_taken_for_the_true_ones(tmp_path: Path) -> None:
    rows = "".join(f"topic {k % 7},{('neg', 'pos')[k % 2]}\n" for k in range(200))
    diagnosis = diagnose(write(tmp_path / "predictions.csv", f"category,prediction\n{rows}"))
    assert any("category is not read as the true class" in note for note in diagnosis.notes)


def test_the_only_file_of_a_folder_is_refused_with_its_own_reason(tmp_path: Path) -> None:
    write(tmp_path / "leaderboard.csv", "model,score_test,eval_metric\na,0.9,accuracy\nb,0.8,accuracy\n")
    with pytest.raises(UserError, match=r"leaderboard\.csv: columns model, score_test"):
        diagnose(tmp_path)


def test_the_split_of_an_evaluator_is_in_the_name_of_its_table() -> None:
    runs = {run.name: run for run in read_artifacts(FOLDERS / "cross_encoder_healthy")}
    splits = {
        name: set(one.splits)
        for name, run in runs.items()
        for one in run.evidence
        if isinstance(one, EvaluationEvidence)
    }
    assert sorted(map(tuple, splits.values())) == [("test",), ("validation",)]
