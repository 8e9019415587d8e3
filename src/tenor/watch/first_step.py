"""What the first step of an optimizer shows of the program: model, loss, loader, tokenizer, schedule."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from tenor.watch.call_form import call_form
from tenor.watch.heard_rows import labels_in_batch
from tenor.watch.one_output_steps import OneOutput

if TYPE_CHECKING:
    from tenor.watch.observer import Call, Observer, Step

MOST_CLASSES = 1000
"""Logits of more columns are those of a language model, not of a classifier."""


@dataclass(frozen=True, eq=False)
class FirstStep:
    """What the first step of an optimizer has shown of the program."""

    step: "Step"
    call: "Call"
    """The call from whose logits the loss was computed."""
    model: nn.Module
    optimizer: Any
    scheduler: Any
    loader: Any
    """What may be read ahead."""
    batches: list[dict[str, torch.Tensor]]
    """The batches of this step, as the model was called with them."""
    passes: int
    """Calls of the model in this step."""
    forward: Callable[[nn.Module, dict[str, torch.Tensor]], Any] | None
    """Calls the model as the program does; None if the program calls parts of it."""
    total_steps: int | None
    one_output: OneOutput | None = None
    """Of a model for two classes with one output per row."""


def read_first_step(
    observer: "Observer", optimizer: Any, call: "Call", one_output: OneOutput | None = None
) -> FirstStep:
    """What the observer has seen since the program began."""
    step = observer.step
    loader, batches = _loader_and_batches(step, call)
    schedulers = [one for one in observer.schedulers if getattr(one, "optimizer", None) is optimizer]
    scheduler = schedulers[-1] if schedulers else None
    passes = max(1, sum(one.module is call.module for one in step.calls))
    model = _model_of(step, optimizer, call)
    whole = call_form(call).forward if one_output is None else one_output.forward_of(call)
    forward = whole if call.module is model else None if one_output is None else _called_by_parts
    total = total_steps(scheduler)
    return FirstStep(step, call, model, optimizer, scheduler, loader, batches, passes, forward, total, one_output)


def _called_by_parts(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
    raise NotImplementedError("the program calls parts of the model, so the logits of both classes are not known")


def call_with_logits(step: "Step") -> "Call | None":
    """The last call whose logits the loss was computed from; logits of a head that is no call of its own come from
    the loss."""
    for call in reversed(step.calls):
        if call.logits is not None and call.labels is not None and call.logits.shape[1] > 1:
            return call
    from tenor.watch.observer import classes_of

    losses = [one for one in step.losses if one.logits.ndim == 2]
    losses = [one for one in losses if one.labels.ndim == 1 or classes_of(one.labels) is not None]
    if step.calls and losses:
        return replace(step.calls[-1], logits=losses[-1].logits, labels=losses[-1].labels)
    if step.calls and step.has_failed:
        # The program failed in its model or its loss: its labels are those of the batch.
        return replace(step.calls[-1], labels=labels_in_batch(step.calls[-1].batch))
    return None


def why_unjudged(step: "Step", call: "Call | None") -> str:
    if not step.calls:
        return "no call of a PyTorch model was seen before the optimizer step; nothing of it was checked"
    if call is None or call.labels is None:
        kinds = sorted({one.name for one in step.losses}) or ["none that is known"]
        return f"no classification loss was seen (losses: {', '.join(kinds)}); nothing of it was checked"
    if call.logits is not None and call.logits.shape[1] > MOST_CLASSES:
        return f"its outputs have {call.logits.shape[1]:,} columns, as a language model's; nothing of it was checked"
    return ""


def columns_of(call: "Call") -> int | None:
    return None if call.logits is None else call.logits.shape[1]


def _model_of(step: "Step", optimizer: Any, call: "Call") -> nn.Module:
    """The module whose parameters the optimizer holds; of several, the one that contains them."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    called = list({id(one.module): one.module for one in step.calls}.values())
    holding = [module for module in called if any(id(p) in own for p in module.parameters())] or [call.module]
    if len(holding) == 1:
        return holding[0]
    parts = {id(module) for module in holding}
    owners = [
        (sum(1 for _ in module.modules()), module)
        for module in _all_modules()
        if parts <= {id(one) for one in module.modules()}
    ]
    return min(owners, key=lambda pair: pair[0])[1] if owners else _Several(holding)


def _all_modules() -> list[nn.Module]:
    return [one for one in gc.get_objects() if issubclass(type(one), nn.Module)]


class _Several(nn.Module):
    """Modules that the program calls one after another, and that no module of its own contains."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        for number, part in enumerate(parts):
            self.add_module(f"{type(part).__name__}_{number}", part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the program calls several modules one after another, not one that contains them")


def tokenizer_of(observer: "Observer", model: nn.Module) -> Any:
    """The tokenizer of the model's name, else the only one; None if there are several."""
    known = list(observer.tokenizers)
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    named = [one for one in known if name and getattr(one, "name_or_path", None) == name]
    return named[-1] if named else known[0] if len(known) == 1 else None


def loading_names(observer: "Observer", model: nn.Module) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """What `from_pretrained` reported for the model, or for the only such model in it."""
    loaded = [(name, module) for name, module in model.named_modules() if module in observer.loading]
    if len(loaded) != 1:
        return None, None
    prefix = f"{loaded[0][0]}." if loaded[0][0] else ""
    info = observer.loading[loaded[0][1]]
    return tuple(prefix + name for name in info[0]), tuple(info[1])


def loss_function(first: FirstStep) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The program's loss with its arguments, if it takes logits and labels; else the plain cross-entropy."""
    step, one_output = first.step, first.one_output
    usable = [one for one in step.losses if one.function is not None and one.logits.ndim == 2]
    if one_output is not None:
        last, function = one_output.loss, one_output.loss_function()
    elif usable and usable[-1].function is not None:
        last, function = usable[-1], usable[-1].function
    else:
        return nn.functional.cross_entropy
    if last.value is not None and step.backward and float(last.value) * float(step.backward[-1]) < 0:
        return lambda logits, labels: -function(logits, labels)  # The program went backward from its negative.
    return function


def _loader_and_batches(step: "Step", call: "Call") -> tuple[Any, list[dict[str, torch.Tensor]]]:
    """What the preflight may read ahead: the program's loader if it can be read twice, else the batches of this step;
    and these batches as the model was called with them."""
    labelled = [one for one in step.calls if one.module is call.module and one.labels is not None] or [call]
    batches = [as_batch(one) for one in labelled]
    loader = call.loader
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        return _without_workers(loader), batches
    return batches, batches


def as_batch(call: "Call") -> dict[str, torch.Tensor]:
    """The inputs of a call by name, with its labels."""
    inputs = {name: value for name, value in call_form(call).inputs.items() if name != "labels"}
    assert call.labels is not None
    return {**inputs, "labels": call.labels}


def is_consumable(call: "Call") -> bool:
    """Whether the loader's batches are what the model is called with."""
    names = {name for name, value in call.kwargs.items() if isinstance(value, torch.Tensor)}
    if isinstance(call.batch, Mapping):
        return bool(names) and names <= set(call.batch)
    return isinstance(call.batch, tuple | list) and any(value is call.batch[0] for value in call.args)


def _without_workers(loader: DataLoader) -> DataLoader:
    """The same loader that reads in this process: worker processes would be started, and persistent ones kept."""
    if loader.num_workers == 0:
        return loader
    copied = object.__new__(type(loader))
    copied.__dict__.update(loader.__dict__)
    copied.__dict__.update(num_workers=0, prefetch_factor=None, persistent_workers=False, _iterator=None, timeout=0)
    copied.__dict__.update(pin_memory=False, worker_init_fn=None)
    copied.__dict__["_DataLoader__multiprocessing_context"] = None
    return copied


def evaluation_loader(observer: "Observer", loader: Any) -> Any:
    """The first loader of other rows that exists, which is most often that of the validation rows; or None."""
    dataset = getattr(loader, "dataset", None)
    if dataset is None:
        return None
    others = (one for one in observer.loaders if getattr(one, "dataset", None) is not dataset)
    other = next((one for one in others if not isinstance(one.dataset, IterableDataset)), None)
    return None if other is None else _without_workers(other)


def total_steps(scheduler: Any) -> int | None:
    """The steps for which a scheduler was made, where it says so."""
    total = getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None)
    for function in getattr(scheduler, "lr_lambdas", ()):
        total = total or getattr(function, "keywords", {}).get("num_training_steps")
    return int(total) if isinstance(total, int | float) and total > 0 else None
