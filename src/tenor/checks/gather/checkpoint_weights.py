"""The weights of a model compared with those of the checkpoint from which it was loaded, and weights in files."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenor.checks.gather.model_parts import ModelParts, hosts, token_embedding

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

SAMPLE = 2**14
"""Values of a matrix that are compared, from its first rows."""

FEWEST = 512
"""A smaller sample does not show whether two matrices are correlated."""

EQUAL = 0.02
"""Relative difference within which values are equal: a conversion to bfloat16 changes them by up to 1/256."""

UNRELATED = 0.1
"""Correlation with the checkpoint below which weights do not come from it; fine-tuning leaves it above 0.9."""

LIGHT_TAILS = 0.2
"""Excess kurtosis of random weights: 0 for a normal, -0.6 for a truncated normal and -1.2 for a uniform
distribution. Trained matrices have heavier tails."""


@dataclass(frozen=True)
class CheckpointComparison:
    """The encoder's matrices compared with the checkpoint that the configuration names."""

    replaced: tuple[str, ...]
    """Matrices with random values that are not those of the checkpoint."""
    compared: int
    was_loaded: bool
    """Whether `from_pretrained` marked parameters as loaded; `from_config` marks none."""
    rows_of_checkpoint: int | None = None
    """Rows of the token embedding in the checkpoint, if the model's is frozen and has more."""


def compared_with_checkpoint(model: nn.Module, parts: ModelParts, name: str = "") -> CheckpointComparison | None:
    """Compare with the checkpoint that the model's configuration names, or with `name` if it names none.

    None if there is no checkpoint on this machine, in safetensors format, with matrices of the same names."""
    parameters, replaced, compared = dict(model.named_parameters()), list[str](), 0
    table, fewer = getattr(token_embedding(model), "weight", None), None
    for path, host in hosts(model):
        with _Tensors(str(getattr(host, "name_or_path", "") or name)) as checkpoint:
            for name, p in parameters.items():
                is_matrix = name.startswith(path) and name in parts.encoder and p.ndim == 2
                if not is_matrix or not p.is_floating_point() or p.is_meta or hasattr(p, "full_tensor"):
                    continue
                source = parts.source_names.get(name, name.removeprefix(path))
                if p is table and not p.requires_grad:
                    known = checkpoint.length(source, host.base_model_prefix)
                    fewer = known if known is not None and known < len(p) else None
                rows = min(len(p), math.ceil(SAMPLE / max(1, p.shape[1])))
                original = checkpoint.rows(source, host.base_model_prefix, rows, p.shape[1])
                if original is None or original.numel() < FEWEST:
                    continue
                compared += 1
                if _is_random_instead_of(p.detach()[: len(original)].cpu().float(), original):
                    replaced.append(name)
    if not compared:
        return None
    loaded = any(getattr(parameters[name], "_is_hf_initialized", False) for name in parts.encoder)
    return CheckpointComparison(tuple(replaced), compared, loaded, fewer)


def _is_random_instead_of(own: torch.Tensor, original: torch.Tensor) -> bool:
    """Whether values are neither those of the checkpoint nor trained from them, and look newly initialized."""
    if torch.allclose(own, original, rtol=EQUAL, atol=1e-6):
        return False
    if not bool(original.std() > 0) or not bool(torch.isfinite(own).all()):
        return False
    if not bool(own.std() > 0):
        return True
    standard = (own - own.mean()) / own.std()
    correlation = float((standard * (original - original.mean()) / original.std()).mean())
    allowed = max(LIGHT_TAILS, 5 * math.sqrt(24 / own.numel()))
    is_related = abs(correlation) >= max(UNRELATED, 5 / math.sqrt(own.numel()))
    return not is_related and float((standard**4).mean()) - 3 < allowed


@dataclass
class _Tensors:
    """The tensors of a folder or of a repository in the hub's cache, read by name."""

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    """Tensor → file."""
    _open: dict[Path, Any] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "_Tensors":
        from safetensors import SafetensorError, safe_open

        for file in dict.fromkeys(_files(self.name)):
            try:
                self._open[file] = self._stack.enter_context(safe_open(file, framework="pt"))
            except (OSError, SafetensorError):  # The model was loaded from another file, or this one is broken since.
                continue
            self.files |= dict.fromkeys(self._open[file].keys(), file)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def rows(self, source: str, prefix: str, count: int, width: int) -> torch.Tensor | None:
        """The first rows of a matrix, float32; `prefix` is that of the encoder, which a checkpoint may omit."""
        matrix = self._slice(source, prefix)
        shape = [] if matrix is None else matrix.get_shape()
        return matrix[: min(count, shape[0])].float() if shape[1:] == [width] and count else None

    def length(self, source: str, prefix: str) -> int | None:
        """The number of rows of a matrix."""
        matrix = self._slice(source, prefix)
        return None if matrix is None else int(matrix.get_shape()[0])

    def _slice(self, source: str, prefix: str) -> Any:
        for key in (source, source.removeprefix(f"{prefix}."), f"{prefix}.{source}"):
            if key in self.files:
                return self._open[self.files[key]].get_slice(key)
        return None


def _files(name: str) -> Iterator[Path]:
    """The safetensors files of a model, on this machine."""
    for wanted in (SINGLE, INDEX):
        file = _local(name, wanted)
        if file is None:
            continue
        if wanted == SINGLE:
            yield file
            return
        shards = json.loads(file.read_text(encoding="utf-8")).get("weight_map", {})
        yield from (shard for part in sorted(set(shards.values())) if (shard := _local(name, part)) is not None)


def _local(name: str, file: str) -> Path | None:
    """A file of a folder, or of a repository in the hub's cache; None if it is not on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if not name or Path(name).is_dir():
        return Path(name) / file if name and (Path(name) / file).is_file() else None
    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:  # A folder that was removed.
        return None
    return Path(found) if isinstance(found, str) else None


def not_finite(model: nn.Module) -> tuple[str, ...]:
    """Parameters with a value that is NaN or infinite."""
    # A sum in float32 does not overflow, and needs no memory; NaN and infinity remain in it.
    sums = {name: _total(p.detach()) for name, p in model.named_parameters() if p.is_floating_point() and not p.is_meta}
    return tuple(name for name, value in sums.items() if not math.isfinite(float(value)))


def _total(tensor: torch.Tensor) -> torch.Tensor:
    """PyTorch adds up no numbers of 8 bits."""
    return tensor.sum(dtype=torch.float32) if tensor.element_size() > 1 else tensor.float().sum()


@dataclass(frozen=True)
class SavedWeights:
    """A file of weights."""

    file: Path
    names: tuple[str, ...]
    not_finite: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    """Number types as safetensors names them: F32, F16, BF16, …"""


def saved_weights(folder: Path) -> SavedWeights | None:
    """The weights or the adapter in a folder; None without a readable file of safetensors.

    All values are read, a tensor at a time.
    """
    from safetensors import SafetensorError, safe_open

    for name in (SINGLE, "adapter_model.safetensors"):
        if not (folder / name).is_file():
            continue
        try:
            with safe_open(folder / name, framework="pt") as tensors:
                names = tuple(tensors.keys())
                broken = tuple(key for key in names if _is_not_finite(tensors.get_tensor(key)))
                kinds = frozenset(str(tensors.get_slice(key).get_dtype()) for key in names)
        except (OSError, SafetensorError):  # Half written, as in a checkpoint of a killed run.
            return None
        return SavedWeights(folder / name, names, broken, kinds)
    return None


def _is_not_finite(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and not math.isfinite(float(_total(tensor)))


def layer_norms_of_old_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """LayerNorms named gamma and beta, as in the original BERT's checkpoints."""
    return tuple(name for name in names if name.endswith(("LayerNorm.gamma", "LayerNorm.beta")))


def head_in(names: tuple[str, ...], config: Mapping[str, Any], adapter: Mapping[str, Any] | None) -> bool | None:
    """Whether a file of weights contains a classification head; None if it is not that of a sequence classifier.

    A whole model has one if a tensor is outside of its encoder; an adapter, if a tensor is not that of an adapter.
    """
    from tenor.checks.gather.model_parts import is_named_as_added

    if adapter is not None:
        mapping = adapter.get("auto_mapping")
        architecture = str(mapping.get("base_model_class")) if isinstance(mapping, Mapping) else ""
        is_classifier = architecture.endswith("ForSequenceClassification") or adapter.get("task_type") == "SEQ_CLS"
        is_whole = any(not is_named_as_added(name) for name in names)
        # Where the adapter changes the head, the head itself is the base model's, which may have one.
        on_head = any(part in name.split(".") for name in names for part in HEADS)
        return None if not is_classifier or (on_head and not is_whole) else is_whole
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not str(architectures[:1]).endswith("ForSequenceClassification']"):
        return None
    return any(part in name.split(".") for name in names for part in HEADS)


HEADS = ("classifier", "score", "classification_head", "logits_proj", "pre_classifier", "sequence_summary", "decoder")
"""Names of the modules of heads in the classes for sequence classification of `transformers`."""
