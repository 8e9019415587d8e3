"""Number types: whether the hardware supports them, and whether small gradients, updates or whole rows are lost."""

from tenor.checks.evidence.model_evidence import ModelEvidence, PrecisionEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import rule
from tenor.checks.rules.shared import known, shown
from tenor.runs.findings import Finding

CPU_SLOWDOWN = 120.0
"""160 GFLOP/s in float32 and 1.3 in emulated bfloat16, on two AVX2 cores with PyTorch 2.13."""

SLOW = 1.5
"""Slowdown below which half the memory may be worth it."""

MIN_ATTEMPTS = 20
CALIBRATION_SKIPS = 16
"""A loss scale that starts at 2^16 and halves on overflow reaches 1 after 16 skipped steps."""

MANY_SKIPPED, MOST_SKIPPED = 0.1, 0.5


@rule("PRC001", "warning", setting={"training.precision": "auto"})
def type_is_emulated(precision: PrecisionEvidence) -> Finding | None:
    """The processor only emulates this 16-bit type

    Measures: whether the processor multiplies matrices of the chosen type in hardware and, if it was timed, how many
    times longer a product takes than in float32.

    Threshold: 1.5 times; not timed, the lack of instructions. A warning however slow it is: the result is correct.

    Why: autocast to bfloat16 on a CPU without AMX or AVX-512 BF16 turns an hour into days.

    Look-alikes: a processor with these instructions; a small slowdown accepted for half the memory.

    Fix: `precision: auto`, or fp32 on this device.

    Reference: Tenor's own measurement on AVX2; oneDNN, Data types ("hardware limitations").
    """
    if precision.kind == "fp32" or precision.computed_in_hardware:
        return None
    on_cpu = precision.device.startswith("cpu")
    slowdown = precision.slowdown
    if slowdown is not None and slowdown < SLOW:
        return None
    if slowdown is not None:
        figure = f"a matrix product takes {slowdown:.0f} times as long as in fp32"
    elif on_cpu:
        figure = f"on such processors it is about {CPU_SLOWDOWN:.0f} times slower than fp32"
    else:
        figure = "its slowdown was not measured"
    return Finding(
        observed=f"{precision.kind} on {precision.device}, which has no instructions for it; {figure}",
        expected="a type that the processor computes in hardware",
        n=1,
        cause=f"the processor emulates {precision.kind} in software",
        fix="use precision fp32 on this device (auto picks it)",
    )


@rule("PRC002", "error", explains=("bad result", "stalled loss", "not a number", "odd probabilities"))
def fp16_without_scaling(precision: PrecisionEvidence) -> Finding | None:
    """Float16 is used without loss scaling

    Measures: the number type of the forward pass, and whether the loss is scaled before the backward pass.

    Threshold: float16 needs scaling, an exact requirement: its smallest positive number is 6e-8.

    Why: smaller gradients become zero, first in the lower layers, and training stalls silently.

    Look-alikes: bfloat16 has the range of float32 and needs no scaling; neither does float16 for inference alone.

    Fix: use `torch.amp.GradScaler`, `accelerate` with mixed_precision="fp16", or bfloat16 on hardware that supports it.

    Reference: Micikevicius et al. 2018, Mixed Precision Training.
    """
    if precision.kind != "fp16" or precision.loss_scaling:
        return None
    return Finding(
        observed="fp16 forward and backward passes with an unscaled loss",
        expected="loss scaling with fp16",
        n=1,
        cause="gradients below 6e-8 are zero in float16",
        fix="scale the loss with torch.amp.GradScaler, or use bf16 or fp32",
    )


@rule(
    "PRC003",
    "error",
    symptoms=("skipped steps",),
    explains=("bad result", "stalled loss", "no updates", "odd probabilities", "small updates"),
)
def scaling_skips_steps(steps: StepEvidence) -> Finding | None:
    """Loss scaling skips many steps

    Measures: optimizer steps skipped because of non-finite gradients, beyond the 16 that may calibrate the scale, as a
    share of the steps so far.

    Threshold: 10% is a warning, half an error; at least 20 steps.

    Why: a skipped step changes nothing, but a schedule that counts it still lowers the rate.

    Look-alikes: the first few steps, while the scale falls from 65,536; one step in a few thousand, when the scale is
    raised.

    Fix: use bf16 or fp32; otherwise a lower rate, and look for the layer that overflows
    (`torch.autograd.set_detect_anomaly`).

    Reference: Micikevicius et al. 2018; PyTorch, `torch.amp.GradScaler`.
    """
    skipped = known(steps.skipped_steps, "how many steps loss scaling skipped")
    attempts = int(max(steps.steps)) if len(steps.steps) else 0
    if attempts < MIN_ATTEMPTS:
        raise CannotTell(f"{attempts} steps so far; {MIN_ATTEMPTS} are needed")
    count = int(skipped.sum())
    share = max(0, count - CALIBRATION_SKIPS) / attempts
    if share <= MANY_SKIPPED:
        return None
    return Finding(
        observed=f"{count:,} of {attempts:,} steps skipped",
        expected="a few skipped steps at the start, then almost none",
        n=attempts,
        cause="the gradient overflows float16 at any scale, or is NaN",
        fix="use bf16 or fp32; otherwise lower the rate and find the first layer with a non-finite output",
        severity="error" if share > MOST_SKIPPED else "warning",
    )


@rule("PRC004", "warning", explains=("stalled loss", "no updates"))
def weights_in_16_bits(precision: PrecisionEvidence) -> Finding | None:
    """Trainable weights are stored in 16 bits

    Measures: the type in which trainable weights are stored.

    Threshold: float32 for trainable weights.

    Why: bfloat16 keeps 8 bits, so an update below 1/512 of a weight is rounded away, and fine-tuning updates are about
    1/10,000. Training seems to run, but the weights do not change.

    Look-alikes: frozen weights in 16 or fewer bits with trainable float32 adapters (QLoRA) are fine; so are optimizers
    with stochastic rounding or a float32 master copy.

    Fix: load in float32 (`dtype=torch.float32`), and let autocast choose the type of matrix products.

    Reference: Micikevicius et al. 2018 (master weights); Zamirai et al. 2020, Revisiting BFloat16 Training.
    """
    if precision.weights_kind in ("fp32", "fp64"):
        return None
    return Finding(
        observed=f"trainable weights in {precision.weights_kind}",
        expected="fp32",
        n=1,
        cause="the model was loaded in or cast to a 16-bit type, and the updates are smaller than its rounding",
        fix="load with dtype=torch.float32 and use autocast for the forward pass",
    )


@rule("PRC005", "error", explains=("bad result", "not a number", "metric not a number"))
def weights_are_not_finite(model: ModelEvidence) -> Finding | None:
    """Weights are NaN or infinite before the first step

    Measures: the values of every parameter.

    Threshold: none; an exact invariant.

    Why: every logit is then NaN, and so are all weights after the first step. A head that was newly initialized in 16
    bits came out as NaN with some versions of PyTorch and `transformers`; a conversion to float16 turns values above
    65,504 into infinity; `torch.empty` contains whatever was in memory.

    Look-alikes: none.

    Fix: load in float32 (`from_pretrained(…, dtype=torch.float32)`), and initialize the parameters that are named.

    Reference: transformers, issue 46002.
    """
    broken = known(model.not_finite, "the values of the parameters")
    if not broken:
        return None
    return Finding(
        observed=f"{len(broken):,} parameters contain NaN or infinity: {shown(broken)}",
        expected="finite weights",
        n=len(model.parameters),
        cause="they were never initialized, overflowed in a conversion to 16 bits, or come from a diverged checkpoint",
        fix="load the model with dtype=torch.float32, and initialize these parameters again",
    )


@rule("PRC006", "error", symptoms=("metric not a number",), says_why=False)
def evaluated_rows_are_not_finite(steps: StepEvidence) -> Finding | None:
    """Some evaluated rows have logits that are NaN or infinite

    Measures: rows of forward passes without gradients, as in an evaluation, whose largest logit is NaN or infinite.

    Threshold: none; an exact invariant.

    Why: `transformers` 5.23 leaves losses that are NaN or infinite out of `eval_loss` (`logging_nan_inf_filter`, on by
    default), so the logged loss is that of the other rows, and falls when more rows break. The predicted class of such
    a row is 0, the argmax of NaN.

    Look-alikes: classes that are masked with -inf pass. Any other forward pass without gradients counts too.

    Fix: find the rows, often empty texts or masks of zeros; evaluate in float32.

    Reference: transformers 5.23, `Trainer.evaluation_loop`.
    """
    broken = known(steps.rows_not_finite, "whether the logits of evaluated rows are finite")
    rows = known(steps.rows_evaluated, "how many rows were evaluated")
    if not rows:
        raise CannotTell("no rows were evaluated yet")
    if not broken:
        return None
    return Finding(
        observed=f"{broken:,} of {rows:,} evaluated rows have logits that are NaN or infinite",
        expected="finite logits for every row",
        n=rows,
        cause="an overflow, a division by 0 or weights that are NaN; transformers leaves such rows out of eval_loss",
        fix="evaluate in float32, and look at the rows whose logits are not finite: empty texts, masks of zeros",
    )
