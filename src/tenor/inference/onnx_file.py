"""PyTorch model → ONNX file, in float32 or with 8-bit weights; kept in the cache where an engine needs one."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenor.errors import TenorError
from tenor.inference.engines import require_onnx
from tenor.inference.fast_model import fast_model
from tenor.inference.onnx_int8 import quantize_onnx
from tenor.model.classifier import quiet_transformers
from tenor.runs.cache import cached_file
from tenor.runs.process_state import warnings_ignored

CACHE_VERSION = 3
EXAMPLE_SHAPE = (2, 8)
"""Rows and tokens of the example that the exporter follows; both are free in the file."""


class _Logits(nn.Module):
    """A classifier's logits by plain tensors, as the exporter wants them."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True))).logits


def write_onnx(model: Any, path: Path, token_types: bool = False) -> None:
    """Write a classifier as one ONNX file with inputs `input_ids` and `attention_mask`.

    Rows and length are free. The last layer is computed for the first token alone where that gives the same logits.

    Raises:
        UserError: the extra `onnx` is not installed.
        TenorError: PyTorch's exporter can't follow this kind of model.
    """
    require_onnx()
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if token_types else ()))
    ids = torch.arange(EXAMPLE_SHAPE[0] * EXAMPLE_SHAPE[1]).view(EXAMPLE_SHAPE)
    ids = ids.remainder(model.get_input_embeddings().num_embeddings)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    example = (ids, mask, torch.zeros_like(ids))[: len(names)]
    wrapped = _Logits(fast_model(model.eval().to("cpu")), names).eval()
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                wrapped,
                example,
                str(path),
                input_names=list(names),
                output_names=["logits"],
                dynamo=True,
                dynamic_shapes={"inputs": tuple({0: "rows", 1: "length"} for _ in names)},
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # The exporter wraps whatever a model's code raises.
        raise TenorError(
            f"PyTorch's exporter can't follow {type(model).__name__}: {str(error).strip().splitlines()[0]}; "
            "predict with --engine torch, or export as safetensors"
        ) from error


def cached_onnx(model: Any, digest: str, int8: bool, token_types: bool = False) -> Path:
    """The ONNX file of a model, from the cache or made now; `digest` is that of its weights.

    A file in the cache that is not what was written is made anew. Raises as `write_onnx` does.
    """
    require_onnx()
    made_by = {name: version(name) for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")}
    key = json.dumps([CACHE_VERSION, digest, type(model).__name__, token_types, made_by], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:32]

    def in_float() -> Path:
        return cached_file("onnx", f"{name}.onnx", lambda path: write_onnx(model, path, token_types))

    if not int8:
        return in_float()
    return cached_file("onnx", f"{name}.int8.onnx", lambda path: quantize_onnx(in_float(), path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own insides; one export at a time in this process."""
    with warnings_ignored(), quiet_transformers():
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
