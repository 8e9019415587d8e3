"""What `transformers.Trainer` is about to do: how several processes share the work, and which checkpoints it keeps."""

import gc
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence, ResumeEvidence
from tenor.checks.evidence.process_evidence import ProcessEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import loader_batches, random_states_kept
from tenor.checks.gather.intentions import saved_under_other_names
from tenor.checks.gather.model_parts import WRAPPERS, unwrapped

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
ROWS = 4
"""Rows of the batch on which the loss is computed."""


def trainer_evidence(
    model: nn.Module, args: Any, state: Any, train_loader: Iterable[Any]
) -> tuple[CheckpointEvidence | ProcessEvidence, ...]:
    """From what a callback of `transformers.Trainer` is given at the start of training."""
    processes: tuple[ProcessEvidence, ...] = ()
    if args.world_size > 1:
        processes = (trainer_processes(model, args, train_loader),)
    return (trainer_checkpoints(model, args, state), *processes)


def resumed_schedule(done: int, scheduler: Any) -> ResumeEvidence:
    """The rate from which the schedule of a run that was resumed after `done` steps continues, and the planned one, if
    the schedule is a function of the step, as all of `transformers` are but the one that follows a metric."""
    schedule = getattr(scheduler, "scheduler", scheduler)  # Accelerate's wrapper.
    if not isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
        return ResumeEvidence(done, done + 1)
    # With float16, the schedule does not count steps that were skipped.
    planned = schedule.last_epoch if schedule.last_epoch >= done / 2 else done
    after, expected = (
        float(max(base * factor(step) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)))
        for step in (schedule.last_epoch, planned)
    )
    return ResumeEvidence(done, done + 1, rate_after=after, planned_rate_after=expected)


def trainer_checkpoints(model: nn.Module, args: Any, state: Any) -> CheckpointEvidence:
    """Which checkpoints are in the output folder, and whether those of this run will be restored completely."""
    keeps_best = args.load_best_model_at_end
    tracks_best = args.metric_for_best_model is not None
    saves = args.save_strategy != "no"
    restored_by = ("load_best_model_at_end",) if keeps_best else ()
    return CheckpointEvidence(
        best_is_used=keeps_best,
        not_restored=saved_under_other_names(model),
        restored_by=(*restored_by, *(("resume_from_checkpoint",) if state.global_step else ())),
        other_runs=_later_checkpoints(Path(args.output_dir), state.global_step),
        deletes_last=saves and args.save_total_limit == 1 and tracks_best and not keeps_best,
    )


def _later_checkpoints(folder: Path, done: int) -> tuple[str, ...]:
    """Checkpoints of steps that this run has not taken yet, in the order of their steps."""
    names = [path.name for path in folder.glob("checkpoint-*") if path.is_dir()] if folder.is_dir() else []
    steps = {name: int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))}
    return tuple(sorted((name for name, step in steps.items() if step > done), key=steps.__getitem__))


def trainer_processes(model: nn.Module, args: Any, train_loader: Iterable[Any]) -> ProcessEvidence:
    """Whether the Trainer that owns `args` has wrapped its model, and how it scales the loss."""
    trainer = owner_of(args, model)
    if trainer is None:
        return ProcessEvidence(args.world_size, is_trainer=True, loss_unknown="the Trainer was not found")
    try:
        factor, reason = _loss_factor(trainer, loader_batches(train_loader, 1)[0]), ""
    except CannotTell as why:
        factor, reason = None, str(why)
    return ProcessEvidence(
        args.world_size,
        gradients_averaged=trainer.model_wrapped is not trainer.model or is_wrapped(model),
        is_trainer=True,
        loss_factor=factor,
        loss_unknown=reason,
    )


def process_evidence(model: nn.Module) -> ProcessEvidence:
    """Of a hand-written loop. Raises CannotTell for a single process."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        raise CannotTell("there is a single process")
    if torch.distributed.get_world_size() < 2:
        raise CannotTell("there is a single process")
    return ProcessEvidence(torch.distributed.get_world_size(), gradients_averaged=is_wrapped(model))


def is_wrapped(model: nn.Module) -> bool:
    """Whether a model, or what wraps it anywhere in the program, averages gradients over the processes."""
    inner = unwrapped(model)
    if inner is not model or any(_is_sharded(p) for p in model.parameters()):
        return True
    # The wrapper refers to the model in its `_modules`: the program may pass the model itself.
    holders = [holder for holder in gc.get_referrers(inner) if isinstance(holder, dict)]
    return any(
        type(wrapper).__name__ in (*WRAPPERS, "DeepSpeedEngine")
        for holder in holders
        for wrapper in (*gc.get_referrers(holder),)
        if isinstance(wrapper, nn.Module) and wrapper._modules is holder
    )


def _is_sharded(parameter: nn.Parameter) -> bool:
    """Whether FSDP or tensor parallelism has made a DTensor of a parameter."""
    return hasattr(parameter, "full_tensor")


def owner_of(args: Any, model: nn.Module) -> Any:
    """The Trainer of these arguments and this model, or None: a callback is not given it."""
    from transformers import Trainer

    holders = gc.get_referrers(args)
    # The attributes of an object are in a dictionary of its own, or, in newer versions of Python, in the object.
    owners = [owner for holder in holders if isinstance(holder, dict) for owner in gc.get_referrers(holder)]
    trainers = (one for one in (*holders, *owners) if isinstance(one, Trainer))
    return next((one for one in trainers if one.args is args and one.model is model), None)


def _loss_factor(trainer: Any, batch: Any) -> float | None:
    """The loss that the Trainer computes in this run over the one that it computes without scaling, on a few rows.

    With `average_tokens_across_devices` the Trainer multiplies the loss by the number of processes N, and expects the
    model to divide its summed loss by the number of rows of all N processes; the classes that ignore this number
    return a mean, N times of which is then used. Here both are computed as they would be if every process had the same
    rows.
    """
    args, n = trainer.args, trainer.accelerator.num_processes
    if not isinstance(batch, Mapping) or "labels" not in batch:
        raise CannotTell("the batches are no mappings with labels")
    counts = trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
    modes = {module: module.training for module in trainer.model.modules()}
    averages, losses = args.average_tokens_across_devices, []
    try:
        trainer.model.eval()
        inputs = trainer._prepare_inputs({name: value[:ROWS] for name, value in batch.items()})
        rows = inputs["labels"].ne(-100).sum()
        for args.average_tokens_across_devices in (averages, False):
            items = (rows * n if args.average_tokens_across_devices else rows) if counts else None
            with torch.no_grad(), random_states_kept(), trainer.compute_loss_context_manager():
                losses.append(float(trainer.compute_loss(trainer.model, dict(inputs), num_items_in_batch=items)))
    except Exception as error:  # A `compute_loss` of the user's own can raise anything.
        raise CannotTell(f"computing the loss of {ROWS} rows failed: {error}") from error
    finally:
        args.average_tokens_across_devices = averages
        for module, mode in modes.items():
            module.training = mode
    return losses[0] / losses[1] if losses[1] > 0 else None
