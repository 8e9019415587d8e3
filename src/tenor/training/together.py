"""What all processes of a training do together besides its steps: start with the same weights, and predict."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from tenor.data.batching import Batch, Examples, deal
from tenor.inference.logits import Forward, predict
from tenor.model.device import DevicePlan
from tenor.training.checkpoint import TrainState, optimizer_tensors, restore_optimizer
from tenor.training.processes import Processes


def start_together(
    processes: Processes, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState
) -> TrainState:
    """Give every process the main one's weights, optimizer state and position, which it may have read from a
    checkpoint: so the others need no access to its disk."""
    if processes.count == 1:
        return state
    copy_weights(processes, model)
    tensors = optimizer_tensors(optimizer)
    shapes = processes.share(
        {name: [list(one.shape), str(one.dtype).removeprefix("torch.")] for name, one in tensors.items()}
    )
    if not processes.is_main:
        tensors = {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in shapes.items()}
    processes.copy_from_main([tensors[name] for name in shapes])
    if not processes.is_main:
        restore_optimizer(optimizer, tensors)
    return TrainState.from_dict(processes.share(asdict(state)))


def copy_weights(processes: Processes, model: nn.Module) -> None:
    """Give every process the main one's weights."""
    processes.copy_from_main(list(model.state_dict().values()))


@dataclass(frozen=True)
class ShareOfExamples:
    """Some rows of other examples, numbered from 0."""

    examples: Examples
    rows: np.ndarray
    """Their numbers in `examples`, shape (rows,)."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        return self.examples.lengths[self.rows]

    @property
    def labels(self) -> np.ndarray:
        return self.examples.labels[self.rows]

    def collate(self, rows: np.ndarray, rounded: bool = False) -> Batch:
        return self.examples.collate(self.rows[rows], rounded)


def predict_in_shares(
    processes: Processes,
    model: nn.Module,
    examples: Examples,
    plan: DevicePlan,
    forward: Forward,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """`predict` with a share of the rows in each process; every process returns the result for all rows.

    `advance` is called with numbers of rows, as if all processes were equally fast.
    """
    if processes.count == 1:
        return predict(model, examples, plan, forward, advance)
    shares = deal(np.arange(len(examples)), examples.lengths, processes.count)
    own = np.zeros((0, 0), dtype=np.float32)
    if processes.rank < len(shares):
        left = len(examples)

        def advance_all(rows: int) -> None:
            nonlocal left
            advance(min(left, rows * processes.count))
            left -= min(left, rows * processes.count)

        share = ShareOfExamples(examples, shares[processes.rank])
        own = predict(model, share, plan, forward, advance_all)
        if left:
            advance(left)
    width = max(processes.gather(own.shape[1]))
    parts = processes.gather_arrays(own if own.size else np.zeros((0, width), dtype=np.float32))
    results = np.empty((len(examples), width), dtype=np.float32)
    for rows, part in zip(shares, parts, strict=False):  # Processes beyond the last share have no rows.
        results[rows] = part
    return results
