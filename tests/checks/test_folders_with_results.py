"""Folders with several records: results beside a history, runs in folders, splits in files; and records of searches."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenor.checks import diagnose
from tenor.checks.diagnosis import Diagnosis
from tenor.errors import UserError


def predictions(path: Path, order: np.ndarray, named: str = "prediction") -> None:
    """A model that is right in nine of ten rows, with its rows in `order`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    predicted = np.where(rng.random(300) < 0.9, labels, 1 - labels)[order]
    score = np.where(predicted == 1, 0.95, 0.05)
    rows = [f"{k},{labels[k]},{predicted[k]},{1 - score[k]:.2f},{score[k]:.2f}" for k in range(300)]
    path.write_text("\n".join([f"id,label,{named},prob_0,prob_1", *rows]) + "\n")


@pytest.mark.parametrize("named", ["prediction", "yhat"])
@pytest.mark.parametrize("is_shuffled", [True, False])
def test_predictions_beside_a_history_are_judged(tmp_path: Path, is_shuffled: bool, named: str) -> None:
    history = {
        "loss": [0.69, 0.5, 0.35, 0.3],
        "val_loss": [0.68, 0.52, 0.4, 0.38],
        "val_accuracy": [0.6, 0.8, 0.88, 0.9],
    }
    (tmp_path / "history.json").write_text(json.dumps(history))
    order = np.random.default_rng(1).permutation(300) if is_shuffled else np.arange(300)
    predictions(tmp_path / "test_predictions.csv", order, named)
    diagnosis = diagnose(tmp_path)
    codes = {finding.code for finding in diagnosis.findings if finding.severity != "note"}
    assert "300" in diagnosis.conclusion
    assert bool(codes & {"EVL025", "EVL026"}) == is_shuffled, codes
    assert not any("test_predictions.csv" in note for note in diagnosis.notes)


def test_a_logger_with_a_name_of_its_own_is_found(tmp_path: Path) -> None:
    version = tmp_path / "my_experiment" / "version_0"
    version.mkdir(parents=True)
    (version / "hparams.yaml").write_text("lr: 0.001\n")
    rows = [f"{epoch},{epoch * 30 + 29},{0.7 - 0.05 * epoch:.3f},{0.7 - 0.04 * epoch:.3f}" for epoch in range(8)]
    (version / "metrics.csv").write_text("\n".join(["epoch,step,train_loss,val_loss", *rows]) + "\n")
    diagnosis = diagnose(tmp_path)
    assert "Lightning" in diagnosis.kind
    assert not diagnosis.errors


# Runs in folders of folders.

FALLING = [0.7 - 0.05 * epoch for epoch in range(8)]
DIVERGING = [0.73, 2.9, 8.0, 15.0, 24.0, 31.0, 38.0, 44.0]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def found(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings if finding.severity != "note"}


def ray(folder: Path, losses: list[float], rate: float) -> Path:
    """A trial of Ray: its reports as a table and as JSON Lines with the suffix .json."""
    trial = folder / "train_fn_2024" / "train_fn_a1b2c_00000"
    names = ("train_loss", "val_loss", "val_accuracy", "training_iteration", "done", "config/lr")
    rows = [(loss, loss + 0.01, 0.5 + 0.04 * k * (rate < 0.1), k, False, rate) for k, loss in enumerate(losses, 1)]
    write(trial / "progress.csv", "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n")
    lines = [json.dumps({**dict(zip(names, row, strict=True)), "config": {"lr": rate}}) for row in rows]
    write(trial / "result.json", "\n".join(lines) + "\n")
    write(trial / "params.json", {"lr": rate, "num_labels": 2})
    return folder


def test_a_trial_of_ray_is_found_below_its_folders(tmp_path: Path) -> None:
    diagnosis = diagnose(ray(tmp_path / "bad", DIVERGING, 0.5))
    assert [cause.code for cause in diagnosis.causes[:2]] == ["OPT007", "LOS008"]
    assert "runs" not in diagnosis.kind
    healthy = ray(tmp_path / "good", FALLING, 2e-5)
    assert not found(diagnose(healthy))
    assert diagnose(next(healthy.rglob("result.json"))).kind == "a training history (JSON records)"


def test_broken_json_lines_are_still_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not valid JSON"):
        diagnose(write(tmp_path / "result.json", '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss"'))


def test_the_runs_of_a_folder_are_judged_one_by_one(tmp_path: Path) -> None:
    for name, losses in (("a", FALLING), ("b", DIVERGING), ("c", FALLING)):
        values = {"loss": losses, "val_loss": [loss + 0.02 for loss in losses]}
        write(tmp_path / "2026-05-03" / name / "history.json", values)
        write(tmp_path / "2026-05-03" / name / "args.json", {"lr": 0.5 if losses is DIVERGING else 2e-5})
    write(tmp_path / "2026-05-03" / ".hidden" / "history.json", {"loss": FALLING})
    diagnosis = diagnose(tmp_path)
    assert diagnosis.kind.endswith("3 runs")
    assert found(diagnosis) == {"LOS008"}
    assert "2026-05-03/a: " in diagnosis.conclusion
    assert diagnosis.causes[0].evidence.startswith("2026-05-03/b: ")
    for name in ("d", "e"):
        write(tmp_path / "2026-05-03" / name / "history.json", {"loss": FALLING, "val_loss": FALLING})
    conclusion = diagnose(tmp_path).conclusion
    assert "5 runs: 1 with an error" in conclusion
    assert "2026-05-03/b: 1 error" in conclusion


def test_too_many_runs_are_named_and_not_read(tmp_path: Path) -> None:
    for k in range(21):
        write(tmp_path / f"run-{k:02}" / "history.json", {"loss": FALLING})
    with pytest.raises(UserError, match="21 run folders"):
        diagnose(tmp_path)


# Sacred, CatBoost, DVCLive.


def sacred(folder: Path, losses: list[float], rate: float) -> Path:
    steps = [30 * k for k in range(1, len(losses) + 1)]
    metrics = {
        name: {"steps": steps, "timestamps": ["2026-01-01"] * len(steps), "values": values}
        for name, values in (("training.loss", losses), ("validation.loss", losses))
    }
    write(folder / "1" / "metrics.json", metrics)
    write(folder / "1" / "config.json", {"lr": rate, "num_classes": 2})
    write(folder / "1" / "run.json", {"status": "COMPLETED"})
    write(folder / "_sources" / "main.py", "")
    return folder


def test_a_run_of_sacred_is_read(tmp_path: Path) -> None:
    broken = diagnose(sacred(tmp_path / "bad", [0.7, 9.0, *[math.nan] * 6], 30.0))
    assert broken.kind == "a run of Sacred"
    assert [cause.code for cause in broken.causes[:2]] == ["OPT007", "LOS007"]
    healthy = sacred(tmp_path / "good", FALLING, 2e-5)
    assert not found(diagnose(healthy))
    assert not found(diagnose(healthy / "1" / "metrics.json"))


def test_a_configuration_alone_is_no_model(tmp_path: Path) -> None:
    write(tmp_path / "1" / "config.json", {"lr": 0.1})
    write(tmp_path / "1" / "run.json", {"status": "FAILED"})
    with pytest.raises(UserError, match="not recognized"):
        diagnose(tmp_path)
    write(tmp_path / "1" / "config.json", {"architectures": ["BertForSequenceClassification"]})
    with pytest.raises(UserError, match="a model without a record"):
        diagnose(tmp_path)


def catboost(folder: Path, held_out: list[float]) -> Path:
    learned = [0.2 + 0.5 * 0.93**k for k in range(len(held_out))]
    for name, losses in (("learn", learned), ("test", held_out)):
        rows = [f"{k}\t0.9\t{loss}" for k, loss in enumerate(losses)]
        write(folder / f"{name}_error.tsv", "\n".join(["iter\tAccuracy\tLogloss", *rows]) + "\n")
    write(folder / "time_left.tsv", "iter\tPassed\tRemaining\n0\t59\t4709\n")
    return folder


def test_both_tables_of_catboost_are_one_training(tmp_path: Path) -> None:
    healthy = diagnose(catboost(tmp_path / "good", [0.22 + 0.5 * 0.95**k for k in range(60)]))
    assert healthy.kind == "a training of CatBoost"
    assert not found(healthy)
    assert "60 records" in healthy.conclusion
    overfitted = catboost(tmp_path / "bad", [0.6 - 0.005 * k for k in range(20)] + [0.5 + 0.02 * k for k in range(40)])
    assert found(diagnose(overfitted)) == found(diagnose(overfitted / "test_error.tsv")) == {"LOS015"}


def dvclive(folder: Path, held_out: list[float]) -> Path:
    for name, values in (("train/loss", FALLING), ("valid/loss", held_out)):
        rows = [f"{k}\t{value}" for k, value in enumerate(values)]
        write(folder / "plots" / "metrics" / f"{name}.tsv", "\n".join(["step\tloss", *rows]) + "\n")
    write(folder / "metrics.json", {"train": {"loss": FALLING[-1]}, "step": 7})
    write(folder / "params.yaml", "lr: 2.0e-5\n")
    return folder


def test_the_tables_of_dvclive_are_splits_of_one_run(tmp_path: Path) -> None:
    healthy = diagnose(dvclive(tmp_path / "good", [loss + 0.02 for loss in FALLING]))
    assert healthy.kind == "a run of DVCLive"
    assert not found(healthy)
    assert found(diagnose(dvclive(tmp_path / "bad", [0.6, 0.5, 0.4, 0.45, 0.55, 0.7, 0.9, 1.2]))) == {"LOS015"}


def test_a_loss_over_all_validation_rows_is_read_before_one_of_a_batch(tmp_path: Path) -> None:
    """As OpenAI's fine-tuning writes it."""
    rows = ["step,train_loss,valid_loss,full_valid_loss"]
    for step in range(1, 61):
        loss = 0.7 * 0.96**step
        full = loss + 0.02 if step % 10 == 0 else ""
        rows.append(f"{step},{loss},{'' if step % 5 else 0.02 * step},{full}")
    path = write(tmp_path / "step_metrics.csv", "\n".join(rows) + "\n")
    assert not found(diagnose(path))
    path.write_text("\n".join(row.rpartition(",")[0] for row in rows) + "\n")
    assert found(diagnose(path)) == {"LOS015"}


# Searches and model cards.


def test_a_search_of_scikit_learn_says_what_is_best(tmp_path: Path) -> None:
    header = "params,mean_test_score,rank_test_score,mean_train_score"
    for name, trained, is_overfitted in (("bad.csv", 1.0, True), ("good.csv", 0.86, False)):
        rows = f"{header}\n\"{{'C': 1}}\",0.55,2,{trained}\n\"{{'C': 9}}\",0.82,1,{trained}\n"
        with pytest.raises(UserError, match=r"over 2 settings.*mean_test_score 0\.82 \(\{'C': 9\}\)") as raised:
            diagnose(write(tmp_path / name, rows))
        assert ("it overfits" in str(raised.value)) == is_overfitted


def test_a_study_of_optuna_is_named_with_the_way_on(tmp_path: Path) -> None:
    for name, values in (("bad.db", (0.5, 0.5, 0.5)), ("good.db", (0.5, 0.7, 0.8))):
        with closing(sqlite3.connect(tmp_path / name)) as database:
            database.execute("CREATE TABLE studies (study_id INTEGER)")
            database.execute("CREATE TABLE trials (trial_id INTEGER)")
            database.execute("CREATE TABLE trial_values (trial_id INTEGER, value FLOAT)")
            database.executemany("INSERT INTO trial_values VALUES (?, ?)", enumerate(values))
            database.commit()
        with pytest.raises(UserError, match=r"a study of Optuna with 3 values, .*trials_dataframe\(\)") as raised:
            diagnose(tmp_path / name)
        assert ("the same in every trial" in str(raised.value)) == (name == "bad.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE mine (x INTEGER)")
    with pytest.raises(UserError, match=r"unknown program \(tables mine\)"):
        diagnose(tmp_path / "other.db")


CARD = """---
library_name: transformers
---
# reviews
### Training hyperparameters
- learning_rate: {rate}
- num_epochs: 5
### Training results
| Training Loss | Epoch | Step | Validation Loss | Accuracy |
|:-------------:|:-----:|:----:|:---------------:|:--------:|
"""


@pytest.mark.parametrize(("rate", "fell"), [(2e-5, 0.4), (0.02, 1.0)])
def test_the_table_of_a_model_card_is_read(tmp_path: Path, rate: float, fell: float) -> None:
    right = 0.9 if fell < 1 else 0.5
    losses = [(0.25 + 0.45 * fell**k, 0.25 + 0.4441 * fell**k) for k in range(8)]
    rows = [f"| {one:.4f} | {k}.0 | {100 * k} | {other:.4f} | {right} |" for k, (one, other) in enumerate(losses, 1)]
    card = write(tmp_path / "README.md", CARD.format(rate=rate) + "\n".join(rows) + "\n")
    write(tmp_path / "config.json", {"architectures": ["BertForSequenceClassification"]})
    (tmp_path / "model.safetensors").write_text("")
    for path in (tmp_path, card):
        diagnosis = diagnose(path)
        assert "a model card" in diagnosis.kind
        assert bool(found(diagnosis)) == (fell == 1)
        assert fell < 1 or diagnosis.causes[0].code == "OPT007"
    card.write_text("# reviews\nThis model is good.\n")
    with pytest.raises(UserError, match="a text, such as a model card"):
        diagnose(card)


# Fairseq.


@pytest.mark.parametrize(("accuracy", "is_faulty"), [([50.9] * 8, True), ([60, 70, 80, 85, 86, 87, 87.5, 88], False)])
def test_a_log_of_fairseq_counts_its_updates(tmp_path: Path, accuracy: list[float], is_faulty: bool) -> None:
    lines = []
    for epoch, right in enumerate(accuracy, 1):
        loss = 1.0 if is_faulty else 0.9 - 0.08 * epoch
        head = f"2024-02-11 09:14:40 | INFO | train_inner | epoch {epoch:03d}:"
        lines += [
            f"{head} {50 * k} / 100 loss={loss + 0.001 * k}, accuracy={right}, "
            f"num_updates={100 * epoch - 100 + 50 * k}, lr=0.001, gnorm=0.9"
            for k in (1, 2)
        ]
        lines.append(
            f"2024-02-11 09:14:40 | INFO | valid | epoch {epoch:03d} | valid on 'valid' subset | loss {loss} | "
            f"accuracy {right} | num_updates {100 * epoch}"
        )
    diagnosis = diagnose(write(tmp_path / "train.log", "\n".join(lines) + "\n"))
    assert "800 steps" in diagnosis.conclusion
    assert "OPT030" not in {finding.code for finding in diagnosis.findings}
    assert bool(found(diagnosis) & {"EVL020", "EVL033"}) == is_faulty
