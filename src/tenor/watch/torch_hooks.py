"""What is observed of PyTorch: calls of models, losses, backward passes, optimizers, clipping, loaders, schedulers."""

import functools
import threading
from typing import Any

import torch
from torch import nn

from tenor.watch.observer import OBSERVER, Observer
from tenor.watch.patches import guarded, is_own_work, observe
from tenor.watch.settings import WatchSettings

LOSSES = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy", "mse_loss")


def hook_torch(settings: WatchSettings) -> None:
    """Hook a process that has just imported torch."""
    observer = OBSERVER
    observer.begin(settings)
    _hook_calls(observer)
    for name in LOSSES:
        observe(nn.functional, name, functools.partial(_on_loss, observer, name, getattr(nn.functional, name)))
    observe(torch.autograd, "backward", lambda result, tensors, *rest, **named: observer.on_backward(tensors))
    _hook_optimizers(observer)
    for owner in (nn.utils, nn.utils.clip_grad):
        observe(owner, "clip_grad_norm_", _clipping(observer))
        observe(owner, "clip_grad_norm", _clipping(observer))
    _hook_loaders(observer)
    schedulers = torch.optim.lr_scheduler
    observe(
        schedulers.LRScheduler, "__init__", lambda result, scheduler, *rest, **named: observer.schedulers.add(scheduler)
    )
    observe(schedulers.LRScheduler, "step", lambda result, scheduler, *rest, **named: observer.on_scheduled(scheduler))
    observe(schedulers.ReduceLROnPlateau, "step", _plateau(observer))
    observe(nn.Module, "load_state_dict", _loading(observer))
    observe(torch.amp.GradScaler, "scale", lambda result, scaler, *rest, **named: observer.on_scaled(scaler))
    observe(
        torch.amp.GradScaler,
        "step",
        lambda result, scaler, optimizer, *rest, **named: observer.on_scaler_step(optimizer),
    )
    observe(torch.amp.GradScaler, "unscale_", lambda result, *rest, **named: observer.on_unscaled())


def _on_loss(observer: Observer, name: str, function: Any, result: Any, *args: Any, **kwargs: Any) -> None:
    logits, target = (args[k] if len(args) > k else kwargs.get(key) for k, key in ((0, "input"), (1, "target")))
    if isinstance(logits, torch.Tensor) and isinstance(target, torch.Tensor):
        named = {key: value for key, value in kwargs.items() if key not in ("input", "target")}
        observer.on_loss(name, functools.partial(function, **named) if len(args) < 3 else None, logits, target, result)


def _plateau(observer: Observer) -> Any:
    def after(result: Any, scheduler: Any, metrics: Any, *rest: Any, **named: Any) -> None:
        observer.on_plateau(scheduler, metrics)

    return after


def _restarting(observer: Observer) -> Any:
    def after(result: Any, iterator: Any, loader: Any, first_iter: bool = False) -> None:
        if not first_iter:  # Persistent workers begin another epoch.
            observer.on_iterate(iterator, loader)

    return after


def _loading(observer: Observer) -> Any:
    def after(
        result: Any, module: nn.Module, state_dict: Any, strict: bool = True, assign: bool = False, *rest: Any
    ) -> None:
        observer.on_load(module, result, state_dict, assign)

    return after


def _clipping(observer: Observer) -> Any:
    def after(norm: Any, parameters: Any, max_norm: float, *rest: Any, **named: Any) -> None:
        observer.on_clip(float(max_norm), norm)

    return after


def _hook_calls(observer: Observer) -> None:
    """Observe every call of a module that no other module makes."""
    original = nn.Module.__call__
    depth = threading.local()

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if getattr(depth, "inside", False) or is_own_work() or torch.compiler.is_compiling():
            return original(module, *args, **kwargs)
        depth.inside = True
        try:
            output = original(module, *args, **kwargs)
        except Exception:
            with guarded("a call of a model"):
                observer.on_failed_call(module, args, kwargs)
            raise
        finally:
            depth.inside = False
        with guarded("a call of a model"):
            observer.on_call(module, args, kwargs, output)
        return output

    nn.Module.__call__ = call  # type: ignore[method-assign]


def _hook_optimizers(observer: Observer) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    def before_step(optimizer: Any, args: Any, kwargs: Any) -> None:
        if not is_own_work():
            with guarded("an optimizer step"):
                observer.before_step(optimizer)

    def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
        if not is_own_work():
            with guarded("an optimizer step"):
                observer.after_step(optimizer)

    register_optimizer_step_pre_hook(before_step)
    register_optimizer_step_post_hook(after_step)
    observe(
        torch.optim.Optimizer,
        "__init__",
        lambda result, optimizer, *rest, **named: observer.optimizers.add(optimizer),
    )
    _before(torch.optim.Optimizer, "zero_grad", lambda optimizer: observer.before_clear([optimizer]))
    _before(nn.Module, "zero_grad", observer.before_clear_of)


def _before(owner: Any, name: str, action: Any) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_own_work():
            with guarded(name):
                action(self)
        return original(self, *args, **kwargs)

    setattr(owner, name, observed)


def _hook_loaders(observer: Observer) -> None:
    from torch.utils.data import dataloader

    observe(dataloader.DataLoader, "__init__", lambda result, loader, *rest, **named: observer.loaders.add(loader))
    base = dataloader._BaseDataLoaderIter
    observe(base, "__init__", lambda result, iterator, loader, *rest, **named: observer.on_iterate(iterator, loader))
    workers = dataloader._MultiProcessingDataLoaderIter
    observe(workers, "_reset", _restarting(observer))
    _before(workers, "_reset", observer.before_restart)
    observe(base, "_next_index", lambda rows, iterator: observer.on_rows_drawn(iterator, rows))
    observe(base, "__next__", lambda batch, iterator: observer.on_batch(iterator, batch))
