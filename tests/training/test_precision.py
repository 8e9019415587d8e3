"""`training.precision=auto`: bfloat16 where it is faster and agrees with float32, decided once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from same_end import differences
from small_runs import quiet, small_config, small_run
from tenor.data.batching import micro_batches
from tenor.errors import InterruptedRunError
from tenor.runs.directory import list_runs
from tenor.runs.manifest import read_manifest
from tenor.training import precision as precision_module
from tenor.training.gradients import gradients_of, step_batch
from tenor.training.precision import PrecisionChoice, _Step, choose_precision, disagreement, operations
from tenor.training.spread import OneModel
from tenor.training.task import TrainingTask
from tenor.workflows import prepare as prepare_module
from tenor.workflows.experiments import repeat
from tenor.workflows.train import RunObserver, resume, train
from training_tasks import NO_DROPOUT, make_task


@pytest.fixture
def task(small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingTask:
    """A task that counts as long enough to compare types, with a cache of its own."""
    monkeypatch.setenv("TENOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision_module, "PAYS_FROM", 0.0)
    return make_task(small_bert, tmp_path)


def _pretend(
    monkeypatch: pytest.MonkeyPatch, bf16_seconds: float, loss: float = 0.5, gradient: float = 1.0
) -> list[str]:
    """Steps of 1 s in float32, with loss 0.5 and gradient 1, and as given in bfloat16; returns the steps taken."""
    taken: list[str] = []

    def step(task: TrainingTask, kind: str, batch: object, rounded: bool) -> _Step:
        taken.append(kind)
        values = (bf16_seconds, loss, gradient) if kind == "bf16" else (1.0, 0.5, 1.0)
        return _Step(values[0], values[1], [torch.tensor([values[2]])])

    monkeypatch.setattr(precision_module, "_step", step)
    return taken


@pytest.mark.parametrize(
    ("seconds", "loss", "gradient", "chosen", "reason"),
    [
        (0.4, 0.5, 1.01, "bf16", "in fp32; the loss differs by 0.00%, the gradient by 1.0%"),
        (0.98, 0.5, 1.0, "fp32", "in bf16; the loss"),
        (3.0, 0.5, 1.0, "fp32", "in bf16; the loss"),
        (0.4, 0.6, 1.0, "fp32", "in bf16, whose loss differs by 20.0%, more than 2%"),
        (0.4, float("nan"), 1.0, "fp32", "whose loss differs by nan%"),
        (0.4, 0.5, 1.3, "fp32", "in bf16, whose gradient differs by 30%, more than 10%"),
        (0.4, 0.5, float("inf"), "fp32", "whose gradient differs by inf%"),
    ],
)
def test_the_faster_type_is_chosen_if_it_agrees(
    task: TrainingTask,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    loss: float,
    gradient: float,
    chosen: str,
    reason: str,
) -> None:
    _pretend(monkeypatch, seconds, loss, gradient)
    choice = choose_precision(task, "bf16")
    assert choice.precision == chosen
    assert choice.why.startswith(f"{chosen}: ")
    assert reason in choice.why
    ratio = choice.tokens_per_second["bf16"] / choice.tokens_per_second["fp32"]
    assert ratio == pytest.approx(1 / seconds, rel=0.01)


def test_a_choice_is_remembered_for_this_task_alone(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _pretend(monkeypatch, 0.5)
    first = choose_precision(task, "bf16")
    steps = len(taken)
    assert steps
    again = choose_precision(task, "bf16")
    assert len(taken) == steps
    assert again == replace(first, why=f"{first.why}; measured before on this machine")
    choose_precision(replace(task, plan=replace(task.plan, threads=2)), "bf16")
    assert len(taken) == 2 * steps
    choose_precision(replace(task, settings=task.settings.model_copy(update={"batch_size": 4})), "bf16")
    assert len(taken) == 3 * steps


def test_a_short_training_is_not_delayed(small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _pretend(monkeypatch, 0.1)
    choice = choose_precision(make_task(small_bert, tmp_path), "bf16")
    assert (choice.precision, taken) == ("fp32", [])
    assert "too short to compare it with bf16" in choice.why


def test_the_work_of_a_training_is_that_of_all_weights_but_the_embeddings(task: TrainingTask) -> None:
    tables = {name for name, _ in task.model.named_parameters() if "embeddings.weight" in name}
    assert len(tables) == 3
    weights = sum(p.numel() for name, p in task.model.named_parameters() if name not in tables)
    tokens = int(task.train.lengths.sum()) * task.settings.epochs
    assert operations(task) == 6 * weights * tokens


def test_measuring_changes_neither_weights_nor_gradients_nor_random_states(task: TrainingTask) -> None:
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    state = torch.get_rng_state()
    choice = choose_precision(task, "bf16")
    assert set(choice.tokens_per_second) == {"fp32", "bf16"}
    assert disagreement(*choice.differences.values()) is None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in task.model.state_dict().items())
    assert all(parameter.grad is None for parameter in task.model.parameters())


def test_passes_of_a_step_share_the_16_bit_weights_without_a_change(small_bert: Path, tmp_path: Path) -> None:
    """Autocast keeps them for the step; the gradient is the sum of those of the passes alone."""
    task = make_task(small_bert, tmp_path, model=NO_DROPOUT, token_budget=40)
    task = replace(task, plan=replace(task.plan, precision="bf16"))
    rows = np.arange(8)

    def gradient(parts: list[np.ndarray]) -> list[torch.Tensor]:
        task.model.zero_grad(set_to_none=True)
        for part in parts:
            batch = replace(step_batch(task, 0, part), weight=8.0)
            OneModel(task.model, gradients_of(task)).run(batch)
        return [p.grad.clone() for p in task.model.parameters() if p.grad is not None]

    parts = micro_batches(rows, task.train.lengths, 40)
    assert len(parts) > 1
    for together, alone in zip(gradient([rows]), gradient(parts), strict=True):
        assert torch.equal(together, alone)


@pytest.fixture
def bf16_is_faster(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`auto` finds that bfloat16 is faster, on any processor; returns the choices that were made."""
    made: list[str] = []

    def choose(task: TrainingTask, other: str) -> PrecisionChoice:
        made.append(other)
        return PrecisionChoice("bf16", "bf16: as the test wants it", {"bf16": 2.0, "fp32": 1.0})

    monkeypatch.setattr(prepare_module, "candidate", lambda plan: "bf16")
    monkeypatch.setattr(prepare_module, "choose_precision", choose)
    return made


@pytest.mark.slow
def test_resumed_and_repeated_runs_keep_the_choice_and_the_bits(
    small_bert: Path, tmp_path: Path, bf16_is_faster: list[str]
) -> None:
    auto = ("training.precision=auto", "training.checkpoint_every=2", "evaluation.text_baseline=false")
    whole = small_run(tmp_path / "whole", small_bert, *auto).run
    manifest = read_manifest(whole)
    assert (manifest.precision, manifest.precision_choice["why"]) == ("bf16", "bf16: as the test wants it")

    def stop(_: object) -> None:
        raise InterruptedRunError("as if by a signal")

    config = small_config(tmp_path / "whole", small_bert, *auto)
    with pytest.raises(InterruptedRunError):
        train(config, tmp_path / "cut", quiet(), observer=RunObserver(on_validation=stop))
    (cut,) = list_runs(tmp_path / "cut")
    resumed = resume(cut.run_id, tmp_path / "cut", quiet())
    assert differences(resumed.run, whole) == []
    assert read_manifest(resumed.run).precision_choice == manifest.precision_choice
    repeated = repeat(whole.run_id, tmp_path / "whole" / "runs", quiet())
    assert differences(repeated.run, whole) == []
    assert len(bf16_is_faster) == 2


def test_a_frozen_encoder_is_not_timed(small_bert: Path, tmp_path: Path, bf16_is_faster: list[str]) -> None:
    small_run(tmp_path, small_bert, "training.precision=auto", "model.freeze=base", "evaluation.text_baseline=false")
    assert bf16_is_faster == []
