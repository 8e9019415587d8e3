"""Evidence from a model, its tokenizer, its optimizer, its schedule and its device."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tenor.checks.evidence.data_evidence import BatchEvidence, TokenEvidence
from tenor.checks.evidence.model_evidence import ModelEvidence, ParameterRow, PrecisionEvidence
from tenor.checks.evidence.training_evidence import GroupRow, OptimizerEvidence, ScheduleEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.checkpoint_weights import compared_with_checkpoint, not_finite
from tenor.checks.gather.intentions import attribute_settings, not_saved, repeated_modules
from tenor.checks.gather.model_parts import (
    ModelParts,
    classifier_config,
    embedding_rows,
    find_parts,
    hosts,
    is_bare_encoder,
    is_named_as_added,
    unwrapped,
)
from tenor.checks.probes.trace import Trace
from tenor.data.sequences import array_of
from tenor.errors import UserError
from tenor.model.device import DTYPES, native_bf16
from tenor.model.freezing import anatomy
from tenor.model.tokenizer import knows_words, load_tokenizer
from tenor.runs.process_state import warnings_ignored

UNIFORM = 0.9
"""A layer of some hundred uniformly drawn weights has at least this share of the distribution's standard deviation."""


def model_evidence(
    model: nn.Module,
    n_classes: int,
    class_names: Sequence[str] | None = None,
    declared_freeze: Literal["none", "base"] | int | None = None,
    keep_trainable: Sequence[str] = (),
    new_weights: Sequence[str] | None = None,
    *,
    unused_weights: Sequence[str] | None = None,
    pretrained: bool | None = None,
    trace: Trace | None = None,
    checkpoint: str = "",
) -> ModelEvidence:
    """Evidence from any module: a `transformers` classifier, a PEFT model, a custom module with an encoder inside.

    `trace` is a recorded forward pass of the unwrapped model; without it the number of outputs is read from the head's
    layers. `pretrained` defaults to true where `new_weights` (the names that `from_pretrained` reports as missing) are
    given. `checkpoint` is the name or folder of the pretrained weights for a model whose configuration names none.
    """
    model = unwrapped(model)
    config = classifier_config(model)
    id2label = getattr(config, "id2label", None)
    parts = _parts(model, trace)
    comparison = compared_with_checkpoint(model, parts, checkpoint)
    return ModelEvidence(
        parameters=tuple(_row(name, p, parts, trace) for name, p in model.named_parameters()),
        n_classes=n_classes,
        n_outputs=_outputs(model, parts, config) if trace is None else trace.n_outputs,
        output_layer=(trace.output_layer or None) if trace is not None else None,
        output_layer_is_new=None if trace is None else _looks_new(model, trace.output_layer),
        output_gain=None if trace is None else _output_gain(model, trace.output_layer, new_weights),
        class_names=None if class_names is None else tuple(class_names),
        id2label=dict(id2label) if isinstance(id2label, Mapping) else None,
        new_weights=None if new_weights is None else _present_names(new_weights, parts),
        unused_weights=None if unused_weights is None else tuple(unused_weights),
        pretrained=True if pretrained is None and new_weights is not None else pretrained,
        declared_freeze=declared_freeze,
        declared_frozen=_declared_frozen(model, parts, declared_freeze),
        keep_trainable=tuple(keep_trainable),
        problem_type=getattr(config, "problem_type", None),
        attributes=attribute_settings(model, parts.added),
        not_finite=not_finite(model),
        not_saved=not_saved(
            model, parts, _new_and_used(model, parts, new_weights, trace), None if trace is None else trace.used
        ),
        unregistered=None if trace is None else trace.unregistered,
        replaced=None if comparison is None else comparison.replaced,
        known_tokens=None if comparison is None else comparison.rows_of_checkpoint,
        compared=0 if comparison is None else comparison.compared,
        was_loaded=None if comparison is None else comparison.was_loaded,
        repeated_modules=repeated_modules(model),
    )


def optimizer_evidence(model: nn.Module, optimizer: Any, *, trace: Trace | None = None) -> OptimizerEvidence:
    """The optimizer's groups, with their peak rate (`peak_lr`, `max_lr` or `initial_lr`), else `lr`."""
    model = unwrapped(model)
    inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [
        GroupRow(
            names=tuple(names[id(p)] for p in group["params"] if id(p) in names),
            foreign=sum(id(p) not in names for p in group["params"]),
            learning_rate=peak_rate(group),
            weight_decay=float(group.get("weight_decay") or 0.0),
        )
        for group in inner.param_groups
    ]
    parts = _parts(model, trace)
    return OptimizerEvidence(
        groups=tuple(groups),
        trainable=frozenset(name for name, p in model.named_parameters() if p.requires_grad),
        head=parts.head,
        one_dimensional=frozenset(name for name, p in model.named_parameters() if p.ndim < 2),
        kind=type(inner).__name__,
        body_newly_initialized=is_fresh(model, parts),
        added=parts.added,
    )


def is_fresh(model: nn.Module, parts: ModelParts) -> bool | None:
    """Whether the encoder's biases and norms still have their initial values of 0 or 1; None without an encoder."""
    vectors = [p.detach() for name, p in model.named_parameters() if p.ndim == 1 and name in parts.encoder]
    if not vectors:
        return None
    # One training step changes all of them.
    return all(bool((one == one[0]).all()) and float(one[0]) in (0.0, 1.0) for one in vectors)


def peak_rate(group: Mapping[str, Any]) -> float:
    """The peak learning rate of an optimizer's group, where it records one, else the present one."""
    return float(next(group[key] for key in ("peak_lr", "max_lr", "initial_lr", "lr") if group.get(key) is not None))


def _parts(model: nn.Module, trace: Trace | None) -> ModelParts:
    return find_parts(model) if trace is None else find_parts(model, trace.used, trace.output_layer)


def _row(name: str, parameter: nn.Parameter, parts: ModelParts, trace: Trace | None) -> ParameterRow:
    return ParameterRow(
        name,
        tuple(parameter.shape),
        parameter.requires_grad,
        in_head=name in parts.head,
        added=name in parts.added,
        idle=trace is not None and name not in trace.used,
        source_name=parts.source_names.get(name),
    )


def _present_names(given: Sequence[str], parts: ModelParts) -> tuple[str, ...]:
    """The names, and the names of the same parameters after an adapter or a wrapper has renamed them."""
    originals = set(given)
    renamed = [name for name, source in parts.source_names.items() if source in originals and name not in originals]
    return (*given, *renamed)


def _new_and_used(
    model: nn.Module, parts: ModelParts, new_weights: Sequence[str] | None, trace: Trace | None
) -> frozenset[str]:
    """Frozen matrices of the head that are newly initialized, as far as that is known, and used in a forward pass."""
    if trace is None:
        return frozenset()
    if new_weights is not None:
        new = set(_present_names(new_weights, parts)) & parts.head
    else:
        new = set(trace.output_layer) if _looks_new(model, trace.output_layer) else set()
    return frozenset(name for name, p in model.named_parameters() if name in new & trace.used and p.ndim > 1)


def _outputs(model: nn.Module, parts: ModelParts, config: Any) -> int | None:
    """`num_labels` of the configuration, where a linear layer of the head has as many outputs; else the outputs of the
    head's last linear layer. None for an encoder without a head.
    """
    if is_bare_encoder(model):
        return None
    sizes = [
        module.out_features
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not is_named_as_added(name) and _contains(name, parts.head)
    ]
    declared = getattr(config, "num_labels", None)
    return sizes[-1] if sizes and declared not in sizes else declared


def _contains(module: str, names: Collection[str]) -> bool:
    """Whether the module at this path has one of these parameters."""
    return any(name.startswith(f"{module}.".lstrip(".")) for name in names)


def _looks_new(model: nn.Module, layer: Collection[str]) -> bool | None:
    """Whether the frozen weights of a layer look newly initialized by `transformers` or PyTorch; None: not known."""
    frozen = [p.detach().float() for name, p in model.named_parameters() if name in layer and not p.requires_grad]
    matrices, vectors = [p for p in frozen if p.ndim > 1], [p for p in frozen if p.ndim == 1]
    if not matrices or not vectors:
        return None
    return not any(bool(one.any()) for one in vectors) or all(_is_uniform(one) for one in matrices)


def _output_gain(model: nn.Module, layer: Collection[str], new_weights: Sequence[str] | None) -> float | None:
    """`ModelEvidence.output_gain`. Without a loading report, a layer whose biases are all 0 is new."""
    weights = {name: p.detach().float() for name, p in model.named_parameters() if name in layer}
    matrices = [(name, one) for name, one in weights.items() if one.ndim == 2]
    vectors = [one for one in weights.values() if one.ndim == 1]
    if len(matrices) != 1:
        return None
    name, matrix = matrices[0]
    is_new = (
        bool(vectors) and not any(bool(one.any()) for one in vectors) if new_weights is None else name in new_weights
    )
    return float(matrix.square().mean().sqrt()) * math.sqrt(matrix.shape[1]) if is_new else None


def _is_uniform(matrix: torch.Tensor) -> bool:
    """Whether a matrix (outputs, inputs) looks as `nn.Linear` initializes it: uniform in ±1/sqrt(inputs)."""
    bound = 1 / math.sqrt(matrix.shape[-1])
    return float(matrix.abs().max()) <= 1.0001 * bound and float(matrix.std()) >= UNIFORM * bound / math.sqrt(3)


def _declared_frozen(model: nn.Module, parts: ModelParts, declared: str | int | None) -> frozenset[str] | None:
    by_peft = _frozen_by_peft(model, parts)
    if declared is None:
        return by_peft
    if declared == "none":
        return frozenset()
    body = parts.encoder if by_peft is None else by_peft
    if declared == "base":
        return body
    inside = hosts(model)
    try:
        layers = anatomy(inside[0][1]) if len(inside) == 1 else None
    except UserError:
        layers = None
    if layers is None:
        return None
    frozen = {id(p) for m in (*layers.embeddings, *layers.layers[: int(declared)]) for p in m.parameters()}
    return frozenset(name for name, p in model.named_parameters() if id(p) in frozen and name in body)


def _frozen_by_peft(model: nn.Module, parts: ModelParts) -> frozenset[str] | None:
    """The encoder's matrices that PEFT froze when it added its parameters; None for a model without PEFT.

    Without the trainable copies for `modules_to_save`, and without biases and norms, which some settings train.
    """
    modules = dict(model.named_modules())
    if not any(hasattr(module, "peft_config") for module in modules.values()):
        return None
    copies = tuple(f"{name}." for name, module in modules.items() if "modules_to_save" in module._modules)
    return frozenset(
        name
        for name, p in model.named_parameters()
        if name in parts.encoder and p.ndim > 1 and not name.startswith(copies)
    )


CASE_SAMPLE = "The Film Was GOOD"


def token_evidence(model: Any, tokenizer: Any, batches: BatchEvidence) -> TokenEvidence:
    """The tokenizer, the model's embedding, the ids of collated batches, and the tokenizer in the model's folder.

    Raises:
        CannotTell: a model without a token embedding.
    """
    rows = embedding_rows(model)
    if rows is None:
        raise CannotTell(f"a {type(model).__name__} has no token embedding to compare the tokenizer with")
    encoder = _encoder(model)
    own = _own_tokenizer(encoder)
    return TokenEvidence(
        vocabulary_size=max(tokenizer.get_vocab().values()) + 1,
        embedding_rows=rows,
        has_words=knows_words(tokenizer),
        pad_id=tokenizer.pad_token_id,
        model_pad_id=getattr(getattr(encoder, "config", None), "pad_token_id", None),
        unknown_id=tokenizer.unk_token_id,
        first_id=tokenizer.cls_token_id,
        last_id=tokenizer.sep_token_id,
        input_ids=_unpadded(batches, tokenizer.pad_token_id),
        tokenizer_lowercases=None if own is None else _lowercases(tokenizer),
        vocabulary_is_lowercase=None if own is None else _is_lowercase(own),
        digest=None if own is None else _vocabulary_digest(tokenizer),
        model_digest=None if own is None else _vocabulary_digest(own),
    )


def _encoder(model: Any) -> Any:
    """The `transformers` model inside a module, where there is exactly one, else the module itself."""
    inside = hosts(model)
    return inside[0][1] if len(inside) == 1 else unwrapped(model)


def _own_tokenizer(model: Any) -> Any:
    """The tokenizer saved next to the model's weights on this machine; None where there is none."""
    name = getattr(model, "name_or_path", "")
    if not name:
        return None
    try:
        return load_tokenizer(name, local=True)
    # `UserError` where there is none; `transformers` raises the others for unreadable files.
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def _vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256 of the tokens and their ids, without tokens that were added later."""
    added = tokenizer.get_added_vocab()
    vocabulary = {token: k for token, k in tokenizer.get_vocab().items() if token not in added}
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()


def _unpadded(batches: BatchEvidence, pad_id: int | None) -> tuple[np.ndarray, ...] | None:
    """Each row's ids, without padding at either end."""
    if batches.input_ids is None:
        return None
    rows: list[np.ndarray] = []
    for index, ids in enumerate(batches.input_ids):
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            return None
        text = np.ones_like(ids, dtype=bool) if pad_id is None else ids != pad_id
        if batches.attention_mask is not None:
            mask = batches.attention_mask[index] != 0
            text &= mask | ~mask.any(axis=1, keepdims=True)  # A mask of zeros does not show where the text is.
        rows += [_between_ends(row, kept) for row, kept in zip(ids, text, strict=True)]
    return tuple(rows)


def _between_ends(row: np.ndarray, kept: np.ndarray) -> np.ndarray:
    where: Sequence[int] = np.flatnonzero(kept).tolist()
    return row[where[0] : where[-1] + 1] if where else row[:0]


def _lowercases(tokenizer: Any) -> bool:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    with _limits_kept(tokenizer):
        return ids(CASE_SAMPLE) == ids(CASE_SAMPLE.lower())


@contextmanager
def _limits_kept(tokenizer: Any) -> Iterator[None]:
    """Restore truncation and padding after the block: a fast tokenizer keeps those of its last call, and saves them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    truncation, padding = (getattr(backend, name, None) for name in ("truncation", "padding"))
    try:
        yield
    finally:
        if truncation is not None and backend is not None:
            backend.enable_truncation(**truncation)
        if padding is not None and backend is not None:
            backend.enable_padding(**padding)


def _is_lowercase(tokenizer: Any) -> bool:
    special = set(tokenizer.all_special_tokens)
    return all(token == token.lower() for token in tokenizer.get_vocab() if token not in special)


TIMED_WIDTH = 256
"""Rows and columns of the matrices that time an emulated type: a product takes 0.03 s at 1 GFLOP/s."""


def schedule_evidence(
    schedule: Any,
    total_steps: int,
    steps_per_epoch: int,
    *,
    batches_per_epoch: int | None = None,
    accumulation: int = 1,
    declared_warmup_steps: int | None = None,
    stepped: Literal["step", "batch", "epoch"] = "step",
) -> ScheduleEvidence:
    """The planned learning rates, from an array of factors or by simulating a copy of a `torch` scheduler.

    `stepped` is when the loop calls `scheduler.step()`: after each optimizer step, forward pass (batch) or epoch.

    Raises:
        CannotTell: a scheduler whose rates depend on a metric.
    """
    if hasattr(schedule, "step"):
        every = {"step": 1, "batch": 1, "epoch": steps_per_epoch}[stepped]
        rates, peak = _simulated(schedule, total_steps, every, accumulation if stepped == "batch" else 1)
        factors = rates / peak if peak > 0 else rates
    else:
        factors = array_of(schedule, "schedule").astype(np.float64)
    return ScheduleEvidence(
        factors, steps_per_epoch, total_steps / steps_per_epoch, batches_per_epoch, accumulation, declared_warmup_steps
    )


def planned_rates(scheduler: Any, total_steps: int) -> np.ndarray:
    """Learning rates of the next optimizer steps for the group with the largest peak, shape (steps,).

    Raises:
        CannotTell: a scheduler whose rates depend on a metric.
    """
    return _simulated(scheduler, total_steps, 1, 1)[0]


def precision_evidence(
    device: torch.device | str,
    kind: Literal["fp32", "bf16", "fp16"],
    *,
    weights_kind: str = "fp32",
    loss_scaling: bool = False,
) -> PrecisionEvidence:
    """Whether the device computes the type in hardware; where it emulates it, how many times longer a product takes.

    Raises:
        CannotTell: a device that this machine does not have.
    """
    target = torch.device(device)
    if target.type == "cuda" and not torch.cuda.is_available():
        raise CannotTell(f"{target} is not available on this machine")
    hardware = _computed_in_hardware(target.type, kind)
    slowdown = None if hardware else _slowdown(target, kind)
    return PrecisionEvidence(kind, str(device), hardware, weights_kind, loss_scaling, slowdown)


def _simulated(scheduler: Any, total_steps: int, every: int, times: int) -> tuple[np.ndarray, float]:
    """Learning rates of the next steps and their peak, from a copy with a separate optimizer."""
    scheduler = getattr(scheduler, "scheduler", scheduler)  # Accelerate's wrapper.
    optimizer = getattr(scheduler, "optimizer", None)
    if optimizer is None or isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise CannotTell(f"the learning rates of a {type(scheduler).__name__} cannot be predicted")
    stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    stand_in.param_groups = [
        {**{key: copy.deepcopy(value) for key, value in group.items() if key != "params"}, "params": [torch.zeros(1)]}
        for group in optimizer.param_groups
    ]
    ahead = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    peaks = np.array([peak_rate(group) for group in stand_in.param_groups])
    rates = np.zeros((total_steps, len(peaks)))
    with warnings_ignored():  # PyTorch warns that no optimizer step comes in between.
        for step in range(total_steps):
            rates[step] = [float(group["lr"]) for group in stand_in.param_groups]
            if (step + 1) % every == 0:
                for _ in range(times):
                    ahead.step()
    group = int(peaks.argmax())
    peak = max(peaks[group], rates[:, group].max())
    return rates[:, group], float(peak)


def _computed_in_hardware(device: str, kind: str) -> bool:
    if kind == "fp32":
        return True
    if device == "cuda":
        return kind == "fp16" or bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        capable = torch.cpu.get_capabilities()
        halves = any(capable.get(name, False) for name in ("amx_fp16", "avx512_fp16", "fp16_arith"))
        return native_bf16() if kind == "bf16" else halves
    return True


def _slowdown(device: torch.device, kind: str) -> float:
    """Time of a product of two small matrices divided by the time in float32; the fastest of three each."""
    seconds = {}
    for name in ("fp32", kind):
        matrix = torch.full((TIMED_WIDTH, TIMED_WIDTH), 0.5, dtype=DTYPES[name], device=device)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            times.append(time.perf_counter() - started)
        seconds[name] = min(times)
    return seconds[kind] / seconds["fp32"]
