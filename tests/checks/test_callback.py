"""The callback in `transformers.Trainer`: a healthy run has no errors; a finding that ends a run is also written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptEncoderConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
)
from transformers import TrainingArguments as Arguments

from tenor.checks import diagnose
from tenor.checks.callback import TenorCallback
from tenor.errors import RefusedError


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """Models this small are slower on two threads."""
    torch.set_num_threads(1)


class Softmaxed(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits.softmax(dim=-1), labels)
        return (loss, outputs) if return_outputs else loss


def train(
    folder: Path,
    encoder: Path,
    trainer: type[Trainer] = Trainer,
    labels: tuple[int, ...] = (0, 1),
    adapt: Callable[[Any], Any] = lambda model: model,
    tokenizer: Any = None,
    callback: TenorCallback | None = None,
    resume: str | None = None,
    **more: Any,
) -> None:
    torch.manual_seed(0)
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2)
    texts = [f"{('dull', 'bright')[row % 2]} film {row}" for row in range(96)]
    rows = [
        {"input_ids": ids, "labels": labels[row % 2]}
        for row, ids in enumerate(tokenizer(texts, return_attention_mask=False)["input_ids"])
    ]
    usual = {"per_device_train_batch_size": 8, "num_train_epochs": 1, "learning_rate": 1e-3, "logging_steps": 4}
    arguments = {**usual, "save_strategy": "no", **more}
    trainer(
        model=adapt(model),
        args=Arguments(str(folder), report_to="none", use_cpu=True, disable_tqdm=True, **arguments),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[callback or TenorCallback(seconds=0)],
    ).train(resume_from_checkpoint=resume)


def test_a_healthy_run_has_no_errors_and_every_rule_is_checked(tmp_path, small_model):
    train(tmp_path, small_model)
    stages = json.loads((tmp_path / "findings.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["preflight", "training"]
    assert not [f for stage in stages for f in stage["findings"] if f["severity"] == "error"]
    assert {"LOS013", "OPT022", "OPT012"} <= set(stages[1]["checked"])


def test_what_ends_a_run_on_the_way_is_written_and_diagnosed(tmp_path, small_model):
    with pytest.raises(RefusedError, match="LOS013"):
        train(tmp_path, small_model, Softmaxed)
    assert diagnose(tmp_path).causes[0].code == "LOS013"


class NotANumber(Trainer):
    """From step 26 on, the loss is NaN, which the Trainer's log hides (`logging_nan_inf_filter`)."""

    def compute_loss(self, *given: Any, **named: Any) -> Any:
        loss = super().compute_loss(*given, **named)
        return loss * float("nan") if self.state.global_step >= 25 else loss


@pytest.mark.parametrize("logging", [{"logging_steps": 500}, {"logging_steps": 4}])
def test_nan_stops_a_run_at_its_step_however_rarely_it_is_logged(logging, tmp_path, small_model):
    with pytest.raises(RefusedError, match=r"LOS007.*first at step 26"):
        train(tmp_path, small_model, NotANumber, max_steps=60, **logging)
    assert diagnose(tmp_path).causes[0].code == "LOS007"


def test_the_rules_see_the_steps_of_a_run_that_logs_nothing(tmp_path, small_model):
    callback = TenorCallback(seconds=0)
    train(tmp_path, small_model, callback=callback, max_steps=35, logging_steps=500)
    steps = callback._watchdog.evidence
    assert steps.steps.tolist() == [10, 20, 30, 35]
    assert steps.label_counts.sum() == steps.predicted_counts.sum() == 35 * 8
    assert steps.loss[-1] < steps.loss[0] < 0.8
    training = json.loads((tmp_path / "findings.json").read_text())["stages"][1]
    assert {"LOS007", "LOS013", "OPT012", "OPT021", "OPT022", "OPT028", "FRZ004"} <= set(training["checked"])
    assert training["findings"] == []


@pytest.mark.slow
@pytest.mark.parametrize("logging", [4, 500])
def test_the_callback_leaves_weights_and_random_states_unchanged(logging, tmp_path, small_model):
    kept = {}
    for name in ("watched", "free"):

        def keep(model, name=name):
            kept[name] = model
            return model

        other = TrainerCallback() if name == "free" else None
        train(tmp_path / name, small_model, adapt=keep, callback=other, max_steps=24, logging_steps=logging)
        kept[name, "state"] = torch.get_rng_state()
    assert torch.equal(kept["watched", "state"], kept["free", "state"])
    for one, free in zip(kept["watched"].parameters(), kept["free"].parameters(), strict=True):
        assert torch.equal(one, free)


@pytest.mark.slow
@pytest.mark.parametrize("skip", [True, False])
def test_a_resume_that_reads_the_epoch_again_is_reported(skip, tmp_path, small_model):
    """12 steps make an epoch; the run is resumed after 7."""
    train(tmp_path, small_model, max_steps=7, save_strategy="steps", save_steps=7)
    callback, checkpoint = TenorCallback(seconds=0), str(tmp_path / "checkpoint-7")
    train(tmp_path, small_model, callback=callback, resume=checkpoint, max_steps=20, ignore_data_skip=not skip)
    assert "DAT030" in callback.reports[0].checked
    assert ("DAT030" in {finding.code for finding in callback.reports[0].findings}) != skip


def test_one_class_is_refused_before_the_first_step(tmp_path, small_model):
    with pytest.raises(RefusedError, match="DAT001"):
        train(tmp_path, small_model, labels=(0, 0))
    assert diagnose(tmp_path).causes[0].code == "DAT001"


@pytest.mark.parametrize(
    ("metric", "arguments", "wrong"),
    [
        ("brier", {}, True),  # Trainer's default for this name: larger is better
        ("brier", {"greater_is_better": False}, False),
        ("regret", {"greater_is_better": False}, False),
        ("regret", {"greater_is_better": True}, False),  # the name has no direction, so the argument decides
    ],
)
def test_the_direction_of_a_metric_decides_whether_the_choice_is_wrong(metric, arguments, wrong, tmp_path, small_model):
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    rows = [{**tokenizer("a dull film"), "labels": row % 2} for row in range(8)]
    falling = iter((0.3, 0.2, 0.1))
    evaluations = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    plain = {"use_cpu": True, "disable_tqdm": True, "report_to": "tensorboard", "num_train_epochs": 3}
    Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(small_model, num_labels=2),
        args=Arguments(str(tmp_path), metric_for_best_model=metric, **plain, **evaluations, **arguments),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        compute_metrics=lambda _: {metric: next(falling)},
    ).train()
    diagnosis = diagnose(tmp_path)
    reported = [finding for finding in diagnosis.findings if finding.code == "CKP001"]
    assert bool(reported) == wrong
    assert "CKP001" not in {rule.code for rule in diagnosis.not_checked}
    if wrong:
        assert "eval_brier 0.3 (smaller is better)" in reported[0].observed


LORA = {"r": 4, "target_modules": ["q_lin", "v_lin"]}
PROMPTS = {"num_virtual_tokens": 4, "token_dim": 32, "num_layers": 2, "num_attention_heads": 4}


def add_adapter(model: Any) -> Any:
    model.add_adapter(LoraConfig(**LORA, modules_to_save=["pre_classifier", "classifier"]))
    return model


@pytest.mark.parametrize(
    "adapt",
    [
        lambda model: get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **LORA)),
        lambda model: get_peft_model(model, PromptEncoderConfig(task_type="SEQ_CLS", **PROMPTS)),
        add_adapter,
    ],
    ids=["LoRA", "p-tuning", "add_adapter"],
)
def test_training_with_peft_has_no_findings(tmp_path, small_model, adapt):
    train(tmp_path, small_model, adapt=adapt)
    stages = json.loads((tmp_path / "findings.json").read_text())["stages"]
    assert not [f for stage in stages for f in stage["findings"] if f["severity"] != "note"]
    assert {"FRZ005", "MOD001", "OPT001"} <= set(stages[0]["checked"])


def test_a_head_that_peft_froze_is_refused_before_the_first_step(tmp_path, small_model):
    with pytest.raises(RefusedError, match=r"FRZ005.*modules_to_save"):
        train(tmp_path, small_model, adapt=lambda model: get_peft_model(model, LoraConfig(**LORA)))


def test_a_model_folder_without_tokenizer_is_not_an_error(tmp_path, small_model):
    folder = tmp_path / "model"
    AutoModelForSequenceClassification.from_pretrained(small_model).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    train(tmp_path / "run", folder, tokenizer=tokenizer)
    stages = json.loads((tmp_path / "run" / "findings.json").read_text())["stages"]
    assert not [f for stage in stages for f in stage["findings"] if f["code"].startswith("TOK")]
