"""Faults in the optimizer, the schedule, the rhythm of steps and the precision."""

import copy
from dataclasses import replace
from typing import Any

import torch

from faults.fault import fault, faults_of
from faults.program import Program, Step, adamw

PARTS = 4
"""Of an accumulated step, each of a quarter of the examples."""


def accumulating(program: Program, **how: Any) -> Program:
    return replace(program, batch_size=program.batch_size // PARTS, step=Step(parts=PARTS, **how))


def over(choose: Any) -> Any:
    """Makes AdamW over the parameters that `choose` takes by name."""

    def make(model: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for name, p in model.named_parameters() if choose(name)], lr=2e-4)

    return make


@fault("preflight", "OPT002")
def the_head_is_not_optimized(program: Program) -> Program:
    """The optimizer was made before the head."""
    return replace(program, make_optimizer=over(lambda name: "classifier" not in name))


@fault("preflight", "OPT001")
def a_layer_is_not_optimized(program: Program) -> Program:
    """The optimizer's groups forget the attention."""
    return replace(program, make_optimizer=over(lambda name: "attention" not in name))


@fault("preflight", "OPT003")
def a_parameter_twice(program: Program) -> Program:
    """The head stands in the optimizer twice."""

    def make(model: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([*model.parameters(), *model.classifier.parameters()], lr=2e-4)

    return replace(program, make_optimizer=make)


@fault("preflight", "OPT004")
def another_models_optimizer(program: Program) -> Program:
    """The model was copied after the optimizer was made."""
    return replace(program, make_optimizer=lambda model: adamw(copy.deepcopy(model), 2e-4))


@fault("preflight", "OPT005")
def a_rate_of_zero(program: Program) -> Program:
    """The learning rate is 0."""
    return replace(program, rate=0.0)


@fault("training", "OPT006", "OPT017")
def a_rate_far_too_small(program: Program) -> Program:
    """The learning rate is 2e-10."""
    return replace(program, rate=2e-10)


@fault("training", "OPT007", "OPT018", "LOS008")
def a_rate_far_too_large(program: Program) -> Program:
    """The learning rate is 0.5."""
    return replace(program, rate=0.5)


@fault("preflight", "OPT011")
def decay_on_norms(program: Program) -> Program:
    """Weight decay of 0.1 on everything, norms and biases included."""
    return replace(
        program, make_optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.1)
    )


@fault("preflight", "OPT008")
def the_schedule_ends_early(program: Program) -> Program:
    """The schedule was made for a fifth of the steps."""
    return replace(program, factor=lambda step, total: max(0.0, 1 - 5 * step / total))


@fault("preflight", "OPT009")
def warm_up_without_end(program: Program) -> Program:
    """Warm-up takes ten times as many steps as there are."""
    return replace(program, factor=lambda step, total: min(1.0, step / (10 * total)))


@fault("training", "OPT019", in_program=("OPT033",))
def the_scheduler_steps_for_each_part(program: Program) -> Program:
    """The scheduler is stepped after every forward pass of an accumulated step."""
    return accumulating(program, scheduler_steps=PARTS)


@fault("training", "OPT019", in_program=("OPT033",))
def the_scheduler_is_never_stepped(program: Program) -> Program:
    """`scheduler.step()` is missing; the warm-up never ends."""
    return replace(program, step=Step(scheduler_steps=0))


@fault("training", "OPT012")
def gradients_not_cleared(program: Program) -> Program:
    """`optimizer.zero_grad()` is missing."""
    return replace(program, step=Step(clear="never"))


@fault("training", "OPT021", in_program=("OPT031",))
def gradients_cleared_too_early(program: Program) -> Program:
    """`optimizer.zero_grad()` stands between backward and step."""
    return replace(program, step=Step(clear="before the step"))


@fault("training", "OPT021")
def no_optimizer_step(program: Program) -> Program:
    """`optimizer.step()` is missing."""
    return replace(program, step=Step(take=False))


@fault("training", "OPT014")
def clipped_before_unscaling(program: Program) -> Program:
    """Gradients are clipped while they carry the loss scale."""
    step = Step(scaler=lambda: torch.amp.GradScaler("cpu"), unscale_first=False)
    return replace(program, step=step, loss_scaling=True)


@fault("training", "PRC003")
def every_step_overflows(program: Program) -> Program:
    """The loss scale is so large that no gradient is finite."""
    step = Step(scaler=lambda: torch.amp.GradScaler("cpu", init_scale=3e38, backoff_factor=0.999))
    return replace(program, step=step, loss_scaling=True)


@fault("training", "OPT013", "OPT022")
def always_clipped(program: Program) -> Program:
    """The limit of clipping is a ten-thousandth of the usual one."""
    return replace(program, step=Step(clip_at=1e-4))


@fault("training", "OPT022")
def accumulation_not_divided(program: Program) -> Program:
    """The losses of an accumulated step are added up."""
    return accumulating(program, divide=False)


@fault("preflight", "OPT015")
def one_step_per_epoch_and_more(program: Program) -> Program:
    """Accumulation over 128 forward passes, of which an epoch has 40."""
    return replace(program, step=Step(parts=128), epochs=8)


@fault("preflight", "PRC002", "PRC001")
def float16_without_scaling(program: Program) -> Program:
    """Autocast to float16 without a scaler; most processors only emulate the type, besides."""
    return replace(program, precision="fp16")


@fault("preflight", "PRC004", "PRC001")
def weights_in_bfloat16(program: Program) -> Program:
    """The model is trained in bfloat16 throughout: small updates are rounded away, and few processors compute it."""
    return replace(program, prepare=lambda model: model.to(torch.bfloat16) and None, precision="bf16")


FAULTS = faults_of(globals())
