"""The time, memory and disk space that a run will take, estimated from a timed pass or from measured steps."""

import time
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import nn

from tenor.checks.gather.batches import random_states_kept
from tenor.data.batching import Batch, Examples, micro_batches
from tenor.data.tokenization import TokenizedText
from tenor.model.device import DevicePlan, full_precision
from tenor.model.freezing import TrainableParameters, set_training_mode

PROBE_TOKENS = 512
"""Padded tokens of the pass that is timed on a CPU: typical, and quick. A GPU is timed with a whole batch within its
budget, since with few tokens it waits for the program."""


@dataclass(frozen=True)
class Lengths:
    """Tokens per text before truncation, and the shares that truncation removes."""

    median: int
    p90: int
    longest: int
    share_truncated: float
    share_tokens_lost: float


@dataclass(frozen=True)
class Cost:
    """An estimate from timed passes and from the sizes of stored tensors."""

    seconds: float
    memory_bytes: int
    """Memory of the GPU if the run uses one, otherwise of the process."""
    disk_bytes: int


def measure_lengths(tokens: TokenizedText) -> Lengths:
    """Percentiles of the lengths, and the effect of truncation."""
    full = tokens.full_lengths
    return Lengths(
        median=int(np.median(full)),
        p90=int(np.percentile(full, 90)),
        longest=int(full.max()),
        share_truncated=float(tokens.truncated.mean()),
        share_tokens_lost=float(1 - tokens.lengths.sum() / full.sum()),
    )


def estimate_cost(
    model: nn.Module,
    parameters: TrainableParameters,
    examples: Examples,
    plan: DevicePlan,
    tokens_to_train: int,
    tokens_to_predict: int,
    kept_checkpoints: int,
    batch_size: int,
    replicas: int = 1,
    kept_per_weight: int = 2,
    tokens_per_second: float | None = None,
) -> Cost:
    """Estimate a run from one timed pass; restores weights, gradients and random state.

    `kept_per_weight` numbers are stored with every trainable weight: AdamW's two moments, and an average.
    `tokens_per_second` is the speed of training where steps of it were measured already: a single pass is timed only if
    there is none, since it is small and alone, so that what every pass costs whatever its size weighs too much.
    """
    model.to(plan.device)
    in_use = _memory_in_use(plan)  # Before the timed pass: the first step reuses the memory of that pass.
    timed = tokens_to_train > 0 and tokens_per_second is None
    trained, predicted = _seconds_per_token(model, parameters, examples, plan, batch_size, backward=timed)
    if tokens_per_second is not None:
        trained = 1 / tokens_per_second
    seconds = tokens_to_train * trained + tokens_to_predict * predicted
    weights = parameters.total_count * 4
    learned = parameters.trainable_count * 4
    memory = in_use + (kept_per_weight + replicas) * learned  # Every replica has gradients of its own.
    if tokens_to_train:
        largest_pass = tokens_per_pass(examples.lengths, -(-batch_size // replicas), plan.training_tokens)
        memory += round(replicas * largest_pass * activation_bytes_per_token(model, parameters, examples, plan))
    return Cost(seconds, memory, (kept_checkpoints + 1) * (weights + kept_per_weight * learned) + weights)


def tokens_per_pass(lengths: np.ndarray, share_size: int, token_budget: int) -> int:
    """Padded tokens of the largest forward pass in training: a share within the budget, at least one row."""
    longest = int(lengths.max())
    return max(longest, min(token_budget, share_size * longest))


def activation_bytes_per_token(
    model: nn.Module, parameters: TrainableParameters, examples: Examples, plan: DevicePlan
) -> float:
    """Bytes that a forward pass stores for its backward pass, per padded token.

    Measured by two passes, with the longest row once and twice: memory that does not grow with the tokens (weights and
    their copies in half precision) is the same in both.
    """
    longest = int(examples.lengths.argmax())
    once, twice = (_bytes_kept(model, parameters, examples, plan, np.full(times, longest)) for times in (1, 2))
    return (twice - once) / int(examples.lengths[longest])


def _bytes_kept(
    model: nn.Module, parameters: TrainableParameters, examples: Examples, plan: DevicePlan, rows: np.ndarray
) -> int:
    """Bytes that a forward pass stores for its backward pass; memory shared by several tensors counts once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    inputs = _on_device(examples.collate(rows), plan)
    with random_states_kept(), torch.enable_grad(), plan.autocast(), hooks:
        set_training_mode(model, parameters)
        logits = model(**inputs).logits  # Kept until all is counted: freed memory would be counted twice.
    del logits
    return sum(kept.values())


def _memory_in_use(plan: DevicePlan) -> int:
    """Bytes that this process uses on its device."""
    return torch.cuda.memory_allocated() if plan.device == "cuda" else psutil.Process().memory_info().rss


def _on_device(batch: Batch, plan: DevicePlan) -> dict[str, torch.Tensor]:
    return {name: tensor.to(plan.device) for name, tensor in batch.inputs.items()}


def _seconds_per_token(
    model: nn.Module,
    parameters: TrainableParameters,
    examples: Examples,
    plan: DevicePlan,
    batch_size: int,
    backward: bool,
) -> tuple[float, float]:
    """Time one typical forward pass, alone and (if `backward`) with its backward pass, after a warm-up pass.

    Returns seconds per token of training (0 without a backward pass) and of prediction.
    """
    by_length = np.argsort(examples.lengths, kind="stable")
    middle = by_length[len(by_length) // 2 :][:batch_size]
    tokens = PROBE_TOKENS if plan.device == "cpu" else plan.training_tokens
    batch = examples.collate(micro_batches(middle, examples.lengths, tokens)[0])
    inputs = _on_device(batch, plan)
    forward, both = 0.0, 0.0
    with random_states_kept(), torch.set_grad_enabled(backward), plan.autocast():
        set_training_mode(model, parameters) if backward else model.eval()
        for _ in range(2):
            started = time.perf_counter()
            logits = model(**inputs).logits
            logits[0, 0].item()  # Waits for a GPU.
            forward = time.perf_counter() - started
            if backward:
                logits.float().logsumexp(dim=1).sum().backward()
                next(p.grad for p in model.parameters() if p.grad is not None).sum().item()
                both = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    if plan.precision != "fp32":
        forward = _seconds_of_prediction(model, inputs, plan)
    return both / batch.tokens, forward / batch.tokens


def _seconds_of_prediction(model: nn.Module, inputs: dict[str, torch.Tensor], plan: DevicePlan) -> float:
    """Seconds of one prediction pass, which is in float32 even if training is in 16 bits."""
    model.eval()
    with torch.inference_mode(), full_precision(plan.device):
        for _ in range(2):
            started = time.perf_counter()
            model(**inputs).logits[0, 0].item()  # Waits for a GPU.
    return time.perf_counter() - started
