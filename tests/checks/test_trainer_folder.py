"""The folder of a `transformers.Trainer`: whether the right checkpoint was chosen, whatever the metric's direction."""

import json
from pathlib import Path
from typing import Any

import pytest

from tenor.checks.diagnosis import Diagnosis, diagnose


def trainer_folder(folder: Path, values: dict[str, list[float]], best: int, metric: str, **state: Any) -> Path:
    """A folder as Trainer writes it: metrics at steps 10, 20, …; the value of `metric` at index `best` was chosen."""
    length = len(next(iter(values.values())))
    log: list[dict[str, Any]] = []
    for row in range(length):
        step = 10 * (row + 1)
        log += [{"step": step, "loss": 0.5, "learning_rate": 1e-5}]
        log += [{"step": step, **{f"eval_{name}": series[row] for name, series in values.items()}}]
    step = 10 * (best + 1)
    content = {
        "log_history": log,
        "global_step": 10 * length,
        "best_metric": values[metric][best],
        "best_global_step": step,
        "best_model_checkpoint": f"out/checkpoint-{step}",
    }
    folder.mkdir(exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps(content | state))
    return folder


def selection(diagnosis: Diagnosis) -> str:
    """The finding of CKP001, the reason why it was not checked, or "fine"."""
    findings = [finding for finding in diagnosis.findings if finding.code == "CKP001"]
    if findings:
        return f"{findings[0].observed}; expected {findings[0].expected}"
    skipped = [rule.reason for rule in diagnosis.not_checked if rule.code == "CKP001"]
    return skipped[0] if skipped else "fine"


FALLING = [0.30, 0.20, 0.10]
NAMED = ("brier", "ece", "mae", "mse", "rmse", "error", "error_rate", "perplexity", "log_loss", "hamming")


@pytest.mark.parametrize("name", NAMED)
def test_the_minimum_of_an_error_metric_is_the_right_choice(name: str, tmp_path: Path) -> None:
    assert selection(diagnose(trainer_folder(tmp_path, {name: FALLING}, 2, name))) == "fine"


@pytest.mark.parametrize("name", NAMED)
def test_the_maximum_of_an_error_metric_is_the_wrong_choice(name: str, tmp_path: Path) -> None:
    """Trainer's default for every name that does not end with "loss"."""
    result = selection(diagnose(trainer_folder(tmp_path, {name: FALLING}, 0, name)))
    assert f"step 10 was selected: eval_{name} 0.3 (smaller is better)" in result
    assert f"step 30: eval_{name} 0.1" in result


def test_the_minimum_of_a_score_is_the_wrong_choice(tmp_path: Path) -> None:
    result = selection(diagnose(trainer_folder(tmp_path, {"macro_f1": [0.5, 0.7, 0.6]}, 0, "macro_f1")))
    assert result == "step 10 was selected: eval_macro_f1 0.5 (larger is better); expected step 20: eval_macro_f1 0.7"


def test_the_minimum_of_an_unknown_metric_was_chosen_on_purpose(tmp_path: Path) -> None:
    """Trainer's default for such a name is the largest, so `greater_is_better=False` was set."""
    assert selection(diagnose(trainer_folder(tmp_path, {"regret_at_5x": FALLING}, 2, "regret_at_5x"))) == "fine"


@pytest.mark.parametrize("values", [FALLING[::-1], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]])
def test_the_maximum_of_an_unknown_metric_is_not_judged(values: list[float], tmp_path: Path) -> None:
    best = values.index(max(values))
    result = selection(diagnose(trainer_folder(tmp_path, {"regret": values}, best, "regret")))
    assert "whether a larger or smaller eval_regret is better is not known" in result
    assert "greater_is_better" in result


def test_other_choices_by_an_unknown_metric_are_not_judged(tmp_path: Path) -> None:
    result = selection(diagnose(trainer_folder(tmp_path, {"regret": FALLING}, 1, "regret")))
    assert "is not known" in result


ARGUMENTS = [
    ("training_args.json", '{"metric_for_best_model": "regret", "greater_is_better": %s}'),
    ("args.json", '{"training": {"metric_for_best_model": "eval_regret", "greater_is_better": %s}}'),
    ("training_args.yaml", "metric_for_best_model: regret\ngreater_is_better: %s\n"),
    ("hparams.yml", "metric_for_best_model:\n  value: regret\ngreater_is_better:\n  value: %s\n"),
    ("README.md", "# Card\n\n- learning_rate: 2e-05\n- metric_for_best_model: regret\n- greater_is_better: %s\n"),
]


@pytest.mark.parametrize(("name", "text"), ARGUMENTS)
@pytest.mark.parametrize("greater", [True, False])
def test_the_recorded_arguments_give_the_direction(name: str, text: str, greater: bool, tmp_path: Path) -> None:
    for best, fine in ((0, greater), (2, not greater)):
        folder = trainer_folder(tmp_path, {"regret": FALLING, "other": FALLING}, best, "regret")
        written = str(greater) if name == "README.md" else str(greater).lower()
        (folder / name).write_text(text % written)
        result = selection(diagnose(folder))
        assert (result == "fine") == fine, result
        if not fine:
            assert f"eval_regret {FALLING[best]:g} ({'larger' if greater else 'smaller'} is better)" in result


def test_the_direction_of_a_known_name_overrides_the_arguments(tmp_path: Path) -> None:
    """`greater_is_better` in a saved file may be Trainer's default, which is the fault itself here."""
    folder = trainer_folder(tmp_path, {"brier": FALLING}, 0, "brier")
    (folder / "training_args.json").write_text('{"metric_for_best_model": "brier", "greater_is_better": true}')
    assert "eval_brier 0.3 (smaller is better)" in selection(diagnose(folder))


def test_arguments_in_event_files_are_read(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    folder = trainer_folder(tmp_path, {"regret": FALLING}, 0, "regret")
    writer = SummaryWriter(str(folder / "runs" / "Jan01_host"))
    writer.add_text("args", json.dumps({"metric_for_best_model": "regret", "greater_is_better": False}, indent=2))
    writer.close()
    assert "eval_regret 0.3 (smaller is better)" in selection(diagnose(folder))


def test_arguments_next_to_the_checkpoints_apply_to_each_of_them(tmp_path: Path) -> None:
    inner = tmp_path / "checkpoint-30"
    trainer_folder(inner, {"regret": FALLING}, 0, "regret")
    (tmp_path / "training_args.json").write_text('{"metric_for_best_model": "regret", "greater_is_better": false}')
    assert "(smaller is better)" in selection(diagnose(inner))


UNREADABLE = [("args.yaml", "a: ["), ("training_args.json", "{"), ("hparams.yaml", "a: !x 1")]


@pytest.mark.parametrize(("name", "text"), UNREADABLE)
def test_unreadable_arguments_are_named(name: str, text: str, tmp_path: Path) -> None:
    folder = trainer_folder(tmp_path, {"regret": FALLING}, 2, "regret")
    (folder / name).write_text(text)
    (note,) = diagnose(folder).notes
    assert name in note
    assert note.startswith("not read")


def test_the_choice_is_the_loaded_checkpoint_if_the_best_step_was_not_saved(tmp_path: Path) -> None:
    """transformers 5 records the best step and, separately, the best of the saved checkpoints."""
    folder = trainer_folder(
        tmp_path, {"accuracy": [0.5, 0.8, 0.9]}, 2, "accuracy", best_model_checkpoint="o/checkpoint-20"
    )
    assert "step 20 was selected: eval_accuracy 0.8" in selection(diagnose(folder))


def test_the_pickled_arguments_are_named_as_not_read(tmp_path: Path) -> None:
    folder = trainer_folder(tmp_path, {"regret": FALLING}, 0, "regret")
    (folder / "training_args.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "training_args.bin" in selection(diagnose(folder))


def test_a_value_shared_by_two_metrics_is_not_reported(tmp_path: Path) -> None:
    """The state does not name its metric: accuracy and loss are both 0.5 at step 10."""
    values = {"accuracy": [0.5, 0.7, 0.8], "brier": [0.5, 0.6, 0.7]}
    assert selection(diagnose(trainer_folder(tmp_path, values, 0, "brier"))) == "fine"


def test_the_metric_is_the_one_with_the_best_value_at_the_best_step(tmp_path: Path) -> None:
    """The accuracy at step 30 equals the chosen loss at step 20."""
    values = {"accuracy": [0.2, 0.3, 0.4], "loss": [0.5, 0.4, 0.6]}
    assert selection(diagnose(trainer_folder(tmp_path, values, 1, "loss"))) == "fine"


def test_a_single_validation_is_not_judged(tmp_path: Path) -> None:
    assert selection(diagnose(trainer_folder(tmp_path, {"accuracy": [0.5]}, 0, "accuracy"))) == "fine"


@pytest.mark.parametrize(
    ("loss", "expected"), [([0.7, 0.5], "step 10 was selected: eval_accuracy 0.5"), ([0.5, 0.7], "is not known")]
)
def test_a_state_that_contradicts_its_log_is_judged_if_all_metrics_agree(
    loss: list[float], expected: str, tmp_path: Path
) -> None:
    """For example a copied state of another run: the log does not contain the recorded best value."""
    folder = trainer_folder(tmp_path, {"loss": loss, "accuracy": [0.5, 0.7]}, 0, "accuracy", best_metric=0.6)
    assert expected in selection(diagnose(folder))


def test_a_state_that_contradicts_its_log_is_not_judged_without_a_direction(tmp_path: Path) -> None:
    values = {"accuracy": [0.5, 0.7], "regret": [0.7, 0.5]}
    assert "is not known" in selection(diagnose(trainer_folder(tmp_path, values, 0, "accuracy", best_metric=0.6)))
