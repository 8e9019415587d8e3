"""The optimizer, the planned and the recorded steps of a training, and the order of a loop's calls."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tenor.checks.evidence.conversion import convert, names_of
from tenor.data.sequences import array_of


@dataclass(frozen=True)
class GroupRow:
    """One parameter group of an optimizer."""

    names: tuple[str, ...]
    """Names in the model; a parameter that is in the group twice is named twice."""
    foreign: int
    """Number of parameters in the group that do not belong to the model."""
    learning_rate: float
    """The peak rate if it is known, else the current one."""
    weight_decay: float


@dataclass(frozen=True)
class OptimizerEvidence:
    """The optimizer's groups compared with the model's parameters."""

    description: ClassVar[str] = "the optimizer's parameter groups"

    groups: tuple[GroupRow, ...]
    trainable: frozenset[str]
    """Names of the parameters with `requires_grad`."""
    head: frozenset[str]
    """Names of the parameters in the head, trainable or frozen."""
    one_dimensional: frozenset[str]
    """Names of biases and norms."""
    kind: str = "AdamW"
    body_newly_initialized: bool | None = None
    """Whether the encoder is newly initialized: every norm weight exactly 1, every bias exactly 0."""
    added: frozenset[str] = frozenset()
    """Names of adapters and prompts, trainable or frozen."""


@dataclass(frozen=True, eq=False)
class ScheduleEvidence:
    """The planned steps and learning rates."""

    description: ClassVar[str] = "the plan of steps and learning rates"

    factors: np.ndarray
    """Learning rate over its peak at each planned optimizer step, shape (steps,)."""
    steps_per_epoch: int
    """Optimizer steps in one epoch."""
    epochs: float
    batches_per_epoch: int | None = None
    """Forward passes in one epoch."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    declared_warmup_steps: int | None = None

    def __post_init__(self) -> None:
        convert(self, array_of, "factors")


@dataclass(frozen=True)
class ValidationPoint:
    """One validation during training."""

    step: int
    value: float
    """The logged value of one metric."""


@dataclass(frozen=True)
class FocalFit:
    """How well a focal factor of the batch mean, (1 - exp(-m))^γ m for a mean cross-entropy m, explains a loss."""

    gamma: float
    """The exponent γ that fits best; 0 for a plain mean."""
    error: float
    """Standard deviation of the logarithms of the losses' derivatives by m that it leaves unexplained."""
    change: float
    """Standard deviation of these logarithms: 0 for a plain mean."""
    passes: int
    """Forward passes that were read."""


@dataclass(frozen=True, eq=False)
class StepEvidence:
    """The recorded optimizer steps so far; arrays have shape (records,)."""

    description: ClassVar[str] = "a record of the training steps"

    steps: np.ndarray
    loss: np.ndarray
    n_classes: int | None = None
    total_steps: int | None = None
    body_newly_initialized: bool | None = None
    """Whether the encoder was newly initialized before the first step."""
    grad_norm: np.ndarray | None = None
    """Before clipping."""
    clip_at: float | None = None
    validation_loss: tuple[ValidationPoint, ...] = ()
    """Of held-out rows; empty if it was not logged."""
    epochs: float | None = None
    """Passes over the training rows up to the last record."""
    unit: Literal["step", "epoch", "record"] = "step"
    """What a step number counts, if the records are means over epochs or were not numbered."""
    ended: bool = False
    """Whether the records were read from a run's files: no further step will be recorded."""
    last_step: int | None = None
    """The last step that was taken, if it is known apart from the records."""
    train_rows: int | None = None
    """The number of training rows, if the run records it."""
    kept_checkpoints: tuple[int, ...] | None = None
    """Steps of the checkpoints among the run's files; None if these were not searched, or do not say their steps."""
    stopped_because: str = ""
    """Why training ended before its planned steps, as the run's own record says; empty if it does not say so."""
    has_evaluation: bool | None = None
    """Whether the run's files contain a result on held-out rows."""
    keeps_best: bool | None = None
    """Whether the model that is used is the best checkpoint, not the last one."""
    learning_rate: np.ndarray | None = None
    """The learning rate in the optimizer."""
    planned_rate: np.ndarray | None = None
    logged_rates: tuple[ValidationPoint, ...] = ()
    """The learning rates of a log that has them at other steps than the losses, such as once per epoch."""
    configured_rate: float | None = None
    """The learning rate in the run's settings, if they are recorded."""
    update_ratio: np.ndarray | None = None
    """Norm of the update over the norm of the weights, for a matrix from the middle of the model."""
    update_of_encoder: bool = True
    """Whether that matrix belongs to the encoder, not to a head, an adapter or a prompt."""
    predicted_counts: np.ndarray | None = None
    """Training predictions per class since the last record, shape (records, K)."""
    label_counts: np.ndarray | None = None
    """Training labels per class since the last record, shape (records, K)."""
    skipped_steps: np.ndarray | None = None
    """Optimizer steps that loss scaling skipped since the last record."""
    frozen_moved: tuple[str, ...] | None = None
    """Frozen parameters whose values changed since the start."""
    unchanged_trainable: tuple[str, ...] | None = None
    """Trainable parameters whose values have not changed since the start."""
    without_gradient: tuple[str, ...] | None = None
    """Parameters of the optimizer that had no gradient, or only zeros, at any of its steps so far."""
    share_without_gradient: float | None = None
    """The share of the optimizer's weights that these have."""
    gradient_kept: bool | None = None
    """Whether gradients already existed when a new accumulation began, because they were not cleared."""
    clipped_before_unscale: bool | None = None
    evaluated_in_training_mode: bool | None = None
    """Whether a module with dropout was in training mode during validation."""
    backward_ratio: float | None = None
    """Sum of the losses on which `backward` was called within one optimizer step, over the mean loss of its rows."""
    parts_per_step: int | None = None
    """The number of those calls: the forward passes that one step accumulates."""
    rewarded_for_several: int | None = None
    """A class that the loss rewards most for the rows of two classes or more, according to the gradient at the logits;
    -1 if every class is rewarded for its own rows."""
    kind_of_loss: Literal["mean", "sum", "probabilities"] | None = None
    """The kind of loss according to the gradient at the logits: a mean or a sum of cross-entropies, or one applied to
    probabilities instead of logits."""
    focal_fit: FocalFit | None = None
    """Of forward passes whose loss depends on their rows through one mean; None if none was seen."""
    mean_loss: float | None = None
    """The mean loss of the whole training, if the run records it apart from the records."""
    rows_evaluated: int | None = None
    """Rows in forward passes without gradients, which are those of evaluations."""
    rows_not_finite: int | None = None
    """Those of them whose largest logit is NaN or infinite; a class that is masked with -inf is none."""

    def __post_init__(self) -> None:
        convert(self, array_of, "steps", "loss", "grad_norm", "learning_rate", "planned_rate", "update_ratio")
        convert(self, array_of, "predicted_counts", "label_counts", "skipped_steps")
        convert(self, names_of, "frozen_moved", "unchanged_trainable", "without_gradient")

    def at(self, step: int) -> str:
        """A step as text; Keras counts epochs from 0 in some of its files."""
        from_0 = " (counted from 0)" if self.unit == "epoch" and len(self.steps) and self.steps[0] == 0 else ""
        return f"{self.unit} {step:,}{from_0}"


@dataclass(frozen=True, eq=False)
class LoopEvidence:
    """What a training loop did between its optimizer steps, in the order of its calls."""

    description: ClassVar[str] = "the order of the loop's calls"

    steps: int
    """Optimizer steps."""
    passes: int | None = None
    """Backward passes."""
    passes_discarded: int = 0
    """Backward passes whose gradients were cleared before a step used them; passes over rows that the next step trains
    on, as SAM and adversarial training make them, are not among them."""
    clips: int | None = None
    """Calls of gradient clipping."""
    clips_after_step: int = 0
    """Calls between a step and the next backward pass: their gradients have been used."""
    clips_scaled: int = 0
    """Calls on gradients that are multiplied by a loss scale."""
    schedule_calls: int | None = None
    """Calls of the scheduler; None if there is none, or if several processes share one."""
    schedule_total: int | None = None
    """The number of calls for which it was made, where it says so."""
    schedule_rise: float | None = None
    """The largest of its next rates over the rate of the first step; infinite if that is 0; None: not known."""
    steps_at_rate_zero: int = 0
    """The newest steps whose learning rate was 0 or negative."""
    has_ended: bool = False
    """Whether the training has ended, and not with an exception."""
    steps_without_gradient: int = 0
    """Calls of `step` after the gradients of all backward passes since the last one were cleared; not among `steps`."""
    steps_skipped: int = 0
    """Steps that loss scaling skipped, not among `steps`."""
    epochs: int | None = None
    """Passes over the training loader."""
    plateau_mode: str = ""
    """`mode` of a `ReduceLROnPlateau`: min or max; empty if there is none."""
    plateau_measures: Literal["accuracy", "loss"] | None = None
    """What the values are that it was given; None: not known."""
    plateau_values: tuple[float, ...] = ()
    steps_without_dropout: int | None = None
    """Steps at which trainable layers with dropout were in evaluation mode; None if no layer has dropout."""
    first_without_dropout: int | None = None
    """The first of these steps, counted from 1."""
    without_dropout: tuple[str, ...] = ()
    """The layers with dropout that were in evaluation mode."""
    evaluations: int = 0
    """Evaluations between two training steps."""
    weights_replaced_at: tuple[int, ...] = ()
    """Steps before such evaluations, during or after which something else than the optimizer changed the weights."""
    loads_of_itself: int = 0
    """Calls of `load_state_dict` with the module's own tensors, which change nothing."""
    epochs_in_same_order: int | None = None
    """Epochs at the start of which the rows came in the same order as in the first; None: not known."""
    is_shuffled: bool | None = None
    """Whether the loader's sampler is one that draws the rows in a random order."""
    workers: int | None = None
    """Worker processes of the training loader."""
    rows_in_epoch: int | None = None
    """Rows of the first pass over the loader; None if it has not ended, or if the rows cannot be told apart."""
    different_rows: int | None = None
    """The different ones among them."""


@dataclass(frozen=True, eq=False)
class MaskedLossEvidence:
    """How well masked tokens are predicted at the end of a masked-language-model training."""

    description: ClassVar[str] = "the result of a masked-language-model training"

    loss: float
    """Mean cross-entropy of held-out masked tokens, nats."""
    tokens: int
    """How many masked tokens that is."""
    unigram_entropy: float
    """Entropy of the corpus' tokens, nats."""
    steps: int
    """Optimizer steps of the training."""
    first_loss: float | None = None
    """The loss before the first step."""
