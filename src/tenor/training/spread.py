"""How the work of an optimizer step is spread: over processes, and within one over replicas on CPU threads.

The training loop calls `spread_for` and the two members of `Spread`, and names no implementation.

Every process runs the whole loop with the same batches and computes its share of each. After the last pass of a step,
one small exchange adds up losses and counts and tells all of a signal, and one large exchange averages the gradients.
PyTorch's DistributedDataParallel would overlap the large one with the backward pass, but it needs the same number of
passes in every process, a row for every process, and a single model in it, where Tenor has replicas.

Threads that compute one pass together synchronize after every operation, and small operations have too little work for
several threads. Replicas share the weights, each computes a share of the batch on its own threads, and they synchronize
once per optimizer step. The gradient is the same sum.
"""

import copy
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import reduce
from operator import add
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from torch import nn

from tenor.checks.gather.batches import random_states_kept
from tenor.data.batching import Examples
from tenor.inference.logits import Forward
from tenor.model.device import DevicePlan
from tenor.model.speed import set_generator, use_threads
from tenor.training.gradients import BatchSums, ComputeGradients, StepBatch, no_sums
from tenor.training.signals import SIGNALS, StopRequest
from tenor.training.task import TrainingTask


class Spread(Protocol):
    """A context manager: threads exist within the block."""

    @property
    def model(self) -> nn.Module:
        """The model that the optimizer updates, and that is validated and saved."""

    def run(self, batch: StepBatch) -> BatchSums:
        """Compute the gradient of the whole batch into the parameters of `model`, whose gradients are None before."""

    def __enter__(self) -> "Spread": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OneModel:
    """The whole batch in the calling thread, which PyTorch may spread over its own threads."""

    def __init__(self, model: nn.Module, compute_gradients: ComputeGradients) -> None:
        self.model, self._compute_gradients = model, compute_gradients

    def run(self, batch: StepBatch) -> BatchSums:
        return self._compute_gradients(self.model, batch)

    def __enter__(self) -> "OneModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def spread_for(task: TrainingTask, compute_gradients: ComputeGradients, stop: StopRequest) -> Spread:
    """The spread that trains the task fastest on its device."""
    within = spread_within(task, compute_gradients)
    return within if task.processes.count == 1 else AcrossProcesses(task, within, stop)


def spread_within(task: TrainingTask, compute_gradients: ComputeGradients) -> Spread:
    """The spread of one process's share over its threads."""
    processes = task.processes
    share_size = -(-task.settings.batch_size // processes.count)
    count = replicas_for(task.model, task.plan, share_size, task.train, task.forward)
    if count == 1:
        return OneModel(task.model, compute_gradients)
    first = processes.rank * MOST_REPLICAS
    return Replicas(task.model, compute_gradients, count, task.plan.threads, task.seed, first)


MOST_REPLICAS = 4
"""Each replica has its own gradient for every trainable parameter."""
LEAST_TOKENS = 256
"""Tokens per share below which a replica costs more time than it saves."""


class Replicas:
    """The model and copies of it that share its weights: a `Spread`, whose threads exist within the block.

    Each replica has its own random generator for dropout, seeded again at every step from the seed, the step and the
    replica's index, which counts from `first_index`: a resumed run draws the same masks.
    """

    def __init__(
        self,
        model: nn.Module,
        compute_gradients: ComputeGradients,
        count: int,
        threads: int,
        seed: int,
        first_index: int = 0,
    ) -> None:
        self.model = model
        self.models = (model, *(share_weights(model) for _ in range(count - 1)))
        for replica in self.models[1:]:
            _share_hooks(model, replica)
        self._compute_gradients, self._threads, self._seed = compute_gradients, threads, seed
        self._first_index = first_index
        self._generators = [torch.Generator() for _ in range(count)]
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Replicas":
        for model, generator in zip(self.models, self._generators, strict=True):
            set_generator(model, generator)
        threads_each = self._threads // len(self.models)
        self._pool = ThreadPoolExecutor(len(self.models), "replica", use_threads, (threads_each,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            set_generator(self.model, None)

    def run(self, batch: StepBatch) -> BatchSums:
        """Compute one share of the batch per replica, at the same time; the model then has the gradient of the batch.

        Gradients and sums are added in the order of the replicas, so the result is the same each time. An error in a
        share is raised here, after all shares have ended.
        """
        if self._pool is None:
            raise RuntimeError("Replicas.run was called outside of the `with` block")
        self._seed_generators(batch.step)
        shares = batch.shares(len(self.models))
        replicas = self.models[: len(shares)]  # A small batch has fewer rows than there are replicas.
        futures = [
            self._pool.submit(self._compute_gradients, replica, share)
            for replica, share in zip(replicas, shares, strict=True)
        ]
        wait(futures)
        sums = reduce(add, [future.result() for future in futures])
        _move_gradients(replicas[1:], self.model)
        return sums

    def _seed_generators(self, step: int) -> None:
        for index, generator in enumerate(self._generators, self._first_index):
            generator.manual_seed(seed_of(self._seed, step, index))


def seed_of(seed: int, step: int, index: int) -> int:
    """The seed of the dropout of one replica, by its index among those of all processes, in one step of a run."""
    return int(np.random.SeedSequence([seed, step, index]).generate_state(1)[0])


class AcrossProcesses:
    """One share of every batch in each process, by a spread within it: a `Spread`, which all processes run together.

    In each process the gradient is that of the mean loss of about its share, and the mean of all gradients is that of
    the whole batch: the checks see losses and gradients of the usual scale. The random state of dropout is set at every
    step from the seed, the step and the process's rank, so that a checkpoint contains no process's own state.
    """

    def __init__(self, task: TrainingTask, within: Spread, stop: StopRequest) -> None:
        self.model = task.model
        self._task, self._within, self._stop = task, within, stop
        self._trainable = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self._joined: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def __enter__(self) -> "AcrossProcesses":
        self._within.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._within.__exit__(kind, error, trace)

    def run(self, batch: StepBatch) -> BatchSums:
        """Compute this process's share, which has no row in a batch of fewer rows than processes.

        Raises:
            TenorError: another process ended.
        """
        processes = self._task.processes
        shares = batch.shares(processes.count)
        sums = no_sums(len(self._task.class_names))
        if processes.rank < len(shares):
            torch.manual_seed(seed_of(self._task.seed, batch.step, processes.rank * MOST_REPLICAS))
            share = replace(shares[processes.rank], weight=batch.weight / processes.count)
            sums = self._within.run(share)
        sums, have_gradient = self._summed(sums)
        self._average(p for p, has in zip(self._trainable, have_gradient, strict=True) if has)
        return sums

    def _summed(self, sums: BatchSums) -> tuple[BatchSums, list[bool]]:
        """The sums of all processes, and which parameters have a gradient in any; a signal in any stops all."""
        signals = [self._stop.received == number.name for number in SIGNALS]
        gradients = [parameter.grad is not None for parameter in self._trainable]
        numbers = torch.tensor([sums.loss, *signals, *sums.predicted_counts, *gradients], dtype=torch.float64)
        self._task.processes.add(numbers)
        loss, values = float(numbers[0]), numbers[1:].round().long().numpy()
        sent, counts, gradients_of = np.split(values, np.cumsum([len(SIGNALS), len(sums.predicted_counts)]))
        self._stop.signal_name = next((one.name for one, times in zip(SIGNALS, sent, strict=True) if times), "")
        return BatchSums(loss, counts, sums.rows), [bool(times) for times in gradients_of]

    def _average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes: joined, in one exchange per device and type."""
        groups: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
        for parameter in parameters:
            groups.setdefault((parameter.device, parameter.dtype), []).append(parameter)
        for kind, members in groups.items():
            size = sum(parameter.numel() for parameter in members)
            if kind not in self._joined or len(self._joined[kind]) < size:
                self._joined[kind] = torch.empty(size, device=kind[0], dtype=kind[1])
            joined = self._joined[kind][:size]
            for parameter, part in zip(members, joined.split([p.numel() for p in members]), strict=True):
                if parameter.grad is None:
                    part.zero_()
                else:
                    part.copy_(parameter.grad.detach().reshape(-1))
                parameter.grad = part.view_as(parameter)
            self._task.processes.add(joined)
            joined.div_(self._task.processes.count)


def replicas_for(model: nn.Module, plan: DevicePlan, batch_size: int, examples: Examples, forward: Forward) -> int:
    """The number of replicas that train fastest.

    One on a GPU. On a CPU the largest number up to `MOST_REPLICAS` that divides the threads evenly and leaves enough
    work for each. One also where dropout draws from PyTorch's global generator (attention dropout above 0 does):
    several threads would draw from it in an order that no other run repeats.
    """
    if plan.device != "cpu":
        return 1
    enough_work = int(batch_size * float(examples.lengths.mean()) / LEAST_TOKENS)
    most = min(MOST_REPLICAS, plan.threads, batch_size, enough_work)
    count = max((count for count in range(1, most + 1) if plan.threads % count == 0), default=1)
    if count > 1 and draws_shared_numbers(model, examples, forward):
        return 1
    return count


def share_weights(model: nn.Module) -> nn.Module:
    """A copy of `model` with its own gradients, whose weights share the model's memory."""
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, shared)


def draws_shared_numbers(model: nn.Module, examples: Examples, forward: Forward) -> bool:
    """Whether a pass in training mode draws from PyTorch's global generator.

    Tried with a copy of the model on the first row. The generator's state is restored.
    """
    probe = share_weights(model)
    set_generator(probe, torch.Generator())
    with random_states_kept(), torch.no_grad():
        state = torch.get_rng_state()
        forward(probe.train(), examples.collate(np.arange(1)).inputs)
        return not torch.equal(state, torch.get_rng_state())


def _share_hooks(model: nn.Module, replica: nn.Module) -> None:
    """Let forward hooks on the model, such as the watchdog's, also see the passes of the replica."""
    for original, copied in zip(model.modules(), replica.modules(), strict=True):
        copied._forward_hooks = original._forward_hooks
        copied._forward_hooks_with_kwargs = original._forward_hooks_with_kwargs


def _move_gradients(sources: Sequence[nn.Module], target: nn.Module) -> None:
    """Add the gradients of each source to those of `target`, and set the source's to None."""
    for source in sources:
        for given, total in zip(source.parameters(), target.parameters(), strict=True):
            if given.grad is not None:
                total.grad = given.grad if total.grad is None else total.grad.add_(given.grad)
                given.grad = None
