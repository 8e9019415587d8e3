"""Healthy programs, awkward in the optimizer, the schedule, the rhythm of steps and the precision."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from faults.control import control, controls_of
from faults.in_steps import PARTS
from faults.program import Objects, Program, Step, healthy


@control
def warm_up_from_zero(program: Program) -> Program:
    return replace(program, factor=lambda step, total: min(1.0, step / (0.2 * total)) * (1 - step / total))


@control
def long_warm_up(program: Program) -> Program:
    return replace(program, factor=lambda step, total: min(1.0, step / (0.3 * total)))


@control
def constant_rate(program: Program) -> Program:
    return replace(program, factor=lambda step, total: 1.0)


@control
def cosine_schedule(program: Program) -> Program:
    return replace(program, factor=lambda step, total: 0.5 * (1 + float(np.cos(np.pi * step / total))))


@control
def decay_by_epoch(program: Program) -> Program:
    return replace(program, epochs=2, factor=lambda step, total: 0.5 ** (2 * step // total))


@control
def accumulated(program: Program) -> Program:
    return replace(program, batch_size=program.batch_size // PARTS, step=Step(parts=PARTS))


@control
def accumulated_in_uneven_parts(program: Program) -> Program:
    return replace(program, batch_size=7, step=Step(parts=3))


@control
def never_clipped(program: Program) -> Program:
    return replace(program, step=Step(clip_at=None))


@control
def clipped_hard(program: Program) -> Program:
    return replace(program, step=Step(clip_at=0.5))


@control
def loss_scaled(program: Program) -> Program:
    return replace(program, step=Step(scaler=lambda: torch.amp.GradScaler("cpu")), loss_scaling=True)


@control
def large_batches(program: Program) -> Program:
    return replace(program, batch_size=64, epochs=2, rate=4e-4)


@control
def small_batches(program: Program) -> Program:
    return replace(healthy(program.encoders, program.seed, rows=320), batch_size=4, rate=1e-4)


@control
def a_low_rate(program: Program) -> Program:
    return replace(program, rate=2e-5)


@control
def a_high_rate(program: Program) -> Program:
    return replace(program, rate=1e-3)


@control
def stochastic_gradient_descent(program: Program) -> Program:
    return replace(
        program, make_optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rate=0.05
    )


@control
def two_rates(program: Program) -> Program:
    def make(model: Any) -> torch.optim.Optimizer:
        head = [p for name, p in model.named_parameters() if "classifier" in name]
        return torch.optim.AdamW(
            [{"params": list(model.base_model.parameters()), "lr": 1e-4}, {"params": head, "lr": 1e-3}],
            weight_decay=0.0,
        )

    return replace(program, make_optimizer=make)


@control
def resumed(program: Program) -> Program:
    """Model, optimizer and schedule are saved, made anew and loaded in the middle."""

    def reload(objects: Objects) -> None:
        model = copy.deepcopy(objects.model.state_dict())
        optimizer, scheduler = copy.deepcopy(objects.optimizer.state_dict()), objects.scheduler.state_dict()
        objects.model.load_state_dict(model)
        objects.optimizer.load_state_dict(optimizer)
        objects.scheduler.load_state_dict(scheduler)

    return replace(program, at_step={20: reload})


@control
def an_average_of_the_weights_beside(program: Program) -> Program:
    averages: dict[str, torch.Tensor] = {}

    def follow(objects: Objects) -> None:
        for name, parameter in objects.model.named_parameters():
            averages.setdefault(name, parameter.detach().clone()).lerp_(parameter.detach(), 0.1)

    return replace(program, at_step=dict.fromkeys(range(4, 40, 4), follow))


CONTROLS = controls_of(globals())
