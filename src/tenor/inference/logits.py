"""Examples → logits, in length-sorted batches."""

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import nn

from tenor.data.batching import Examples, sequential_batches
from tenor.errors import advice_on_memory
from tenor.model.device import DevicePlan, full_precision
from tenor.model.first_token import pads_exactly
from tenor.model.side_by_side import evaluation_mode, map_side_by_side

TOLERANCE = 1e-4
"""Relative to the largest logit: a hundred times what float32 loses where sums are made in another order."""

Forward = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
"""Model and inputs → one row of numbers per example."""


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
    """What `forward` gives for every example, float32, shape (rows, width), in the order of the examples.

    Computed in float32 whatever type the training uses: validation, evaluation, calibration and `Predictor` report the
    same numbers. A row's result doesn't depend on the others: where padding would change it, every row is a batch. The
    model is in evaluation mode meanwhile and as before afterwards, also where calls overlap. `advance` gets the number
    of rows of each batch.

    Raises:
        TenorError: memory ran out.
    """
    mend = f"lower evaluation.token_budget (now {plan.prediction_tokens:,} tokens per forward pass)"

    def compute(rows: np.ndarray) -> np.ndarray:
        batch = examples.collate(rows)
        with torch.inference_mode(), full_precision(plan.device):
            output = forward(model, {name: tensor.to(plan.device) for name, tensor in batch.inputs.items()})
            return output.float().cpu().numpy()

    with evaluation_mode(model), advice_on_memory("in a pass without gradients", mend):
        tried = _rows_to_try(model, examples.lengths, plan.prediction_tokens)
        if tried is None or same_logits(compute(tried[:1])[0], compute(tried)[0]):
            batches = sequential_batches(examples.lengths, plan.prediction_tokens)
        else:
            batches = sequential_batches(examples.lengths, 1)
        results = compute_rows(compute, batches, plan.passes_side_by_side, advance)
    if results is None:
        raise ValueError("there are no examples to predict")
    return results


def _rows_to_try(model: nn.Module, lengths: np.ndarray, token_budget: int) -> np.ndarray | None:
    """The shortest row, and the longest that may share its batch; None where padding is known to change nothing, or
    none is needed.

    Some models (ConvBERT, FNet) mix padding into a row, masked or not: their rows are computed one by one.
    """
    if pads_exactly(model) or not len(lengths):
        return None
    fitting = np.where(2 * lengths <= token_budget, lengths, 0)
    rows = np.array([lengths.argmin(), fitting.argmax()])
    return rows if lengths[rows[0]] < fitting[rows[1]] else None


def same_logits(alone: np.ndarray, among_others: np.ndarray) -> bool:
    """Whether a row's logits, both (K,), differ by rounding only."""
    return bool(np.abs(alone - among_others).max() <= TOLERANCE * max(1.0, float(np.abs(alone).max())))


def compute_rows(
    compute: Callable[[np.ndarray], np.ndarray],
    batches: Sequence[np.ndarray],
    side_by_side: int,
    advance: Callable[[int], None],
) -> np.ndarray | None:
    """What `compute` gives for every batch of row indices, float32, shape (rows, width), in the order of the rows.

    So many batches are computed at a time (`map_side_by_side`). `advance` hears how many rows each held. None without
    any batch.
    """
    results: np.ndarray | None = None
    with closing(map_side_by_side(compute, batches, side_by_side)) as outputs:
        for rows, output in zip(batches, outputs, strict=True):
            if results is None:
                results = np.empty((sum(len(batch) for batch in batches), output.shape[1]), dtype=np.float32)
            results[rows] = output
            advance(len(rows))
    return results
