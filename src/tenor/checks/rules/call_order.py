"""The order of a loop's calls: gradients thrown away, clipping and schedulers at the wrong place, modes, weights."""

from tenor.checks.evidence.training_evidence import LoopEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown
from tenor.runs.findings import Finding

MIN_STEPS = 5

DISCARDED = 0.25
"""Share of the backward passes: steps that loss scaling skips, and an incomplete accumulation at the end of an epoch,
are far fewer."""

USUALLY = 0.5
"""Share of the calls that shows how the loop is written, not a single event in it."""

SCHEDULE_TOLERANCE = 0.1
"""Between the steps for which a schedule was made and those that were taken: the last, incomplete accumulation of each
epoch, and steps that loss scaling skipped."""


RISE = 2.0
"""Factor by which a warm-up raises the first rate at least."""


def enough_steps(loop: LoopEvidence) -> int:
    if loop.steps < MIN_STEPS:
        raise CannotTell(f"{loop.steps} steps; {MIN_STEPS} are needed")
    return loop.steps


@rule(
    "OPT031",
    "error",
    explains=("gradients kept", "stalled loss", "small updates", "no gradient", "no updates", "swapped classes"),
    is_exact=True,
)
def gradients_discarded(loop: LoopEvidence) -> Finding | None:
    """Gradients are cleared before a step has used them

    Measures: backward passes whose gradients were cleared with no optimizer step since, and whose rows the next step
    does not train on.

    Threshold: a quarter of the passes, after 5 steps.

    Why: `zero_grad()` at the start of every micro-batch removes what the earlier ones have accumulated. Each step then
    uses the last micro-batch only, with a fraction of its gradient if the loss is divided. With Accelerate,
    `zero_grad()` acts only in the pass that ends an accumulation, and removes all passes before it. Between
    `backward()` and `step()` it removes everything.

    Look-alikes: steps that loss scaling skips, and the incomplete accumulation at the end of an epoch, are few. SAM and
    adversarial training clear gradients of rows that they pass again before the step. All pass.

    Fix: call `optimizer.zero_grad()` right after `optimizer.step()`, and nowhere else.

    Reference: PyTorch, `torch.optim.Optimizer.zero_grad`; accelerate, "Performing gradient accumulation".
    """
    passes, steps = known(loop.passes, "the number of backward passes"), loop.steps + loop.steps_without_gradient
    if steps < MIN_STEPS:
        raise CannotTell(f"{steps} steps; {MIN_STEPS} are needed")
    if loop.passes_discarded < DISCARDED * passes:
        return None
    between = loop.steps_without_gradient > USUALLY * steps
    return Finding(
        observed=f"the gradients of {loop.passes_discarded:,} of {passes:,} backward passes were cleared unused, in "
        f"{steps:,} steps",
        expected="a step uses the gradients of every backward pass",
        n=passes,
        cause="zero_grad() is called between backward() and step(), so the step has no gradient"
        if between
        else "zero_grad() is called between the backward passes of one step",
        fix="call optimizer.zero_grad() right after optimizer.step(), and nowhere else",
    )


@rule("OPT032", "error", explains=("diverging loss", "large updates"), is_exact=True)
def clipped_after_the_step(loop: LoopEvidence) -> Finding | None:
    """Gradients are clipped after the step has used them

    Measures: calls of gradient clipping between an optimizer step and the next backward pass.

    Threshold: half of the calls, after 5 steps.

    Why: the step has used the gradients as they were. Clipping them afterwards changes nothing, so a limit that looks
    as if it was active never is.

    Look-alikes: two optimizers that step after one backward pass, each with its own clipping; they pass.

    Fix: call `clip_grad_norm_` between `loss.backward()` and `optimizer.step()`.

    Reference: PyTorch, `torch.nn.utils.clip_grad_norm_`.
    """
    clips = known(loop.clips, "the calls of gradient clipping")
    enough_steps(loop)
    if not clips or loop.clips_after_step < USUALLY * clips:
        return None
    return Finding(
        observed=f"{loop.clips_after_step:,} of {clips:,} calls of gradient clipping came after the step, before the "
        "next backward pass",
        expected="backward, clip, step",
        n=clips,
        cause="clip_grad_norm_ is called after optimizer.step()",
        fix="move clip_grad_norm_ between loss.backward() and optimizer.step()",
    )


@rule(
    "OPT033",
    "error",
    explains=("unplanned learning rate", "wrong schedule", "zero rate", "stalled loss", "small updates"),
    is_exact=True,
)
def scheduler_not_called_once_per_step(loop: LoopEvidence) -> Finding | None:
    """The scheduler is not called once per optimizer step

    Measures: calls of the scheduler and optimizer steps.

    Threshold: as many calls as backward passes where a step has several (within 10%), and 10% more than the schedule
    was made for, or a rate of 0 in the last 10% of the steps. One call per epoch, if the schedule was made for as many
    calls as there were steps (within 10%). No call at all, if the schedule would have doubled the first rate, was made
    for as many calls as there were steps, or there were 2 epochs. After 5 steps.

    Why: called in every pass, the schedule ends early; a cosine then rises again. Called once per epoch, a
    schedule for 1,000 steps makes 3 of them, so the rate stays at the start of the warm-up; so it does if the
    scheduler is never called.

    Look-alikes: schedules made for epochs (`StepLR`, a cosine with `T_max` epochs) are called once per epoch, and pass.
    So do schedules made for all passes, constant ones, and those of a program that ended before it would have called
    them.

    Fix: call `scheduler.step()` once after each `optimizer.step()`. In Lightning:
    `{"scheduler": scheduler, "interval": "step"}`; with Accelerate, pass the scheduler to `prepare`.

    Reference: PyTorch, `torch.optim.lr_scheduler` ("How to adjust learning rate").
    """
    calls, steps = known(loop.schedule_calls, "the calls of the scheduler"), enough_steps(loop)
    passes = known(loop.passes, "the number of backward passes")
    is_in_every_pass = passes > 1.5 * steps and abs(calls - passes) < SCHEDULE_TOLERANCE * passes
    if is_in_every_pass and _ended_early(loop, calls, steps):
        rhythm = f"in every pass, of which a step has {passes / steps:.0f}"
    elif _is_per_epoch(loop, calls, steps):
        rhythm = f"once per epoch, but was made for {loop.schedule_total:,} steps"
    elif _is_never_called(loop, calls, steps):
        rhythm = "never"
    else:
        return None
    return Finding(
        observed=f"{calls:,} calls of the scheduler in {steps:,} optimizer steps: it is called {rhythm}",
        expected="one call after each optimizer step",
        n=steps,
        cause="scheduler.step() is at the wrong place of the loop" if calls else "scheduler.step() is missing",
        fix="call scheduler.step() once after each optimizer.step()",
    )


def _ended_early(loop: LoopEvidence, calls: int, steps: int) -> bool:
    """Whether the schedule was over before the training."""
    if loop.schedule_total is not None:
        return calls > (1 + SCHEDULE_TOLERANCE) * loop.schedule_total
    return loop.steps_at_rate_zero >= max(2.0, SCHEDULE_TOLERANCE * steps)


def _is_never_called(loop: LoopEvidence, calls: int, steps: int) -> bool:
    """Whether a schedule that changes the rate was not called, although it had to be by now."""
    if calls or not loop.has_ended or loop.schedule_rise is None:
        return False
    return loop.schedule_rise >= RISE or (loop.epochs or 0) >= 2 or _is_made_for(loop, steps)


def _is_made_for(loop: LoopEvidence, steps: int) -> bool:
    total = loop.schedule_total
    return total is not None and abs(total - steps) <= SCHEDULE_TOLERANCE * total


def _is_per_epoch(loop: LoopEvidence, calls: int, steps: int) -> bool:
    """Whether a schedule made for the steps of this training was called once per epoch."""
    if not calls or not loop.epochs or abs(calls - loop.epochs) > 1 or steps <= 2 * loop.epochs:
        return False
    return _is_made_for(loop, steps)


@rule("OPT034", "error", explains=("unplanned learning rate", "stalled loss", "small updates"), is_exact=True)
def plateau_in_the_wrong_direction(loop: LoopEvidence) -> Finding | None:
    """The rate is reduced when the result improves

    Measures: the `mode` of a `ReduceLROnPlateau`, and whether the values it was given are the accuracy or the loss of
    the evaluations before.

    Threshold: `min` with an accuracy or `max` with a loss; an exact invariant, for values that are equal to those of
    the evaluations.

    Why: the default mode is `min`. Given an accuracy, an improvement does not count as one, so the rate is reduced
    again and again while the model still improves.

    Look-alikes: an error rate is better if it is smaller; it is not equal to the accuracy, and passes.

    Fix: `ReduceLROnPlateau(optimizer, mode="max")` for an accuracy.

    Reference: PyTorch, `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """
    measures = known(loop.plateau_measures, "what ReduceLROnPlateau is given")
    right = "max" if measures == "accuracy" else "min"
    if loop.plateau_mode == right:
        return None
    values = ", ".join(f"{value:.3f}" for value in loop.plateau_values[:MIN_STEPS])
    return Finding(
        observed=f"ReduceLROnPlateau(mode={loop.plateau_mode!r}) is given the {measures}: {values}",
        expected=f"mode={right!r} for the {measures}",
        n=len(loop.plateau_values),
        cause=f"mode={loop.plateau_mode!r} takes a "
        f"{'rising accuracy' if measures == 'accuracy' else 'falling loss'} for no improvement",
        fix=f"ReduceLROnPlateau(optimizer, mode={right!r})",
    )


@rule("OPT035", "warning", explains=("stalled loss", "bad result"), is_exact=True)
def weights_replaced_by_evaluation(loop: LoopEvidence) -> Finding | None:
    """Something else than the optimizer changes the weights at evaluations

    Measures: a sample of the weights after the last step before an evaluation, compared with the same sample before
    the next step.

    Threshold: changed at half of at least 2 evaluations between training steps.

    Why: averaged weights (EMA, SWA) are copied into the model for the evaluation and not taken out again, or an older
    state is loaded. Training then continues from other weights than the optimizer made, and its steps since are lost.

    Look-alikes: averaged weights that are restored after the evaluation are equal again, and pass. Returning to the
    best state on purpose, as some schedules do: allow the rule with that reason.

    Fix: restore the trained weights after the evaluation, or evaluate a copy of the model.

    Reference: Polyak and Juditsky 1992; PyTorch, `torch.optim.swa_utils.AveragedModel`, which is a copy.
    """
    at = loop.weights_replaced_at
    if loop.evaluations < 2:
        raise CannotTell(f"{loop.evaluations} evaluations between training steps; 2 are needed")
    if len(at) < max(2.0, USUALLY * loop.evaluations):
        return None
    return Finding(
        observed=f"the weights changed without an optimizer step at {len(at):,} of {loop.evaluations:,} evaluations "
        f"(after steps {', '.join(map(str, at[:MIN_STEPS]))})",
        expected="after an evaluation the weights that the optimizer made",
        n=loop.evaluations,
        cause="averaged or older weights were put into the model for the evaluation and not taken out again",
        fix="restore the trained weights after the evaluation, or evaluate a copy of the model",
    )


WITHOUT = 0.1
"""Share of the steps without dropout from which on the configured dropout is not what trains the model."""


@rule("MOD012", "warning", explains=("rising validation loss", "bad result"), is_exact=True)
def trained_without_dropout(loop: LoopEvidence) -> Finding | None:
    """The model trains with its dropout switched off

    Measures: optimizer steps at which dropout layers with trainable parameters around them were in evaluation mode.

    Threshold: a tenth of the steps, after 5 steps.

    Why: `model.eval()` in an evaluation stays in force until `model.train()`. `from_pretrained` returns a model in
    evaluation mode, and Lightning (since 2.2) leaves it there. Without dropout the model overfits sooner.

    Look-alikes: a frozen encoder in evaluation mode on purpose, and layers whose dropout is 0; both pass.

    Fix: call `model.train()` at the start of every epoch, after each evaluation; in a LightningModule
    `self.encoder = AutoModel.from_pretrained(…).train()`. If dropout is unwanted, configure it as 0.

    Reference: PyTorch, `torch.nn.Module.eval`; Srivastava et al. 2014, Dropout.
    """
    without, steps = known(loop.steps_without_dropout, "layers with dropout"), enough_steps(loop)
    if without < max(MIN_STEPS, WITHOUT * steps):
        return None
    first = loop.first_without_dropout or 1
    return Finding(
        observed=f"dropout layers in evaluation mode at {without:,} of {steps:,} steps, first at step {first:,}: "
        f"{shown(loop.without_dropout)}",
        expected="training mode at every step",
        n=steps,
        cause="model.eval() was called in an evaluation, and model.train() was not called after it"
        if first > 1
        else "from_pretrained returns a model in evaluation mode, and model.train() was not called",
        fix="call model.train() at the start of every epoch",
    )


@rule("DAT032", "warning", is_exact=True)
def same_order_in_every_epoch(loop: LoopEvidence) -> Finding | None:
    """Every epoch has the rows in the same order

    Measures: the rows of the first batches of each epoch.

    Threshold: equal in all of at least 2 epochs, with a sampler that draws rows in a random order; an exact invariant.

    Why: a shuffled epoch is a new sample of batches. With the same batches every time, the noise of the gradient
    repeats, and the same rows are always in one batch.

    Look-alikes: a loader that does not shuffle on purpose; other rules judge its order.

    Fix: with a `DistributedSampler`, call `sampler.set_epoch(epoch)` at the start of each epoch; do not seed the
    sampler's generator again in each epoch.

    Reference: PyTorch, `torch.utils.data.distributed.DistributedSampler.set_epoch`.
    """
    same = known(loop.epochs_in_same_order, "the order of the rows in several epochs")
    epochs = loop.epochs or 0
    if not loop.is_shuffled or epochs < 2 or same < epochs:
        return None
    return Finding(
        observed=f"the first batches of all {epochs} epochs have the same rows",
        expected="another order in each epoch",
        n=epochs,
        cause="sampler.set_epoch() is not called, or the generator is seeded anew in each epoch",
        fix="call sampler.set_epoch(epoch) at the start of each epoch",
    )


@rule("CKP014", "error", explains=("bad result", "rising validation loss"), is_exact=True)
def state_loaded_into_itself(loop: LoopEvidence) -> Finding | None:
    """The state that is loaded is the model's own, not a copy of the best one

    Measures: calls of `load_state_dict` with tensors that share their memory with the module's parameters.

    Threshold: none; an exact invariant.

    Why: `best = model.state_dict()` keeps references, not copies, so every later step changes `best` too. Loading it at
    the end changes nothing: the model that is used is the last one.

    Look-alikes: loading a state into another module, or a cloned state, passes.

    Fix: `best = copy.deepcopy(model.state_dict())`, or save it to a file.

    Reference: PyTorch, "Saving and Loading Models": "best_model_state = model.state_dict() returns a reference".
    """
    if not loop.loads_of_itself:
        return None
    return Finding(
        observed=f"load_state_dict was called {loop.loads_of_itself:,} times with the module's own tensors"
        if loop.loads_of_itself > 1
        else "load_state_dict was called with the module's own tensors",
        expected="a copy of an earlier state",
        n=loop.loads_of_itself,
        cause="model.state_dict() returns references to the parameters, which later steps changed",
        fix="keep copy.deepcopy(model.state_dict()), or save the state to a file",
    )
