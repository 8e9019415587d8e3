"""`training.precision=auto` on a CPU: a few real steps in each number type decide, and the choice is remembered."""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tenor.checks.gather.batches import random_states_kept
from tenor.data.batching import epoch_batches
from tenor.model.device import Precision, instruction_sets
from tenor.model.freezing import set_training_mode
from tenor.model.memory import freed_memory_kept
from tenor.runs.environment import hardware
from tenor.runs.files import cached_file, parse_record, read_json, write_json
from tenor.training.gradients import StepBatch, gradients_of, step_batch
from tenor.training.spread import spread_within
from tenor.training.task import TrainingTask

MOST_TOKENS = 2048
"""Tokens of the batch that is timed, at least one row: enough for two replicas, and a second or two of work."""
ROUNDS = 3
"""Steps in each type, interleaved; the first is not timed, since PyTorch prepares its kernels in it."""
PAYS_FROM = 5e12
"""Floating-point operations of a training from which a faster type pays for the comparison: about a minute's work."""
LEAST_GAIN = 1.05
"""How much faster a type must be, so that the noise of the clock does not decide."""
LOSS_TOLERANCE = 0.02
"""Largest accepted difference of the loss, relative to float32's. Rounding to 8 bits, as bfloat16 does, gives a few
thousandths."""
GRADIENT_TOLERANCE = 0.1
"""Largest accepted distance of the gradient, relative to the norm of float32's; bfloat16 gives one to three hundredths,
and two batches of the same data differ by more than 1."""


@dataclass(frozen=True)
class PrecisionChoice:
    """A number type, the reason, and what was measured: nothing where there was no comparison."""

    precision: Precision
    why: str
    tokens_per_second: dict[str, float] = field(default_factory=dict)
    """By type."""
    differences: dict[str, float] = field(default_factory=dict)
    """Of the other type from float32: `loss`, relative to float32's, and `gradient`, the distance relative to the norm.
    One that is no number is missing here; `why` says so."""


def choose_precision(task: TrainingTask, other: Precision) -> PrecisionChoice:
    """float32, or the type `other` if it is faster on steps of `task` and agrees with float32.

    The choice is cached for this machine, model and length, and for the versions of PyTorch and `transformers`.
    Weights, gradients and random states are as before.
    """
    if operations(task) < PAYS_FROM:
        return PrecisionChoice("fp32", f"fp32: the training is too short to compare it with {other}")
    chosen_now: list[PrecisionChoice] = []

    def choose(path: Path) -> None:
        chosen_now.append(_compare(task, other))
        write_json(path, asdict(chosen_now[0]))

    path = cached_file("precision", f"{_key(task, other)}.json", choose)
    if chosen_now:
        return chosen_now[0]
    stored = parse_record(PrecisionChoice, read_json(path), path, "Remove the file")
    return replace(stored, why=f"{stored.why}; measured before on this machine")


def operations(task: TrainingTask) -> float:
    """About the floating-point operations of a training: six per token and weight that is no embedding."""
    tables = {id(module.weight) for module in task.model.modules() if isinstance(module, nn.Embedding)}
    weights = sum(p.numel() for p in task.model.parameters() if id(p) not in tables)
    return 6.0 * weights * float(task.train.lengths.sum()) * task.settings.epochs


@dataclass(frozen=True)
class _Step:
    seconds: float
    loss: float
    gradient: list[torch.Tensor]


def _compare(task: TrainingTask, other: Precision) -> PrecisionChoice:
    batch = _batch(task)
    rounded = replace(task.plan, precision=other).rounds_lengths
    kinds: tuple[Precision, ...] = ("fp32", other)
    seconds: dict[str, float] = dict.fromkeys(kinds, math.inf)
    last: dict[str, _Step] = {}
    for index in range(ROUNDS):
        for kind in kinds:
            last[kind] = _step(task, kind, batch, rounded)
            if index:
                seconds[kind] = min(seconds[kind], last[kind].seconds)
    speed: dict[str, float] = {kind: round(float(batch.lengths.sum()) / seconds[kind], 1) for kind in kinds}
    loss, gradient = _differences(last["fp32"], last[other])
    fault = disagreement(loss, gradient)
    is_faster = speed[other] >= LEAST_GAIN * speed["fp32"]
    chosen: Precision = other if is_faster and fault is None else "fp32"
    slower = "fp32" if chosen == other else other
    figures = f"{chosen}: {speed[chosen]:,.0f} tokens/s against {speed[slower]:,.0f} in {slower}"
    agreement = f", whose {fault}" if fault else f"; the loss differs by {loss:.2%}, the gradient by {gradient:.1%}"
    finite = {name: value for name, value in {"loss": loss, "gradient": gradient}.items() if math.isfinite(value)}
    return PrecisionChoice(chosen, figures + agreement, speed, finite)


def _batch(task: TrainingTask) -> StepBatch:
    """Rows of the first batch, as the last step sees rows: the first steps may have shorter texts."""
    rows = epoch_batches(task.train.lengths, task.settings.batch_size, task.seed, 0)[0]
    fitting = int(np.searchsorted(task.train.lengths[rows].cumsum(), MOST_TOKENS, side="right"))
    return step_batch(task, task.total_steps - 1, rows[: max(1, fitting)])


def _step(task: TrainingTask, precision: Precision, batch: StepBatch, rounded: bool) -> _Step:
    """The forward and backward passes of a batch, spread as in training; the weights are not changed.

    Both types have the same padded lengths: dropout draws other masks for other shapes.
    """
    task = replace(task, plan=replace(task.plan, precision=precision))
    spread = spread_within(task, gradients_of(task, rounded=rounded))
    with random_states_kept(), freed_memory_kept(), spread:
        torch.manual_seed(task.seed)
        set_training_mode(task.model, task.parameters)
        started = time.perf_counter()
        sums = spread.run(batch)
        seconds = time.perf_counter() - started
    gradient = [p.grad for p in task.model.parameters() if p.grad is not None]
    task.model.zero_grad(set_to_none=True)
    return _Step(seconds, sums.loss / batch.weight, gradient)


def _differences(expected: _Step, observed: _Step) -> tuple[float, float]:
    """The relative differences of loss and gradient."""
    pairs = list(zip(expected.gradient, observed.gradient, strict=True))
    distance = math.hypot(*(float((theirs.float() - ours).norm()) for ours, theirs in pairs))
    norm = math.hypot(*(float(ours.norm()) for ours, _ in pairs))
    return abs(observed.loss - expected.loss) / max(abs(expected.loss), 1e-12), distance / max(norm, 1e-12)


def disagreement(loss: float, gradient: float) -> str | None:
    """What differs too much from float32, for relative differences of loss and gradient; None if they agree."""
    # Written so that a difference that is not a number is a disagreement.
    if not loss <= LOSS_TOLERANCE:
        return f"loss differs by {loss:.1%}, more than {LOSS_TOLERANCE:.0%}"
    if not gradient <= GRADIENT_TOLERANCE:
        return f"gradient differs by {gradient:.0%}, more than {GRADIENT_TOLERANCE:.0%}"
    return None


def _key(task: TrainingTask, other: Precision) -> str:
    """Hash of machine, packages, kind and size of model, trainable parameters, threads, batch and lengths."""
    median = 2 ** math.ceil(math.log2(float(np.median(task.train.lengths))))
    shapes = [(name, list(p.shape), p.requires_grad) for name, p in task.model.named_parameters()]
    model = [type(task.model).__name__, shapes]
    packages = {name: version(name) for name in ("tenor", "torch", "transformers")}
    run = [task.plan.threads, task.plan.training_tokens, task.settings.batch_size, median, other]
    facts = [hardware(), instruction_sets(), packages, model, run]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
