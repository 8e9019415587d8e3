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
from tenor.model.classifier import quiet_transformers
from tenor.runs.cache import cached_file
from tenor.runs.process_state import warnings_ignored

CACHE_VERSION = 2
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


def quantize_onnx(path: Path, target: Path) -> None:
    """Write `path` with 8-bit weights, activations quantized as they come (ONNX Runtime's dynamic quantization).

    Weights take 7 bits: processors without VNNI add pairs of products of 8-bit numbers in 16 bits, which saturates
    (2 · 255 · 127 > 32,767) and spoils results silently; with 7 bits it can't (2 · 255 · 64 = 32,640).

    Linear layers that narrow stay in float32: the head, and the second of each feed-forward block, where one scale for
    all inputs, past the activation function, loses the most. Of 500 reviews the demo's model labels 99.4% as in float32
    so, and 98.4% with these layers in 8 bits.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            str(path),
            str(target),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_narrowing_layers(path),
        )


def _narrowing_layers(path: Path) -> list[str]:
    """Names of the linear layers with more inputs than outputs."""
    import onnx

    graph = onnx.load(str(path)).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        shape = shapes.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if shape is not None and len(shape) == 2:
            swapped = any(one.name == "transB" and one.i for one in node.attribute)
            inputs, outputs = shape[::-1] if swapped else shape
            if inputs > outputs:
                found.append(node.name)
    return found


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
