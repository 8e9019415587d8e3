"""Engines that compute logits: PyTorch in float32 or bfloat16, and ONNX Runtime in float32 or int8."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tenor.data.batching import least_padding
from tenor.errors import TenorError, UserError, first_line, is_out_of_memory
from tenor.inference.logits import compute_rows
from tenor.inference.texts import Framing
from tenor.model.device import DevicePlan, Precision, full_precision
from tenor.model.speed import with_first_token_layer
from tenor.model.tokenizer import embedding_count

TOLERANCE = 1e-5
"""Relative to the largest logit: the rounding error of float32 when a few layers sum in another order."""


def fast_model(model: Any) -> Any:
    """`model` with the last layer computed only for the first token, or `model` itself if that changes the logits.

    `model` must be in evaluation mode and is not changed; the result shares its weights.
    """
    shorter = with_first_token_layer(model)
    return shorter if shorter is not model and _agree(model, shorter) else model


def _agree(model: Any, other: Any) -> bool:
    """Whether both models give the same logits for two rows of arbitrary tokens, one of them padded."""
    device = next(model.parameters()).device
    ids = torch.arange(16, device=device).remainder(embedding_count(model) or 16).view(2, 8)
    mask = torch.ones_like(ids)
    if model.config.pad_token_id is None:
        ids, mask = ids[:1], mask[:1]
    else:
        mask[1, 5:] = 0
    with torch.inference_mode():
        expected, observed = (each(input_ids=ids, attention_mask=mask).logits for each in (model, other))
    return bool((observed - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.abs().max())))


EngineName = Literal["torch", "torch-bf16", "onnx", "onnx-int8"]
INSTALL_ONNX = 'pip install "tenor[onnx]"'
PASSES_PER_BUDGET = 64
"""The fixed cost of a forward pass is about 1/64 of the cost of a full one: measured on a CPU, where a pass of 64
tokens takes as long as 90 tokens of a large pass."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Engine:
    """Computes the logits of one batch.

    `run` maps inputs, int64, shape (rows, longest), to logits, float32, shape (rows, K). The inputs have no
    `attention_mask` if no row is padded.
    """

    name: EngineName
    run: Callable[[dict[str, np.ndarray]], np.ndarray]
    side_by_side: int = 1
    """Forward passes that may run at once and share the planned CPU threads; ONNX Runtime has separate threads."""
    rows_alone: bool = False
    """Whether a row's logits depend on its batch, so that every row needs a batch to itself."""


def torch_engine(model: Any, plan: DevicePlan, precision: Precision = "fp32") -> Engine:
    """PyTorch on the planned device, with the fastest form of the model; matrix products in the given type."""
    plan = replace(plan, precision=precision)
    tokens = embedding_count(model)
    fast = fast_model(model.eval().to(plan.device))

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        rows, length = inputs["input_ids"].shape
        if tokens is not None and (largest := int(inputs["input_ids"].max())) >= tokens:
            raise UserError(
                f"{model.name_or_path}: the tokenizer gives token id {largest:,}, expected less than {tokens:,}, the "
                "number of the model's token embeddings. Use tokenizer and weights from the same model"
            )
        with torch.inference_mode(), full_precision(plan.device), plan.autocast():
            tensors = {name: torch.from_numpy(array).to(plan.device) for name, array in inputs.items()}
            try:
                return fast(**tensors).logits.float().cpu().numpy()
            # Sizes that don't fit one another, texts that are too short (CANINE), or a model that needs other inputs
            # than text raise errors of many types.
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise UserError(
                    f"{model.name_or_path}: the model can't compute {rows} texts of {length} tokens: "
                    f"{type(error).__name__}: {first_line(error)}. Its config.json may be of another model, it may "
                    "need other inputs than text, or longer texts"
                ) from error

    return Engine("torch" if precision == "fp32" else "torch-bf16", run, plan.passes_side_by_side)


def onnx_engine(path: Path, name: EngineName, threads: int, classes: int) -> Engine:
    """An ONNX file on the CPU.

    In int8 every row is a batch to itself: the last bits of a number depend on the shape of the batch and can change a
    rounding by a whole step (measured: up to 0.0014 in a probability). So a row gets the same result with any others.

    Raises:
        UserError: ONNX Runtime is missing or can't load the file, or the file does not have `classes` outputs.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    alone = name == "onnx-int8"
    options.intra_op_num_threads = 1 if alone else threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise UserError(f"{path}: ONNX Runtime can't load it: {str(error).splitlines()[0]}. Export again") from error
    outputs = session.get_outputs()[0].shape[-1]
    if outputs != classes:
        raise UserError(
            f"{path}: the model has {outputs} outputs for {classes} class names. Restore the folder, or export again"
        )
    input_names = {node.name for node in session.get_inputs()}

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        full = {"attention_mask": np.ones_like(inputs["input_ids"]), **inputs}
        try:
            return session.run(None, {name: array for name, array in full.items() if name in input_names})[0]
        except Exception as error:  # As above.
            raise TenorError(f"{path}: ONNX Runtime can't compute: {str(error).splitlines()[0]}") from error

    return Engine(name, run, threads if alone else 1, rows_alone=alone)


def onnx_installed() -> bool:
    """Whether all packages of the extra `onnx` are installed."""
    return all(find_spec(name) is not None for name in ONNX_PACKAGES)


def require_onnx() -> None:
    """Raises UserError, with the command to install it, if a package of the extra `onnx` is missing."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs packages that are not installed: {', '.join(missing)}. Install them: {INSTALL_ONNX}"
        )


def run_rows(
    engine: Engine,
    rows: Sequence[np.ndarray],
    framing: Framing,
    token_budget: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """Logits of all rows, float32, shape (rows, K), in the order of `rows`; shape (0, 0) without rows.

    `advance` is called with the number of rows of each batch.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    batches = _batches(lengths, engine.rows_alone or framing.pad_id is None, token_budget)

    def compute(batch: np.ndarray) -> np.ndarray:
        return engine.run(padded([rows[index] for index in batch], framing))

    logits = compute_rows(compute, batches, engine.side_by_side, advance)
    return np.empty((0, 0), dtype=np.float32) if logits is None else logits


def padded(rows: Sequence[np.ndarray], framing: Framing) -> dict[str, np.ndarray]:
    """The model's inputs for `rows`, padded on the right to the longest row."""
    lengths = np.array([len(row) for row in rows])
    longest = int(lengths.max())
    mask = np.arange(longest) < lengths[:, None]
    input_ids = np.full((len(rows), longest), framing.pad_id or 0, dtype=np.int64)
    input_ids[mask] = np.concatenate(rows)
    inputs = {"input_ids": input_ids}
    if framing.token_types is not None:
        types = np.zeros_like(input_ids)
        types[mask] = np.concatenate([framing.types_of(length) for length in lengths])
        inputs["token_type_ids"] = types
    # Without padding no mask is needed, and attention is faster without one.
    return inputs if mask.all() else {**inputs, "attention_mask": mask.astype(np.int64)}


def _batches(lengths: np.ndarray, rows_alone: bool, token_budget: int) -> list[np.ndarray]:
    budget = 1 if rows_alone else token_budget
    return least_padding(lengths, budget, pass_cost=token_budget // PASSES_PER_BUDGET)
