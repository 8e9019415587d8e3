"""One watched training: the preflight at the first step of an optimizer, and a watchdog from then on."""

import contextlib
import gc
import io
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from tenor.runs.findings import Report
from tenor.watch.heard_rows import SeenRows, labels_in_batch
from tenor.watch.patches import guarded
from tenor.watch.random_objects import random_objects_kept

if TYPE_CHECKING:
    from tenor.checks.evidence import BatchEvidence, ModelEvidence, StepEvidence
    from tenor.checks.watchdog import Watchdog
    from tenor.watch.observer import Call, Observer, Step

MOST_CLASSES = 1000
"""Logits of more columns are those of a language model, not of a classifier."""
MOST_PAIRED = 16
"""Calls whose labels are compared with those that the loss was given."""
EVERY = 4
"""Steps in one record: rules need ten records, and short runs have 40 steps."""


class WatchedTraining:
    """The steps of one optimizer."""

    def __init__(self, observer: "Observer", optimizer: Any, name: str) -> None:
        self.optimizer = weakref.ref(optimizer)
        self.observer, self.name = observer, name
        self.model: weakref.ref[nn.Module] | None = None
        self.tokenizer: Any = None
        self.watchdog: Watchdog | None = None
        self.preflight: Report | None = None
        self.unjudged = ""
        """Why nothing of this training was checked; empty if it was."""
        self.rates: list[float] = []
        """The largest learning rate among the groups at each step."""
        self.steps_per_epoch: int | None = None
        self.n_classes: int | None = None
        self.train_rows = SeenRows()
        self.loss_labels: list[tuple[np.ndarray, np.ndarray]] = []
        """Labels of the loader, and what the loss was given instead, of the first steps."""
        self.batches: BatchEvidence | None = None
        """What the preflight read of the loader."""
        self.outputs: ModelEvidence | None = None
        """The model at the first step; how many classes there are is known only when all rows were seen."""
        self.evidence: StepEvidence | None = None
        self.report: Report | None = None
        self._idle = 0

    def on_step(self, step: "Step") -> None:
        """Record one step, or a step that the program forgot: then the gradients are cleared unused."""
        optimizer = self.optimizer()
        if self.watchdog is None or optimizer is None:
            return
        self.rates.append(max(float(group["lr"]) for group in optimizer.param_groups))
        for call in step.calls:
            self.train_rows.add(call.args, call.kwargs, call.labels)
        self._pair_labels(step)
        norm = step.grad_norm
        self.watchdog.step(loss_of(step), grad_norm=None if norm is None else float(norm))
        self._release_others()

    def _pair_labels(self, step: "Step") -> None:
        """Keep both labels of the rows of a step with one loss for each batch: several losses have labels of their
        own."""
        batches = list({id(call.batch): call.batch for call in step.calls if call.is_from_batch}.values())
        if len(self.loss_labels) >= MOST_PAIRED or len(step.losses) != len(batches):
            return
        for batch, loss in zip(batches, step.losses, strict=True):
            given, used = labels_in_batch(batch, len(loss.logits), loss.logits.shape[-1]), loss.labels
            fits = given is not None and given.ndim == 1 and given.shape == used.shape
            if given is not None and fits and not given.is_floating_point() and not used.is_floating_point():
                self.loss_labels.append((given.cpu().numpy(), used.detach().cpu().numpy()))

    @property
    def seen_batches(self) -> "BatchEvidence | None":
        """What was read of the loader, with what the loss was given."""
        if self.batches is None or not self.loss_labels:
            return self.batches
        loader, loss = (np.concatenate(part) for part in zip(*self.loss_labels, strict=True))
        return replace(self.batches, loss_labels=(loader, loss))

    def _release_others(self) -> None:
        """A training that takes no step while another one takes several has ended: its model must be freed."""
        self._idle = 0
        for other in self.observer.trainings:
            if other is not self and other.watchdog is not None:
                other._idle += 1
                if other._idle > 2:
                    other.end()

    def end(self) -> None:
        """Check the weights a last time and let go of model and optimizer; the evidence stays."""
        if self.watchdog is None:
            return
        watchdog, self.watchdog = self.watchdog, None
        watchdog.finish()
        self.evidence = watchdog.evidence
        self.report = watchdog.report


def begin_training(training: WatchedTraining, optimizer: Any) -> None:
    """Run the preflight on what the first step has shown, and begin to watch."""
    observer, step = training.observer, training.observer.step
    call = _call_with_logits(step)
    reason = _why_unjudged(step, call)
    if reason or call is None:
        training.unjudged = reason
        observer.session.note(f"{training.name}: {reason}")
        return
    model = _model_of(step, optimizer, call)
    training.model = weakref.ref(model)
    training.tokenizer = _tokenizer(observer, model)
    loader, batches = _loader_and_batches(step, call)
    passes = max(1, len([one for one in step.calls if one.module is call.module]))
    with contextlib.suppress(TypeError):
        training.steps_per_epoch = max(1, len(loader) // passes) if isinstance(loader, DataLoader) else None
    schedulers = [one for one in observer.schedulers if getattr(one, "optimizer", None) is optimizer]
    scheduler = schedulers[-1] if schedulers else None
    total = _total_steps(scheduler)
    with guarded("the preflight"), _quietly(), random_objects_kept(loader), _unnoticed_by_autograd(model):
        training.preflight = _preflight(
            observer, training, model, optimizer, scheduler, total, loader, batches, call, passes
        )
    observer.session.add(training.preflight.findings if training.preflight is not None else ())
    if not step.has_failed:
        training.watchdog = _watchdog(training, model, optimizer, scheduler, total)


def _watchdog(
    training: WatchedTraining, model: nn.Module, optimizer: Any, scheduler: Any, total: int | None
) -> "Watchdog":
    from tenor.checks.watchdog import Watchdog

    observer = training.observer
    return Watchdog(
        model,
        optimizer,
        scheduler=scheduler,
        n_classes=training.n_classes,
        total_steps=total,
        clip_at=observer.step.clip_at,
        policy="warn",
        allow=observer.session.settings.allow,
        every=EVERY,
        earlier=training.preflight.findings if training.preflight is not None else (),
        on_finding=lambda finding: observer.session.add([finding]),
    )


def _preflight(
    observer: "Observer",
    training: WatchedTraining,
    model: nn.Module,
    optimizer: Any,
    scheduler: Any,
    total: int | None,
    loader: Any,
    batches: list[dict[str, torch.Tensor]],
    call: "Call",
    passes: int,
) -> Report:
    from tenor.checks.before_training import number_of_classes, preflight
    from tenor.checks.finding import CannotTell
    from tenor.checks.gather.batches import batch_evidence
    from tenor.checks.gather.model import model_evidence
    from tenor.checks.probes.probe import probe
    from tenor.checks.probes.trace import trace

    settings = observer.session.settings
    datasets = [getattr(one, "dataset", None) for one in _with_evaluation(observer, loader)]
    training.n_classes = number_of_classes(model, None, datasets[0], datasets[1]) or _columns(call)
    loss_fn = _loss_function(observer.step)
    new, unused = _loading_names(observer, model)
    evidence: list[Any] = []
    with contextlib.suppress(CannotTell):
        training.batches = batch_evidence(loader, training.n_classes or 2)
        evidence.append(training.batches)
    if observer.step.has_failed and training.batches is not None:
        evidence += _rows_of_batches(training.batches, training.n_classes or 2)
    with contextlib.suppress(CannotTell):
        training.outputs = model_evidence(
            model, training.n_classes or 2, new_weights=new, unused_weights=unused, trace=trace(model, batches[0])
        )
        evidence.append(training.outputs)
    if not isinstance(loader, DataLoader) or not _is_consumable(loader, call):
        evidence.append(probe(model, loss_fn, batches, training.n_classes or 2, seconds=settings.seconds))
    return preflight(
        model=model,
        train_loader=loader,
        eval_loader=_with_evaluation(observer, loader)[1],
        tokenizer=training.tokenizer,
        optimizer=optimizer,
        scheduler=scheduler,
        loss_fn=loss_fn,
        n_classes=training.n_classes,
        total_steps=total,
        steps_per_epoch=training.steps_per_epoch,
        new_weights=new,
        unused_weights=unused,
        precision={torch.bfloat16: "bf16", torch.float16: "fp16"}.get(call.autocast),  # type: ignore[arg-type]
        loss_scaling=observer.scales_loss,
        accumulation=passes,
        seconds=settings.seconds,
        allow=settings.allow,
        evidence=evidence,
    )


def _rows_of_batches(batches: "BatchEvidence", n_classes: int) -> list[Any]:
    """The first batches as the training rows, of a program that failed: a label that no class has is among them."""
    from tenor.checks.evidence import DataEvidence, Rows

    labels = batches.epoch_labels
    return [] if labels is None else [DataEvidence(Rows(labels), n_classes)]


def loss_of(step: "Step") -> float:
    """The mean loss of a step's rows: of its loss functions where they were seen, else the sum that `backward` got."""
    heard = [float(one.value) for one in step.losses if one.value is not None]
    if heard:
        return float(np.mean(heard))
    return float(sum(float(value) for value in step.backward))


def _call_with_logits(step: "Step") -> "Call | None":
    """The last call whose logits the loss was computed from; logits of a head that is no call of its own come from
    the loss."""
    for call in reversed(step.calls):
        if call.logits is not None and call.labels is not None and call.logits.shape[1] > 1:
            return call
    losses = [one for one in step.losses if one.logits.ndim == 2]
    if step.calls and losses:
        return replace(step.calls[-1], logits=losses[-1].logits, labels=losses[-1].labels)
    if step.calls and step.has_failed:
        # The program failed in its model or its loss: its labels are those of the batch.
        return replace(step.calls[-1], labels=labels_in_batch(step.calls[-1].batch))
    return None


def _why_unjudged(step: "Step", call: "Call | None") -> str:
    if not step.calls:
        return "no call of a PyTorch model was seen before the optimizer step; nothing of it was checked"
    if call is None or call.labels is None:
        kinds = sorted({one.name for one in step.losses}) or ["none that is known"]
        return f"no classification loss was seen (losses: {', '.join(kinds)}); nothing of it was checked"
    if call.logits is not None and call.logits.shape[1] > MOST_CLASSES:
        return f"its outputs have {call.logits.shape[1]:,} columns, as a language model's; nothing of it was checked"
    return ""


def _columns(call: "Call") -> int | None:
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


def _tokenizer(observer: "Observer", model: nn.Module) -> Any:
    """The tokenizer of the model's name, else the only one; None if there are several."""
    known = list(observer.tokenizers)
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    named = [one for one in known if name and getattr(one, "name_or_path", None) == name]
    return named[-1] if named else known[0] if len(known) == 1 else None


def _loading_names(observer: "Observer", model: nn.Module) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """What `from_pretrained` reported for the model, or for the only such model in it."""
    loaded = [(name, module) for name, module in model.named_modules() if module in observer.loading]
    if len(loaded) != 1:
        return None, None
    prefix = f"{loaded[0][0]}." if loaded[0][0] else ""
    info = observer.loading[loaded[0][1]]
    return tuple(prefix + name for name in info[0]), tuple(info[1])


def _loss_function(step: "Step") -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The program's loss with its arguments, if it takes logits and labels; else the plain cross-entropy."""
    usable = [one for one in step.losses if one.function is not None and one.logits.ndim == 2]
    if not usable:
        return nn.functional.cross_entropy
    last = usable[-1]
    if last.value is not None and step.backward and float(last.value) * float(step.backward[-1]) < 0:
        return lambda logits, labels: -last.function(logits, labels)  # The program went backward from its negative.
    return last.function


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
    given = {name: value for name, value in call.kwargs.items() if isinstance(value, torch.Tensor)}
    for value in call.args:
        if isinstance(value, torch.Tensor):
            name = "input_ids" if not value.is_floating_point() and value.ndim == 2 else "features"
            given.setdefault(name if name not in given else f"{name}_{len(given)}", value)
        elif isinstance(value, Mapping):
            given.update({k: v for k, v in value.items() if isinstance(v, torch.Tensor)})
    given.pop("labels", None)
    batch = {name: value.detach() for name, value in given.items()}
    assert call.labels is not None
    return {**batch, "labels": call.labels}


def _is_consumable(loader: DataLoader, call: "Call") -> bool:
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


def _with_evaluation(observer: "Observer", loader: Any) -> tuple[Any, Any]:
    """The training loader, and the first other loader that exists, which is most often that of the validation rows."""
    dataset = getattr(loader, "dataset", None)
    others = [
        one
        for one in observer.loaders
        if getattr(one, "dataset", None) is not dataset and not isinstance(one.dataset, IterableDataset)
    ]
    return loader, (_without_workers(others[0]) if dataset is not None and others else None)


def _total_steps(scheduler: Any) -> int | None:
    """The steps for which a scheduler was made, where it says so."""
    total = getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None)
    for function in getattr(scheduler, "lr_lambdas", ()):
        total = total or getattr(function, "keywords", {}).get("num_training_steps")
    return int(total) if isinstance(total, int | float) and total > 0 else None


@contextlib.contextmanager
def _unnoticed_by_autograd(model: nn.Module) -> Iterator[None]:
    """The program may have computed a loss and not yet gone backward from it: changes of weights in between, which are
    taken back bit by bit, would make its backward pass fail."""
    tensors = (*model.parameters(), *model.buffers())
    with torch.autograd._unsafe_preserve_version_counter(tensors):
        yield


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What the program's own dataset or model prints while Tenor calls it must not appear twice in its output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
