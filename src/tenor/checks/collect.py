"""Evidence from the live objects of any PyTorch program: model, optimizer, loader, schedule, device.

Nothing here changes what it looks at; random states are put back bit by bit.
"""

import copy
import random
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset

from tenor.checks.evidence import (
    BatchEvidence,
    GroupRow,
    ModelEvidence,
    OptimizerEvidence,
    ParameterRow,
    PrecisionEvidence,
    ScheduleEvidence,
)
from tenor.checks.finding import CannotTell
from tenor.errors import UserError
from tenor.model.device import DTYPES, native_bf16
from tenor.model.freezing import Anatomy, anatomy

WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule")
LABEL_NAMES = ("labels", "label", "targets", "target", "y")
WIDTH_TIMED = 256
"""Of the matrices that time an emulated type: 0.03 s at 1 GFLOP/s."""


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
) -> ModelEvidence:
    """What can be read off a model: a `transformers` classifier, an encoder in a module of one's own, any module.

    `pretrained` counts as true where `new_weights` (what `from_pretrained` reports as missing) are given.
    """
    model = unwrapped(model)
    config = getattr(model, "config", None)
    id2label = getattr(config, "id2label", None)
    head = head_names(model)
    return ModelEvidence(
        parameters=tuple(
            ParameterRow(name, tuple(p.shape), p.requires_grad, name in head) for name, p in model.named_parameters()
        ),
        n_classes=n_classes,
        n_outputs=_outputs(model, head),
        class_names=None if class_names is None else tuple(class_names),
        id2label=dict(id2label) if isinstance(id2label, Mapping) else None,
        new_weights=None if new_weights is None else tuple(new_weights),
        unused_weights=None if unused_weights is None else tuple(unused_weights),
        pretrained=True if pretrained is None and new_weights is not None else pretrained,
        declared_freeze=declared_freeze,
        declared_frozen=_declared_frozen(model, head, declared_freeze),
        keep_trainable=tuple(keep_trainable),
        problem_type=getattr(config, "problem_type", None),
    )


def optimizer_evidence(model: nn.Module, optimizer: Any) -> OptimizerEvidence:
    """The optimizer's groups, with the peak rate where there is one (`peak_lr`, `max_lr`, `initial_lr`), else `lr`."""
    model = unwrapped(model)
    inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper.
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [
        GroupRow(
            names=tuple(names[id(p)] for p in group["params"] if id(p) in names),
            foreign=sum(id(p) not in names for p in group["params"]),
            learning_rate=_peak_rate(group),
            weight_decay=float(group.get("weight_decay") or 0.0),
        )
        for group in inner.param_groups
    ]
    return OptimizerEvidence(
        groups=tuple(groups),
        learning=frozenset(name for name, p in model.named_parameters() if p.requires_grad),
        head=frozenset(head_names(model)),
        one_dimensional=frozenset(name for name, p in model.named_parameters() if p.ndim < 2),
        kind=type(inner).__name__,
    )


def batch_evidence(loader: Any, n_classes: int, batches: int = 8) -> BatchEvidence:
    """The first batches of a loader, of dictionaries or tuples of tensors; random states are put back.

    Raises CannotTell for what can be read only once, and for batches without labels.
    """
    first, dataset = _first(loader, batches), getattr(loader, "dataset", None)
    labels, ids, masks = zip(*(_parts(batch) for batch in first), strict=True)
    sized = dataset is not None and not isinstance(dataset, IterableDataset)
    return BatchEvidence(
        labels=labels,
        n_classes=n_classes,
        epoch_labels=np.concatenate([part.reshape(-1) if part.ndim < 2 else part for part in labels])
        if len({part.shape[1:] for part in labels}) == 1
        else None,
        input_ids=None if any(part is None for part in ids) else ids,
        attention_mask=None if any(part is None for part in masks) else masks,
        rows_per_epoch=_rows_per_epoch(loader) if sized else None,
        rows_in_split=_length(dataset) if sized else None,
    )


def loader_batches(loader: Any, batches: int = 2) -> list[dict[str, torch.Tensor]]:
    """The first batches as dictionaries of tensors with `labels`, as `probe` takes them; random states are put back.

    Raises CannotTell for what can be read only once, and for batches without labels.
    """
    return [_as_dictionary(batch) for batch in _first(loader, batches)]


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
    """The plan of rates, from an array of factors or from a copy of a `torch` scheduler that is run ahead.

    `stepped` says when the loop calls `scheduler.step()`: after each optimizer step, forward pass or epoch.
    Raises CannotTell for a scheduler that waits for a metric.
    """
    if hasattr(schedule, "step"):
        every = {"step": 1, "batch": 1, "epoch": steps_per_epoch}[stepped]
        rates, peak = _simulated(schedule, total_steps, every, accumulation if stepped == "batch" else 1)
        factors = rates / peak if peak > 0 else rates
    else:
        factors = np.asarray(schedule, dtype=np.float64)
    return ScheduleEvidence(
        factors, steps_per_epoch, total_steps / steps_per_epoch, batches_per_epoch, accumulation, declared_warmup_steps
    )


def precision_evidence(
    device: torch.device | str,
    kind: Literal["fp32", "bf16", "fp16"],
    *,
    weights_kind: str = "fp32",
    loss_scaling: bool = False,
) -> PrecisionEvidence:
    """Whether the device computes the type itself; where it does not, how many times longer a product takes.

    Raises CannotTell where the device is not there.
    """
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise CannotTell(f"there is no {place} here")
    hardware = _computed_in_hardware(place.type, kind)
    slowdown = None if hardware else _slowdown(place, kind)
    return PrecisionEvidence(kind, str(device), hardware, weights_kind, loss_scaling, slowdown)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside data-parallel and compiled wrappers, whose prefixes change every name."""
    while type(model).__name__ in WRAPPERS:
        model = getattr(model, "_orig_mod", None) or model.module  # type: ignore[assignment]
    return model


def head_names(model: nn.Module) -> frozenset[str]:
    """Names of the parameters outside the encoder; where none is known, those of the last linear layer."""
    parts = _anatomy(model)
    if parts is not None:
        return parts.head
    names = [name for name, _ in model.named_parameters()]
    body = [f"{prefix}." for prefix, module in model.named_modules() if prefix and _is_encoder(module)]
    if body:
        outside = {name for name in names if not name.startswith(tuple(body)) or ".pooler." in name}
        if outside:
            return frozenset(outside)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return frozenset(n for n in names if linear and (n.startswith(f"{linear[-1]}.") or not linear[-1]))


@contextmanager
def random_states_kept(*holders: Any) -> Iterator[None]:
    """Put every random state back as it was: Python's, NumPy's, PyTorch's on each device, and loaders' generators."""
    generators = [g for holder in holders for g in _generators(holder)]
    states = [generator.get_state() for generator in generators]
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _anatomy(model: nn.Module) -> Anatomy | None:
    """The parts of a `transformers` classifier; None for any other module."""
    if not hasattr(model, "base_model_prefix") or not hasattr(getattr(model, "config", None), "num_hidden_layers"):
        return None
    try:
        parts = anatomy(model)
    except UserError:
        return None
    return parts if parts.body else None


def _is_encoder(module: nn.Module) -> bool:
    """A `transformers` model that is its own base: no head around it."""
    return hasattr(module, "base_model_prefix") and getattr(module, "base_model", None) is module


def _outputs(model: nn.Module, head: frozenset[str]) -> int | None:
    """Outputs of the head's last linear layer, else what the configuration says."""
    linear = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (f"{name}.weight".lstrip(".") in head)
    ]
    declared = getattr(getattr(model, "config", None), "num_labels", None)
    return linear[-1].out_features if linear else declared


def _declared_frozen(model: nn.Module, head: frozenset[str], declared: str | int | None) -> frozenset[str] | None:
    if declared is None:
        return None
    if declared == "none":
        return frozenset()
    if declared == "base":
        return frozenset(name for name, _ in model.named_parameters() if name not in head)
    parts = _anatomy(model)
    if parts is None:
        return None
    frozen = {id(p) for m in (*parts.embeddings, *parts.layers[: int(declared)]) for p in m.parameters()}
    return frozenset(name for name, p in model.named_parameters() if id(p) in frozen)


def _peak_rate(group: Mapping[str, Any]) -> float:
    return float(next(group[key] for key in ("peak_lr", "max_lr", "initial_lr", "lr") if group.get(key) is not None))


def _first(loader: Any, batches: int) -> list[Any]:
    """The first batches of a loader that can be read again."""
    for source, what in ((loader, "loader"), (getattr(loader, "dataset", None), "data set")):
        if isinstance(source, Iterator):
            raise CannotTell(f"the {what} can be read only once: looking at its batches would take them from training")
    if not isinstance(loader, Iterable):
        raise CannotTell(f"a {type(loader).__name__} can't be iterated over")
    with random_states_kept(loader):
        first = list(islice(iter(loader), batches))
    if not first:
        raise CannotTell("the loader gives no batch")
    return first


def _as_dictionary(batch: Any) -> dict[str, Any]:
    """A batch by names. Of a tuple the last part is the labels; before it stand ids and mask, or features."""
    if isinstance(batch, Mapping):
        name = next((name for name in LABEL_NAMES if name in batch), None)
        if name is None:
            raise CannotTell(f"the batches have no labels under {', '.join(LABEL_NAMES)}")
        return {**{k: v for k, v in batch.items() if k != name}, "labels": batch[name]}
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) < 2:
        raise CannotTell(f"batches of {type(batch).__name__} are neither dictionaries nor tuples with labels")
    first, labels = batch[0], batch[-1]
    if isinstance(first, Mapping):
        return {**first, "labels": labels}
    if not _is_token_ids(first):
        return {"features": first, "labels": labels}
    mask = {"attention_mask": batch[1]} if len(batch) > 2 and _is_token_ids(batch[1]) else {}
    return {"input_ids": first, **mask, "labels": labels}


def _parts(batch: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Labels, token ids and mask of a batch."""
    named = _as_dictionary(batch)
    labels, ids, mask = (named.get(name) for name in ("labels", "input_ids", "attention_mask"))
    return _array(labels), None if ids is None else _array(ids), None if mask is None else _array(mask)


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2 and not value.is_floating_point()


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except TypeError:
        return None


def _rows_per_epoch(loader: Any) -> int | None:
    """Rows that one pass gives: of the sampler, less an incomplete last batch that is dropped."""
    rows, size = _length(getattr(loader, "sampler", None)), getattr(loader, "batch_size", None)
    if rows is None or size is None:
        return None
    return rows // size * size if getattr(loader, "drop_last", False) else rows


def _generators(holder: Any) -> list[torch.Generator]:
    """A loader's own generators, wherever it keeps them."""
    owners = [holder]
    owners += [getattr(owner, key, None) for owner in (holder,) for key in ("sampler", "batch_sampler")]
    owners.append(getattr(owners[-1], "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners if owner is not None]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def planned_rates(scheduler: Any, total_steps: int) -> np.ndarray:
    """Rates of the next steps of the group with the largest peak, shape (steps,), stepped once after each.

    Raises CannotTell for a scheduler that waits for a metric.
    """
    return _simulated(scheduler, total_steps, 1, 1)[0]


def _simulated(scheduler: Any, total_steps: int, every: int, times: int) -> tuple[np.ndarray, float]:
    """Rates of the next steps and their peak, from a copy with an optimizer of its own; the original is untouched."""
    scheduler = getattr(scheduler, "scheduler", scheduler)  # Accelerate's wrapper.
    optimizer = getattr(scheduler, "optimizer", None)
    if optimizer is None or isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise CannotTell(f"the plan of a {type(scheduler).__name__} can't be told ahead")
    stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    stand_in.param_groups = [
        {**{key: copy.deepcopy(value) for key, value in group.items() if key != "params"}, "params": [torch.zeros(1)]}
        for group in optimizer.param_groups
    ]
    ahead = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    peaks = np.array([_peak_rate(group) for group in stand_in.param_groups])
    rates = np.zeros((total_steps, len(peaks)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That no optimizer step comes between is meant so.
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
    """Time of a product of two small matrices over that in float32, the fastest of three each."""
    seconds = {}
    for name in ("fp32", kind):
        matrix = torch.full((WIDTH_TIMED, WIDTH_TIMED), 0.5, dtype=DTYPES[name], device=device)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            times.append(time.perf_counter() - started)
        seconds[name] = min(times)
    return seconds[kind] / seconds["fp32"]
