"""Compute the logits of examples in batches sorted by length."""

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import nn

from tenor.data.batching import Examples, sequential_batches
from tenor.errors import advice_on_memory
from tenor.model.device import DevicePlan, full_precision
from tenor.model.speed import evaluation_mode, map_side_by_side, pads_exactly

TOLERANCE = 1e-4
"""Relative to the largest logit: a hundred times the rounding error of float32 when sums change their order."""

Forward = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
"""Maps a model and the inputs of a batch to one row of numbers per example."""


def token_logits(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A `transformers` classifier's logits, shape (rows, K)."""
    return model(**inputs).logits


def predict(
    model: nn.Module,
    examples: Examples,
    plan: DevicePlan,
    forward: Forward = token_logits,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """The output of `forward` for all examples, float32, shape (rows, width), in the order of the examples.

    Always computed in float32, also after training in bfloat16, so that validation, evaluation, calibration and
    `Predictor` report the same numbers. A row's result doesn't depend on other rows: if padding would change it, every
    row is a batch. The model is in evaluation mode during the call and then returns to its previous mode, also if calls
    overlap. `advance` is called with the number of rows of each batch.

    Raises:
        TenorError: memory ran out.
    """
    fix = f"lower evaluation.token_budget (now {plan.prediction_tokens:,} tokens per forward pass)"

    def compute(rows: np.ndarray) -> np.ndarray:
        batch = examples.collate(rows)
        with torch.inference_mode(), full_precision(plan.device):
            output = forward(model, {name: tensor.to(plan.device) for name, tensor in batch.inputs.items()})
            return output.float().cpu().numpy()

    with evaluation_mode(model), advice_on_memory("in a forward pass without gradients", fix):
        probe = _probe_rows(model, examples.lengths, plan.prediction_tokens)
        if probe is None or same_logits(compute(probe[:1])[0], compute(probe)[0]):
            batches = sequential_batches(examples.lengths, plan.prediction_tokens)
        else:
            batches = sequential_batches(examples.lengths, 1)
        results = compute_rows(compute, batches, plan.passes_side_by_side, advance)
    if results is None:
        raise ValueError("no examples to predict, expected at least one")
    return results


def _probe_rows(model: nn.Module, lengths: np.ndarray, token_budget: int) -> np.ndarray | None:
    """The shortest row and the longest that fits into a batch with it; None if no padding is needed or it is harmless.

    Some models (ConvBERT, FNet) mix padding into a row even if it is masked: their rows are computed one by one.
    """
    if pads_exactly(model) or not len(lengths):
        return None
    fitting = np.where(2 * lengths <= token_budget, lengths, 0)
    rows = np.array([lengths.argmin(), fitting.argmax()])
    return rows if lengths[rows[0]] < fitting[rows[1]] else None


def same_logits(alone: np.ndarray, among_others: np.ndarray) -> bool:
    """Whether the logits of a row alone and in a batch, both of shape (K,), differ only by rounding."""
    return bool(np.abs(alone - among_others).max() <= TOLERANCE * max(1.0, float(np.abs(alone).max())))


def compute_rows(
    compute: Callable[[np.ndarray], np.ndarray],
    batches: Sequence[np.ndarray],
    side_by_side: int,
    advance: Callable[[int], None],
) -> np.ndarray | None:
    """The results of `compute` for batches of row indices, float32, shape (rows, width), in the order of the rows.

    Up to `side_by_side` batches are computed at once (`map_side_by_side`). `advance` is called with the number of rows
    of each batch. None without batches.
    """
    results: np.ndarray | None = None
    with closing(map_side_by_side(compute, batches, side_by_side)) as outputs:
        for rows, output in zip(batches, outputs, strict=True):
            if results is None:
                results = np.empty((sum(len(batch) for batch in batches), output.shape[1]), dtype=np.float32)
            results[rows] = output
            advance(len(rows))
    return results
