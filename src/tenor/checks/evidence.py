"""What rules judge: plain values from anyone's training program, never Tenor's loop.

One frozen dataclass per kind. A field that may be unknown is None, and a rule that needs it raises `CannotTell`.
`description` says, for people, where evidence of the kind is found. Sequences and arrays may be given in any kind that
`tenor.data.sequences` reads; they are lists and NumPy arrays afterwards, read by position.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from tenor.data.sequences import array_of, list_of, sequence_of


def _read(evidence: Any, how: Callable[[Any, str], Any], *names: str) -> None:
    """Replace these fields, where they are known, by what `how` reads from them."""
    for name in names:
        if (given := getattr(evidence, name)) is not None:
            object.__setattr__(evidence, name, how(given, name))


def _names(given: Any, name: str) -> tuple[str, ...]:
    return tuple(list_of(given, name))


def _arrays(given: Any, name: str) -> tuple[np.ndarray, ...]:
    """Several arrays, one for each batch or text; a matrix is one for each row."""
    return tuple(array_of(one, name) for one in given)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split."""

    labels: np.ndarray
    """As they were found: any shape and type; sound ones are integers of shape (n,)."""
    texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _read(self, array_of, "labels")
        _read(self, sequence_of, "texts")


@dataclass(frozen=True, eq=False)
class DataEvidence:
    """The rows of every split, before tokenization."""

    description: ClassVar[str] = "the training rows with their labels"

    train: Rows
    n_classes: int
    validation: Rows | None = None
    test: Rows | None = None
    class_names: tuple[str, ...] | None = None
    source_labels: np.ndarray | None = None
    """Labels of the whole source in its own order, shape (m,)."""
    train_positions: np.ndarray | None = None
    """Where the training rows stand in the source, shape (n,)."""
    selected_on: Literal["validation", "test", "train"] | None = None
    """The split that chose the best checkpoint or setting."""

    def __post_init__(self) -> None:
        _read(self, _names, "class_names")
        _read(self, array_of, "source_labels", "train_positions")


@dataclass(frozen=True, eq=False)
class BatchEvidence:
    """The first batches of an epoch as collated, in the order in which the model sees them."""

    description: ClassVar[str] = "the training loader's batches as collated"

    labels: tuple[np.ndarray, ...]
    """One array per batch, as found."""
    n_classes: int
    epoch_labels: np.ndarray | None = None
    """Labels in the order of the loader, for a whole epoch or its beginning, shape (rows,)."""
    input_ids: tuple[np.ndarray, ...] | None = None
    """Shape (rows, tokens) each."""
    attention_mask: tuple[np.ndarray, ...] | None = None
    rows_per_epoch: int | None = None
    """Rows that the loader gives in one epoch."""
    rows_in_split: int | None = None
    """Rows that it should give."""

    def __post_init__(self) -> None:
        _read(self, _arrays, "labels", "input_ids", "attention_mask")
        _read(self, array_of, "epoch_labels")


@dataclass(frozen=True, eq=False)
class TokenEvidence:
    """The tokenizer beside the model, and what it made of the training texts."""

    description: ClassVar[str] = "the tokenizer and tokenized texts"

    vocabulary_size: int
    """One more than the largest id that the tokenizer can give."""
    embedding_rows: int
    """Rows of the model's embedding matrix."""
    has_words: bool = True
    """Whether the vocabulary holds anything but special tokens."""
    pad_id: int | None = None
    model_pad_id: int | None = None
    unknown_id: int | None = None
    first_id: int | None = None
    """The id that begins every sequence ([CLS]), if the model was trained with one."""
    last_id: int | None = None
    """The id that ends every sequence ([SEP])."""
    input_ids: tuple[np.ndarray, ...] | None = None
    """Token ids of some training texts, without padding, one array each."""
    full_lengths: np.ndarray | None = None
    """Tokens per text before truncation, shape (n,)."""
    kept_lengths: np.ndarray | None = None
    """Tokens per text after truncation, shape (n,)."""
    tokenizer_lowercases: bool | None = None
    vocabulary_is_lowercase: bool | None = None
    """Whether the model's own vocabulary holds no capital letter."""
    digest: str | None = None
    """Of the tokenizer's vocabulary …"""
    model_digest: str | None = None
    """… and of the vocabulary that the model was trained with."""
    truncation: Literal["head", "tail", "head_tail"] | None = None
    """Which part of a longer text is kept."""

    def __post_init__(self) -> None:
        _read(self, _arrays, "input_ids")
        _read(self, array_of, "full_lengths", "kept_lengths")


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of a model."""

    name: str
    shape: tuple[int, ...]
    learns: bool
    """`requires_grad`."""
    in_head: bool
    """Outside the pretrained encoder: classifier, pre-classifier, pooler."""
    added: bool = False
    """Put into the encoder or before it: LoRA and other adapters, prompts."""
    idle: bool = False
    """Known to take no part in the forward pass."""
    source_name: str | None = None
    """Its name in the model as its class builds it, and so in a checkpoint, where an adapter has moved it."""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class ModelEvidence:
    """The model as built: its parameters, its outputs, what was declared about it."""

    description: ClassVar[str] = "the model's named parameters and configuration"

    parameters: tuple[ParameterRow, ...]
    n_classes: int
    """Classes in the data."""
    n_outputs: int | None = None
    """Columns of the logits."""
    output_layer: frozenset[str] | None = None
    """Names of the parameters that give the logits, adapters in the last layer included; None: not known."""
    output_layer_is_new: bool | None = None
    """Whether the frozen part of that layer looks newly initialized: biases of exactly 0, or weights as PyTorch draws
    them; None: not known."""
    output_gain: float | None = None
    """How far a newly initialized output layer spreads inputs of size 1: the root mean square of its weights times the
    square root of its inputs; None where it is not new, or not one matrix."""
    class_names: tuple[str, ...] | None = None
    """Of the data."""
    id2label: Mapping[int, str] | None = None
    """Of the model's configuration."""
    new_weights: tuple[str, ...] | None = None
    """Parameters that were drawn at random instead of loaded."""
    unused_weights: tuple[str, ...] | None = None
    """Tensors of the checkpoint that found no place in the model."""
    pretrained: bool | None = None
    """Whether weights were to be loaded at all."""
    declared_freeze: Literal["none", "base"] | int | None = None
    """What should be frozen: nothing, the whole encoder, or that many lowest layers with the embeddings."""
    declared_frozen: frozenset[str] | None = None
    """The names that this declaration covers; where there is none, those that PEFT freezes next to its adapters."""
    keep_trainable: tuple[str, ...] = ()
    """Name fragments exempted from it."""
    problem_type: str | None = None
    """`transformers`' word for the loss that the model itself computes."""

    def __post_init__(self) -> None:
        _read(self, _names, "class_names", "new_weights", "unused_weights", "keep_trainable")


@dataclass(frozen=True)
class GroupRow:
    """One parameter group of an optimizer."""

    names: tuple[str, ...]
    """Names in the model; a parameter that stands in the group twice is named twice."""
    foreign: int
    """Parameters of the group that are not the model's."""
    learning_rate: float
    """Peak rate where it is known, else the present one."""
    weight_decay: float


@dataclass(frozen=True)
class OptimizerEvidence:
    """The optimizer's groups beside the model's parameters."""

    description: ClassVar[str] = "the optimizer's parameter groups"

    groups: tuple[GroupRow, ...]
    learning: frozenset[str]
    """Names of the parameters with `requires_grad`."""
    head: frozenset[str]
    """Names of those in the head, learning or not."""
    one_dimensional: frozenset[str]
    """Names of biases and norms."""
    kind: str = "AdamW"
    fresh_body: bool | None = None
    """Whether the encoder is as it was drawn: every norm exactly 1, every bias exactly 0."""
    added: frozenset[str] = frozenset()
    """Names of adapters and prompts, learning or not."""


@dataclass(frozen=True, eq=False)
class ScheduleEvidence:
    """The plan of steps and rates."""

    description: ClassVar[str] = "the plan of steps and learning rates"

    factors: np.ndarray
    """Share of the peak rate at each planned optimizer step, shape (steps,)."""
    steps_per_epoch: int
    """Optimizer steps in one epoch."""
    epochs: float
    batches_per_epoch: int | None = None
    """Forward passes in one epoch."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    declared_warmup_steps: int | None = None

    def __post_init__(self) -> None:
        _read(self, array_of, "factors")


@dataclass(frozen=True)
class PrecisionEvidence:
    """The number type of the forward pass, and what the device can do."""

    description: ClassVar[str] = "the device and number type"

    kind: Literal["fp32", "bf16", "fp16"]
    device: str
    computed_in_hardware: bool
    """False where the processor emulates the type."""
    weights_kind: str = "fp32"
    """The type in which learning weights are stored."""
    loss_scaling: bool = False
    slowdown: float | None = None
    """Measured time of a matrix product in the type over that in float32."""


@dataclass(frozen=True, eq=False)
class ProbeEvidence:
    """Outcomes of the short experiments of a careful engineer, before the first step."""

    description: ClassVar[str] = "short experiments on the model before the first step"

    n_classes: int
    initial_loss: float | None = None
    """Mean loss of the untrained head on real batches, nats."""
    n_examples: int = 0
    loss_when_right: float | None = None
    """The loss function on logits that are right by a wide margin …"""
    loss_when_uniform: float | None = None
    """… on equal logits …"""
    loss_when_inverted: float | None = None
    """… and on logits that are wrong by the same margin."""
    mean_of_loss: float | None = None
    """Loss of a batch that holds one example twice over that of the example alone: 1 for a mean, 2 for a sum."""
    parameters_without_gradient: tuple[str, ...] | None = None
    """Learning parameters that a backward pass leaves without any gradient."""
    parameters_with_zero_gradient: tuple[str, ...] | None = None
    logit_change_from_blanking: float | None = None
    """Largest change of a logit when every text is replaced by padding or [UNK]."""
    logit_change_from_padding: float | None = None
    """Largest change of a logit when padding is added to its row."""
    logit_change_from_neighbours: float | None = None
    """Largest change of a logit when the other rows of its batch change."""
    logit_spread: float | None = None
    """Standard deviation of the logits over different texts."""
    rows_sum_to_one: bool | None = None
    """Whether what the loss is given is a distribution already (a softmax before the loss)."""
    overfit_errors: int | None = None
    """Errors left on `overfit_examples` after the short attempt to memorise them."""
    overfit_examples: int | None = None
    overfit_loss: tuple[float, float] | None = None
    """Loss before and after that attempt."""
    overfit_responds: tuple[float, float] | None = None
    """Loss after the attempt on real texts, and after the same attempt on blanked ones."""
    random_labels_loss: float | None = None
    """Only with --deep: loss after the same number of steps on shuffled labels."""
    real_labels_loss: float | None = None
    """Only with --deep: loss after as many steps on the real labels; both are means over examples not seen before."""
    deep_examples: int = 0
    """How many examples each of these two means rests on."""
    rates_tried: tuple[float, ...] | None = None
    """Only with --deep: learning rates of some steps, rising …"""
    losses_at_rates: tuple[float, ...] | None = None
    """… and the loss before each; they end where the loss has run away."""
    loss_gradient: float | None = None
    """Norm of the loss function's gradient with respect to equal logits; 0 where none arrives."""
    learning_share: float | None = None
    """Share of the model's weights that learn: small for a frozen base or LoRA."""
    rounding: float = 2.0**-24
    """Unit rounding of the type in which the logits were computed: 2^-24 for float32, 2^-8 for bfloat16."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Experiments that could not be run → why."""


@dataclass(frozen=True)
class ValidationPoint:
    """One validation during training."""

    step: int
    value: float
    """Of one metric, as logged."""


@dataclass(frozen=True, eq=False)
class StepEvidence:
    """What happened at each recorded optimizer step so far; arrays have shape (records,)."""

    description: ClassVar[str] = "a record of the training steps"

    steps: np.ndarray
    loss: np.ndarray
    n_classes: int | None = None
    total_steps: int | None = None
    fresh_body: bool | None = None
    """Whether the encoder was drawn at random before the first step."""
    grad_norm: np.ndarray | None = None
    """Before clipping."""
    clip_at: float | None = None
    validation_loss: tuple[ValidationPoint, ...] = ()
    """Of held-out rows, where it was logged."""
    learning_rate: np.ndarray | None = None
    """As the optimizer had it."""
    planned_rate: np.ndarray | None = None
    update_ratio: np.ndarray | None = None
    """Norm of the update over the norm of the weights, for the tensor in the middle."""
    update_of_encoder: bool = True
    """Whether that tensor is the encoder's own; else it belongs to a head, an adapter or a prompt."""
    predicted_counts: np.ndarray | None = None
    """Training predictions per class since the last record, shape (records, K)."""
    label_counts: np.ndarray | None = None
    """Labels per class since the last record, shape (records, K)."""
    skipped_steps: np.ndarray | None = None
    """Optimizer steps that loss scaling skipped since the last record."""
    frozen_moved: tuple[str, ...] | None = None
    """Frozen parameters whose values changed since the start."""
    learning_still: tuple[str, ...] | None = None
    """Learning parameters whose values did not change at all since the start."""
    gradient_kept: bool | None = None
    """Whether gradients were there already when a new accumulation began: they were not cleared."""
    clipped_before_unscale: bool | None = None
    evaluated_in_training_mode: bool | None = None
    """Whether a module with dropout was in training mode during validation."""
    backward_ratio: float | None = None
    """Sum of the losses on which `backward` was called within one optimizer step, over the mean loss of its rows …"""
    parts_per_step: int | None = None
    """… and the number of those calls: the forward passes that one step accumulates."""
    kind_of_loss: Literal["mean", "sum", "probabilities"] | None = None
    """What the gradient at the logits shows the loss to be: a mean or a sum of cross-entropies, or one of
    probabilities instead of logits."""

    def __post_init__(self) -> None:
        _read(self, array_of, "steps", "loss", "grad_norm", "learning_rate", "planned_rate", "update_ratio")
        _read(self, array_of, "predicted_counts", "label_counts", "skipped_steps")
        _read(self, _names, "frozen_moved", "learning_still")


@dataclass(frozen=True, eq=False)
class SplitClaims:
    """What is said about one evaluated split; any part may be missing."""

    n: int
    confusion: np.ndarray | None = None
    """Counts, rows true and columns predicted, shape (K, K)."""
    accuracy: float | None = None
    report: Mapping[str, object] | None = None
    """scikit-learn's `classification_report(output_dict=True)`."""
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    """Shape (n, K)."""
    ids: Sequence[str] | None = None
    expected_n: int | None = None
    """Rows that the split has."""
    text_baseline_accuracy: float | None = None
    majority_accuracy: float | None = None
    class_names: tuple[str, ...] | None = None
    """Of the classes 0 … K-1, where the rows name them."""
    read_as: tuple[tuple[str, str], ...] | None = None
    """(class of the predictions, class of the labels) by which predictions were read, where the rows name both and no
    name is common to them; () where a name is."""
    notes: tuple[str, ...] = ()
    """How it was read where that was a choice, a sentence each."""

    def __post_init__(self) -> None:
        _read(self, array_of, "confusion", "labels", "predicted", "probabilities")
        _read(self, list_of, "ids")


@dataclass(frozen=True, eq=False)
class EvaluationEvidence:
    """Results on held-out rows."""

    description: ClassVar[str] = "predictions or a confusion matrix"

    splits: Mapping[str, SplitClaims]
    """By name: validation, test."""
    n_classes: int
    not_numbers: Mapping[str, tuple[str, ...]] | None = None
    """Place → recorded metrics that are NaN or infinite, as "name is NaN"; None where no record was searched."""


@dataclass(frozen=True)
class CheckpointEvidence:
    """Which checkpoint was chosen, kept and evaluated."""

    description: ClassVar[str] = "the log of validations and the checkpoints' digests"

    validations: tuple[ValidationPoint, ...] = ()
    metric: str | None = None
    """The name of the metric that selects."""
    larger_is_better: bool | None = None
    """Its direction, where the run's record says it; None leaves it to the metric's name."""
    selection_unknown: str = ""
    """Why the metric or its direction is not known, and where it could be recorded."""
    chosen_step: int | None = None
    evaluated_step: int | None = None
    chosen_digest: str | None = None
    evaluated_digest: str | None = None
    path: str | None = None
    """As recorded; None where the record says null or nothing."""
    path_recorded: bool = False
    """Whether there is a record of a path at all, null or not."""
    exists: bool | None = None
    """Whether something lies at the path."""
    metrics_recorded: bool | None = None
    """Whether validation metrics were recorded; False where the record says null."""
    status: str | None = None
    """How the run says that it ended."""


@dataclass(frozen=True, eq=False)
class ResumeEvidence:
    """A run before and after it was cut."""

    description: ClassVar[str] = "the records from before and after a resume"

    step_before: int
    step_after: int
    rate_after: float | None = None
    planned_rate_after: float | None = None
    rows_before: Sequence[int] | None = None
    """Rows of the epoch's batches before the cut …"""
    rows_after: Sequence[int] | None = None
    """… and after it, within the same epoch."""
    rows_in_epoch: int | None = None
    """Rows that the whole epoch has."""

    def __post_init__(self) -> None:
        _read(self, list_of, "rows_before", "rows_after")


@dataclass(frozen=True, eq=False)
class RankEvidence:
    """What each process of a distributed run saw."""

    description: ClassVar[str] = "the rows that each process saw"

    rows: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Row numbers of one epoch by rank."""
    n_rows: int | None = None
    """Rows that the split has."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {rank: list_of(rows, "rows") for rank, rows in self.rows.items()})


@dataclass(frozen=True, eq=False)
class OverlapEvidence:
    """Which evaluated rows have a text that the run knew; arrays are bool, shape (n,)."""

    description: ClassVar[str] = "the evaluated texts and keys of the run's own texts"

    split: str
    """What the evaluated rows are called."""
    texts: Sequence[str]
    """Of the n evaluated rows."""
    in_train: np.ndarray
    """The text is a training text."""
    in_validation: np.ndarray
    """The text is a validation text and no training text."""
