"""A batch's shares side by side: replicas of the model, each on CPU threads of its own.

Threads that work on one pass together wait for each other after every operation, and have too little to share in the
small ones. Replicas meet once per optimizer step. The gradient is the same sum.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from tenor.checks.gather.batches import random_states_kept
from tenor.data.batching import Examples
from tenor.inference.logits import Forward
from tenor.model.device import DevicePlan
from tenor.model.dropout import set_generator
from tenor.model.side_by_side import use_threads

MOST_REPLICAS = 4
"""Each holds a gradient of its own for every weight that learns."""
LEAST_TOKENS = 256
"""Tokens of a share below which a replica costs more than it brings."""

Result = TypeVar("Result")


class Replicas:
    """A model and copies of it that share its weights: a context manager, within which they have threads.

    Dropout draws from a generator of each replica's own, which starts anew with every step: masks depend on the seed
    and the step alone, so that a resumed run draws the same ones.
    """

    def __init__(self, model: nn.Module, count: int, threads: int, seed: int) -> None:
        self.models = (model, *(share_weights(model) for _ in range(count - 1)))
        for replica in self.models[1:]:
            _share_listeners(model, replica)
        self.seed, self.threads = seed, threads
        self._generators = [torch.Generator() for _ in range(count)]
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Replicas":
        if len(self.models) > 1:
            for model, generator in zip(self.models, self._generators, strict=True):
                set_generator(model, generator)
            share = self.threads // len(self.models)
            self._pool = ThreadPoolExecutor(len(self.models), "replica", use_threads, (share,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            set_generator(self.models[0], None)

    def run(
        self, step: int, work: Callable[[nn.Module, np.ndarray], Result], shares: Sequence[np.ndarray]
    ) -> list[Result]:
        """`work` for every share with a replica of its own, at most one share each; results in the order of the shares.

        The gradients are the model's afterwards, added in the order of the replicas: the same sum each time. What is
        raised by a share is raised here, once all have ended.
        """
        if self._pool is None:
            return [work(self.models[0], share) for share in shares]
        return self._run_side_by_side(self._pool, step, work, shares)

    def _run_side_by_side(
        self,
        pool: ThreadPoolExecutor,
        step: int,
        work: Callable[[nn.Module, np.ndarray], Result],
        shares: Sequence[np.ndarray],
    ) -> list[Result]:
        for index, generator in enumerate(self._generators):
            generator.manual_seed(int(np.random.SeedSequence([self.seed, step, index]).generate_state(1)[0]))
        replicas = self.models[: len(shares)]
        futures = [pool.submit(work, model, share) for model, share in zip(replicas, shares, strict=True)]
        wait(futures)
        results = [future.result() for future in futures]
        for replica in replicas[1:]:
            _move_gradients(replica, self.models[0])
        return results


def replicas_for(model: nn.Module, plan: DevicePlan, batch_size: int, examples: Examples, forward: Forward) -> int:
    """How many train fastest: one on a GPU, on a CPU as many as share its threads evenly and have enough to do.

    One as well where dropout draws from the generator that all share (attention dropout above 0 does): the threads
    would race for its numbers, and no run could be repeated.
    """
    if plan.device != "cpu":
        return 1
    enough = int(batch_size * float(examples.lengths.mean()) / LEAST_TOKENS)
    most = min(MOST_REPLICAS, plan.threads, batch_size, enough)
    count = max((count for count in range(1, most + 1) if plan.threads % count == 0), default=1)
    if count > 1 and draws_shared_numbers(model, examples, forward):
        return 1
    return count


def share_weights(model: nn.Module) -> nn.Module:
    """A copy of `model` with gradients of its own, whose weights lie in the memory of the model's."""
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, shared)


def draws_shared_numbers(model: nn.Module, examples: Examples, forward: Forward) -> bool:
    """Whether a pass in training mode draws from PyTorch's own generator, found by one of a copy, over the first row.

    The generator is as before afterwards.
    """
    probe = share_weights(model)
    set_generator(probe, torch.Generator())
    with random_states_kept(), torch.no_grad():
        state = torch.get_rng_state()
        forward(probe.train(), examples.collate(np.arange(1)).inputs)
        return not torch.equal(state, torch.get_rng_state())


def _share_listeners(model: nn.Module, replica: nn.Module) -> None:
    """Whoever listens to the model's forward passes, such as the watchdog, hears those of the replica too."""
    for heard, copied in zip(model.modules(), replica.modules(), strict=True):
        copied._forward_hooks = heard._forward_hooks
        copied._forward_hooks_with_kwargs = heard._forward_hooks_with_kwargs


def _move_gradients(source: nn.Module, target: nn.Module) -> None:
    """Add the gradients of `source` to those of `target`, and leave it none."""
    for given, taken in zip(source.parameters(), target.parameters(), strict=True):
        if given.grad is not None:
            taken.grad = given.grad if taken.grad is None else taken.grad.add_(given.grad)
            given.grad = None
