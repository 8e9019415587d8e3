"""Examples → logits, in length-sorted batches."""

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import nn

from tenor.data.batching import Examples, sequential_batches
from tenor.errors import advice_on_memory
from tenor.model.device import DevicePlan
from tenor.model.modes import evaluation_mode
from tenor.model.side_by_side import map_side_by_side

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

    The model is in evaluation mode meanwhile and as before afterwards, also where calls overlap. `advance` hears how
    many rows each batch held.

    Raises:
        TenorError: memory ran out.
    """
    mend = f"lower evaluation.token_budget (now {plan.prediction_tokens:,} tokens per forward pass)"

    def compute(rows: np.ndarray) -> np.ndarray:
        batch = examples.collate(rows)
        with torch.inference_mode(), plan.autocast():
            output = forward(model, {name: tensor.to(plan.device) for name, tensor in batch.inputs.items()})
            return output.float().cpu().numpy()

    with evaluation_mode(model), advice_on_memory("in a pass without gradients", mend):
        batches = sequential_batches(examples.lengths, plan.prediction_tokens)
        results = compute_rows(compute, batches, plan.passes_side_by_side, advance)
    if results is None:
        raise ValueError("there are no examples to predict")
    return results


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


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities, float64, shape (rows, K)."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
