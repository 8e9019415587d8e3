"""Checkpoints as files: the best one kept, restored completely, of this run, finite and with its head."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer
from transformers import TrainingArguments as Arguments

from tenor.checks import diagnose
from tenor.checks.catalogue import run_rules
from tenor.checks.gather.trainer import trainer_checkpoints
from tenor.errors import UserError


def of_original_bert(source: Path, folder: Path) -> Path:
    """The same model with the names of the original BERT's LayerNorms."""
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def train(model: Any, folder: Path, accuracies: list[float], **arguments: Any) -> Trainer:
    rows = [{"input_ids": [4 + row, 5, 6, 7], "attention_mask": [1] * 4, "labels": row % 2} for row in range(8)]
    values = iter(accuracies)
    plain = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_steps": 2 * len(accuracies)}
    saving = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    trainer = Trainer(
        model,
        Arguments(str(folder), learning_rate=0.01, metric_for_best_model="accuracy", **plain | saving | arguments),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda _: {"accuracy": next(values)},
    )
    trainer.train()
    trainer.save_state()
    return trainer


def codes(path: Path) -> dict[str, str]:
    return {one.code: one.severity for one in diagnose(path).findings if one.code.startswith(("CKP", "MOD"))}


def before_training(model: Any, folder: Path, done: int = 0, **arguments: Any) -> dict[str, str]:
    """What is known about checkpoints at the start of a Trainer."""
    evaluating = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    args = Arguments(str(folder), use_cpu=True, report_to="none", **evaluating | arguments)
    evidence = trainer_checkpoints(model, args, SimpleNamespace(global_step=done))
    return {one.code: one.severity for one in run_rules([evidence], "preflight").findings}


def test_layer_norms_of_old_names_are_told_before_training(small_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(of_original_bert(small_bert, tmp_path / "old"))
    assert before_training(model, tmp_path / "new", load_best_model_at_end=True) == {"CKP009": "error"}
    assert before_training(model, tmp_path / "new", done=10) == {"CKP009": "error"}
    assert before_training(model, tmp_path / "new") == {"CKP009": "note"}
    model = AutoModelForSequenceClassification.from_pretrained(small_bert, num_labels=2)
    assert before_training(model, tmp_path / "new", load_best_model_at_end=True) == {}


@pytest.mark.slow
def test_layer_norms_of_old_names_are_not_restored_as_the_finding_says(small_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(of_original_bert(small_bert, tmp_path / "old"))
    run = tmp_path / "run"
    trainer = train(model, run, [0.9, 0.5], load_best_model_at_end=True)
    best = AutoModelForSequenceClassification.from_pretrained(str(trainer.state.best_model_checkpoint))
    unlike = {name for name, p in best.named_parameters() if not torch.equal(p, model.get_parameter(name))}
    assert unlike
    assert all("LayerNorm" in name for name in unlike)
    assert codes(run) == {"CKP009": "warning"}
    (run / "training_args.json").write_text(json.dumps({"load_best_model_at_end": True}))
    assert codes(run) == {"CKP009": "error"}


@pytest.mark.slow
def test_the_fix_restores_every_parameter(small_bert: Path, tmp_path: Path) -> None:
    old = AutoModelForSequenceClassification.from_pretrained(of_original_bert(small_bert, tmp_path / "old"))
    old.save_pretrained(tmp_path / "own names", save_original_format=False)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "own names")
    assert before_training(model, tmp_path / "new", load_best_model_at_end=True) == {}
    trainer = train(model, tmp_path / "run", [0.9, 0.5], load_best_model_at_end=True)
    best = AutoModelForSequenceClassification.from_pretrained(str(trainer.state.best_model_checkpoint))
    assert all(torch.equal(p, model.get_parameter(name)) for name, p in best.named_parameters())
    assert codes(tmp_path / "run") == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accuracies", "arguments", "expected"),
    [
        ([0.9, 0.5], {}, {}),
        ([0.5, 0.9], {}, {}),
        ([0.6, 0.9, 0.5, 0.4, 0.3, 0.2], {"max_steps": 6, "eval_steps": 1, "save_steps": 3}, {"CKP008": "warning"}),
        ([math.nan, math.nan], {}, {"CKP008": "warning"}),
    ],
)
def test_a_best_validation_without_a_checkpoint_is_told(
    accuracies: list[float], arguments: dict[str, Any], expected: dict[str, str], small_bert: Path, tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(small_bert, num_labels=2)
    trainer = train(model, tmp_path, accuracies, load_best_model_at_end=True, **arguments)
    assert (trainer.state.best_model_checkpoint is None) == bool(expected)
    assert codes(tmp_path) == expected
    (tmp_path / "training_args.json").write_text(json.dumps({"load_best_model_at_end": True}))
    assert codes(tmp_path) == dict.fromkeys(expected, "error")


def test_what_save_total_limit_deletes_is_told(small_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(small_bert, num_labels=2)
    limited = {"save_total_limit": 1, "metric_for_best_model": "accuracy"}
    assert before_training(model, tmp_path, **limited) == {"CKP011": "warning"}
    assert before_training(model, tmp_path, **limited, load_best_model_at_end=True) == {}
    assert before_training(model, tmp_path, **{**limited, "save_total_limit": 2}) == {}
    assert before_training(model, tmp_path, save_total_limit=1) == {}


@pytest.mark.slow
def test_save_total_limit_deletes_the_last_checkpoint_as_the_finding_says(small_bert: Path, tmp_path: Path) -> None:
    train(AutoModelForSequenceClassification.from_pretrained(small_bert), tmp_path, [0.9, 0.5], save_total_limit=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def state(folder: Path, losses: dict[int, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = [{"step": step, "loss": loss, "learning_rate": 1e-5} for step, loss in losses.items()]
    content = {"log_history": log, "global_step": max(losses), "max_steps": 40, "best_metric": None}
    (folder / "trainer_state.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ({"best_metric": None, "best_global_step": None, "best_model_checkpoint": None}, {}),
        ({"best_metric": 0.8, "best_global_step": 10, "best_model_checkpoint": None}, {"CKP008": "warning"}),
        ({"best_metric": -math.inf, "best_global_step": None, "best_model_checkpoint": None}, {"CKP008": "warning"}),
        ({"best_metric": 0.9, "best_global_step": 20, "best_model_checkpoint": None}, {}),  # the last weights
    ],
)
def test_a_state_without_the_best_checkpoint_is_told(
    best: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    state(tmp_path, {10: 0.6, 20: 0.5})
    content = json.loads((tmp_path / "trainer_state.json").read_text())
    (tmp_path / "trainer_state.json").write_text(json.dumps(content | best))
    assert codes(tmp_path) == expected


def test_checkpoints_of_another_run_are_told_and_not_read(tmp_path: Path) -> None:
    state(tmp_path / "checkpoint-10", {10: 0.6})
    state(tmp_path / "checkpoint-20", {10: 0.6, 20: 0.5})
    assert codes(tmp_path) == {}
    state(tmp_path, {10: 0.6, 20: 0.5, 30: 0.4})
    assert codes(tmp_path) == {}
    state(tmp_path / "checkpoint-40", {10: 0.7, 20: 0.69, 30: 0.68, 40: 0.67})
    diagnosis = diagnose(tmp_path)
    observed = [one.observed for one in diagnosis.findings if one.code == "CKP010"]
    assert observed == ["1 checkpoints of another run: checkpoint-40"]
    assert "step 30 of 40" in diagnosis.conclusion


def test_checkpoints_that_a_starting_run_finds_are_told(small_bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(small_bert, num_labels=2)
    assert before_training(model, tmp_path / "absent") == {}
    (tmp_path / "checkpoint-500").mkdir()
    assert before_training(model, tmp_path) == {"CKP010": "warning"}
    assert before_training(model, tmp_path, done=500) == {}


def saved(source: Path, folder: Path, change: Any = lambda model: model) -> Path:
    model = change(AutoModelForSequenceClassification.from_pretrained(source, num_labels=2))
    model.save_pretrained(folder)
    return folder


def with_a_head_of_nan(model: Any) -> Any:
    model.classifier.weight.data[0, 0] = math.nan
    return model.half()


def without_head(folder: Path) -> None:
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lora(model: Any, **settings: Any) -> Any:
    return peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["query", "value"], **settings))


def test_saved_weights_that_are_not_finite_are_found_without_a_record(small_bert: Path, tmp_path: Path) -> None:
    assert codes(saved(small_bert, tmp_path / "nan", with_a_head_of_nan)) == {"CKP012": "error"}
    with pytest.raises(UserError, match="a model without a record of its training"):
        diagnose(saved(small_bert, tmp_path / "sound", lambda model: model.half()))


def test_saved_weights_that_are_not_finite_are_found_next_to_a_record(small_bert: Path, tmp_path: Path) -> None:
    state(saved(small_bert, tmp_path / "checkpoint-10"), {10: 0.6})
    assert codes(tmp_path) == {}
    state(saved(small_bert, tmp_path / "checkpoint-20", with_a_head_of_nan), {10: 0.6, 20: 0.0})
    [found] = [finding for finding in diagnose(tmp_path).findings if finding.code == "CKP012"]
    assert "checkpoint-20/model.safetensors are not finite: classifier.weight" in found.observed


def test_a_head_that_is_not_in_the_files_is_found(small_bert: Path, tmp_path: Path) -> None:
    without_head(saved(small_bert, tmp_path / "whole"))
    assert codes(tmp_path / "whole") == {"CKP013": "error"}
    assert codes(saved(small_bert, tmp_path / "forgotten", lora)) == {"CKP013": "warning"}
    for number, settings in enumerate(({"task_type": "SEQ_CLS"}, {"modules_to_save": ["classifier"]})):
        adapter = saved(small_bert, tmp_path / str(number), partial(lora, **settings))
        with pytest.raises(UserError, match="a model without a record of its training"):
            diagnose(adapter)


def test_an_adapter_of_a_trained_classifier_needs_no_head(small_bert: Path, tmp_path: Path) -> None:
    saved(small_bert, tmp_path / "classifier")
    with pytest.raises(UserError, match="a model without a record of its training"):
        diagnose(saved(tmp_path / "classifier", tmp_path / "adapter", lora))


def test_contradicting_class_names_in_a_folder_are_found(small_bert: Path, tmp_path: Path) -> None:
    saved(small_bert, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    names = {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 1, "positive": 0}}
    (tmp_path / "config.json").write_text(json.dumps(config | names))
    assert codes(tmp_path) == {"MOD011": "error"}
    state(tmp_path, {10: 0.6})
    assert codes(tmp_path) == {"MOD011": "error"}
