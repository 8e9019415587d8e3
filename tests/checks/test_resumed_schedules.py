"""A schedule that restarts in a resumed run, in a Trainer and in the folder that it left."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, get_scheduler

from tenor.checks import diagnose
from tenor.checks.callback import TenorCallback
from tenor.checks.diagnosis.trainer_resume import logged_resume
from tenor.checks.gather.trainer import resumed_schedule
from tenor.checks.rules import dst

STEPS, PEAK, WARMUP = 200, 1e-3, 25


def linear(step: float) -> float:
    return PEAK * (step / WARMUP if step < WARMUP else (STEPS - step) / (STEPS - WARMUP))


def state(until: int, rates: Any, planned: int = STEPS) -> dict[str, Any]:
    """A `trainer_state.json` with a rate logged every ten steps."""
    history = [{"step": step, "loss": 1.0, "learning_rate": rates(step)} for step in range(10, until + 1, 10)]
    return {"global_step": until, "max_steps": planned, "log_history": history}


def restarted(step: int) -> float:
    return linear(step) if step <= 100 else linear(step - 100)


def cosine(step: int) -> float:
    return float(PEAK * (1 + torch.cos(torch.tensor(torch.pi * step / STEPS))) / 2)


@pytest.mark.parametrize(
    ("states", "last", "found"),
    [
        ([state(100, linear)], state(150, restarted), True),
        ([state(50, linear), state(100, linear)], state(150, restarted), True),
        ([state(100, linear)], state(150, linear), False),
        # With float16 two steps were skipped, which the schedule does not count.
        ([state(100, linear)], state(150, lambda step: linear(step) if step <= 100 else linear(step - 2)), False),
    ],
)
def test_a_schedule_that_restarts_is_seen_in_the_logs_before_and_after(
    states: list[dict[str, Any]], last: dict[str, Any], found: bool
) -> None:
    evidence = logged_resume(states, last)
    assert evidence is not None
    assert evidence.step_before in (50, 100)
    assert (dst.schedule_restarts(evidence) is not None) == found


@pytest.mark.parametrize(
    ("states", "last"),
    [
        ([state(100, cosine)], state(150, lambda step: cosine(step % 100))),  # another schedule
        ([state(100, lambda step: PEAK)], state(150, linear)),
        ([state(40, linear)], state(150, restarted)),  # too few logs
        ([state(100, linear)], state(150, restarted, planned=300)),  # another plan
        ([state(150, restarted)], state(150, restarted)),  # nothing after it
        ([], state(150, restarted)),
        ([{"global_step": 100, "max_steps": STEPS}], {"log_history": [None, {"step": "x"}]}),
    ],
)
def test_what_the_logs_do_not_show_is_not_judged(states: list[dict[str, Any]], last: dict[str, Any]) -> None:
    assert logged_resume(states, last) is None


@pytest.mark.parametrize("name", ["linear", "cosine", "constant_with_warmup"])
@pytest.mark.parametrize(("position", "found"), [(0, True), (100, False), (98, False)])
def test_the_position_of_a_resumed_schedule_is_compared_with_the_step(name: str, position: int, found: bool) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(name, optimizer, WARMUP, STEPS)
    scheduler.last_epoch = position
    assert (dst.schedule_restarts(resumed_schedule(100, scheduler)) is not None) == found


def trainer(folder: Path, callback: TenorCallback | None = None) -> Trainer:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    rows = [{"input_ids": [4 + row, 5, 6, 7], "attention_mask": [1] * 4, "labels": row % 2} for row in range(32)]
    arguments = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "save_steps": 10}
    return Trainer(
        BertForSequenceClassification(BertConfig(vocab_size=64, max_position_embeddings=16, **sizes)),
        TrainingArguments(str(folder), per_device_train_batch_size=4, num_train_epochs=5, **arguments),
        train_dataset=rows,
        callbacks=[callback] if callback else [],
    )


@pytest.mark.slow
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_trainer_that_is_resumed_without_its_schedule_is_reported(is_complete: bool, tmp_path: Path) -> None:
    trainer(tmp_path).train()
    for later in (20, 30, 40):
        for file in (tmp_path / f"checkpoint-{later}").glob("*"):
            file.unlink()
        (tmp_path / f"checkpoint-{later}").rmdir()
    if not is_complete:
        (tmp_path / "checkpoint-10" / "scheduler.pt").unlink()
    callback = TenorCallback("warn", seconds=0)
    trainer(tmp_path, callback).train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    at_once = {finding.code for report in callback.all_reports for finding in report.findings}
    assert ("DST003" in at_once) == (not is_complete)
    (tmp_path / "findings.json").unlink()  # Those of the callback would explain the folder.
    assert json.loads((tmp_path / "checkpoint-40" / "trainer_state.json").read_text())["global_step"] == 40
    found = {finding.code for finding in diagnose(tmp_path).findings}
    assert ("DST003" in found) == (not is_complete)
