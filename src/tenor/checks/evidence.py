"""The input of rules: plain values from any training program, independent of Tenor's loop.

One frozen dataclass per kind of evidence. A field that may be unknown is None, and a rule that needs it raises
`CannotTell`. `description` names the source of the evidence for users. Sequences and arrays may have any type that
`tenor.data.sequences` reads; they are converted to lists and NumPy arrays, read by position.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from tenor.data.sequences import array_of, list_of, sequence_of


def _convert(evidence: Any, conversion: Callable[[Any, str], Any], *names: str) -> None:
    """Replace each of these fields by its converted value, unless it is None."""
    for name in names:
        if (value := getattr(evidence, name)) is not None:
            object.__setattr__(evidence, name, conversion(value, name))


def _names(value: Any, name: str) -> tuple[str, ...]:
    return tuple(list_of(value, name))


def _arrays(value: Any, name: str) -> tuple[np.ndarray, ...]:
    """Several arrays, one for each batch or text; of a matrix, one for each row."""
    return tuple(array_of(part, name) for part in value)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split."""

    labels: np.ndarray
    """Unchecked: any shape and type; valid labels are integers of shape (n,)."""
    texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _convert(self, array_of, "labels")
        _convert(self, sequence_of, "texts")


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
    """Positions of the training rows in the source, shape (n,)."""
    selected_on: Literal["validation", "test", "train"] | None = None
    """The split on which the best checkpoint or setting was selected."""

    def __post_init__(self) -> None:
        _convert(self, _names, "class_names")
        _convert(self, array_of, "source_labels", "train_positions")


@dataclass(frozen=True, eq=False)
class BatchEvidence:
    """The first collated batches of an epoch, in the order of the loader."""

    description: ClassVar[str] = "the training loader's batches as collated"

    labels: tuple[np.ndarray, ...]
    """One array per batch, unchecked."""
    n_classes: int
    epoch_labels: np.ndarray | None = None
    """Labels in the order of the loader, for an epoch or the beginning of one, shape (rows,)."""
    input_ids: tuple[np.ndarray, ...] | None = None
    """Shape (rows, tokens) each."""
    attention_mask: tuple[np.ndarray, ...] | None = None
    rows_per_epoch: int | None = None
    """Rows that the loader returns in one epoch."""
    rows_in_split: int | None = None
    """Rows that it should return."""
    loss_labels: tuple[np.ndarray, np.ndarray] | None = None
    """The loader's labels of some rows, and the labels that the loss was given for them, shape (rows,) each."""
    row_order: np.ndarray | None = None
    """Row numbers in the order of the sampler, for an epoch or the beginning of one, shape (rows,)."""
    split_labels: np.ndarray | None = None
    """Labels of the split's rows by row number, shape (rows_in_split,)."""
    batches_done: int | None = None
    """Batches of the current epoch on which an interrupted run was trained before this one resumed it."""
    batches_skipped: int | None = None
    """Batches of the current epoch that the resumed loop or its loader left out."""
    with_replacement: bool | None = None
    """Whether the sampler says that it draws rows with replacement."""
    weights_given: int | None = None
    """Number of weights of a weighted sampler, one for each row that it can draw."""

    def __post_init__(self) -> None:
        _convert(self, _arrays, "labels", "input_ids", "attention_mask", "loss_labels")
        _convert(self, array_of, "epoch_labels", "row_order", "split_labels")


@dataclass(frozen=True, eq=False)
class TokenEvidence:
    """The tokenizer compared with the model, and the tokenized training texts."""

    description: ClassVar[str] = "the tokenizer and tokenized texts"

    vocabulary_size: int
    """One more than the largest id that the tokenizer can produce."""
    embedding_rows: int
    """Rows of the model's embedding matrix."""
    has_words: bool = True
    """Whether the vocabulary contains anything but special tokens."""
    pad_id: int | None = None
    model_pad_id: int | None = None
    unknown_id: int | None = None
    first_id: int | None = None
    """The id at the start of every sequence ([CLS]), if the model was trained with one."""
    last_id: int | None = None
    """The id at the end of every sequence ([SEP])."""
    input_ids: tuple[np.ndarray, ...] | None = None
    """Token ids of some training texts, without padding, one array each."""
    full_lengths: np.ndarray | None = None
    """Tokens per text before truncation, shape (n,)."""
    kept_lengths: np.ndarray | None = None
    """Tokens per text after truncation, shape (n,)."""
    tokenizer_lowercases: bool | None = None
    vocabulary_is_lowercase: bool | None = None
    """Whether the model's own vocabulary contains no uppercase letter."""
    digest: str | None = None
    """Digest of the tokenizer's vocabulary."""
    model_digest: str | None = None
    """Digest of the vocabulary with which the model was trained."""
    truncation: Literal["head", "tail", "head_tail"] | None = None
    """Which part of a longer text is kept."""

    def __post_init__(self) -> None:
        _convert(self, _arrays, "input_ids")
        _convert(self, array_of, "full_lengths", "kept_lengths")


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of a model."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    """`requires_grad`."""
    in_head: bool
    """Outside the pretrained encoder: classifier, pre-classifier, pooler."""
    added: bool = False
    """Added to the encoder or before it: LoRA and other adapters, prompts."""
    idle: bool = False
    """Known not to be used in the forward pass."""
    source_name: str | None = None
    """Its name in the original model and its checkpoints, if an adapter has renamed it."""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class AttributeSetting:
    """An attribute that was set on a module or a parameter, and what the parameters do in fact."""

    path: str
    """Such as `bert.requires_grad`."""
    value: bool
    contradicted_by: tuple[str, ...]
    """Parameters that are trainable although it is False, or frozen although it is True."""
    is_misspelled: bool = False
    """Whether the name is similar to `requires_grad`, as `require_grad` is; otherwise it is `requires_grad` on a
    module, or `trainable`, which freezes layers in Keras."""


@dataclass(frozen=True)
class RepeatedModule:
    """A module with parameters that is in one `nn.ModuleList` or `nn.Sequential` several times."""

    path: str
    """Of the list, such as `encoder.extra`; empty if it is the model itself."""
    kind: str
    """The class of the module."""
    positions: tuple[int, ...]
    """Its positions in the list, at least two."""
    size: int
    """Number of its weights, which are there once."""


@dataclass(frozen=True)
class ModelEvidence:
    """The model as built: its parameters, its outputs and the declarations about it."""

    description: ClassVar[str] = "the model's named parameters and configuration"

    parameters: tuple[ParameterRow, ...]
    n_classes: int
    """Classes in the data."""
    n_outputs: int | None = None
    """Columns of the logits."""
    output_layer: frozenset[str] | None = None
    """Names of the parameters that compute the logits, including adapters in the last layer; None: not known."""
    output_layer_is_new: bool | None = None
    """Whether the frozen part of that layer looks newly initialized: biases of exactly 0, or weights distributed as in
    PyTorch's initialization; None: not known."""
    output_gain: float | None = None
    """Factor by which a newly initialized output layer scales inputs of size 1: the root mean square of its weights
    times the square root of its number of inputs; None if it is not new, or not one matrix."""
    class_names: tuple[str, ...] | None = None
    """Of the data."""
    id2label: Mapping[int, str] | None = None
    """Of the model's configuration."""
    new_weights: tuple[str, ...] | None = None
    """Parameters that were newly initialized instead of loaded."""
    unused_weights: tuple[str, ...] | None = None
    """Tensors of the checkpoint that were not loaded into the model."""
    pretrained: bool | None = None
    """Whether pretrained weights should have been loaded."""
    declared_freeze: Literal["none", "base"] | int | None = None
    """What should be frozen: nothing, the whole encoder, or the embeddings and this number of lowest layers."""
    declared_frozen: frozenset[str] | None = None
    """The names of these parameters; without a declaration, those that PEFT freezes next to its adapters."""
    keep_trainable: tuple[str, ...] = ()
    """Name fragments of parameters that are excepted from it."""
    problem_type: str | None = None
    """The kind of loss that the model computes, as in the configuration of `transformers`."""
    attributes: tuple[AttributeSetting, ...] | None = None
    """Attributes of modules and parameters that look as if they froze something, but have no effect in PyTorch."""
    not_finite: tuple[str, ...] | None = None
    """Parameters with a value that is NaN or infinite."""
    not_saved: tuple[str, ...] | None = None
    """Parameters that are trained, or newly initialized and used, but not in what `save_pretrained` writes."""
    unregistered: tuple[str, ...] | None = None
    """Layers with trainable parameters that the model calls but does not contain, as PyTorch prints them."""
    replaced: tuple[str, ...] | None = None
    """Matrices of the encoder with random values in place of those of the checkpoint from which it was loaded."""
    known_tokens: int | None = None
    """Rows of the token embedding in the checkpoint, if that of the model is frozen and has more."""
    compared: int = 0
    """The number of the encoder's matrices that were compared with that checkpoint."""
    was_loaded: bool | None = None
    """Whether `from_pretrained` marked parameters of the encoder as loaded."""
    repeated_modules: tuple[RepeatedModule, ...] | None = None
    """Modules that are several times in one list of the program's own classes; libraries share layers on purpose."""

    def __post_init__(self) -> None:
        _convert(self, _names, "class_names", "new_weights", "unused_weights", "keep_trainable")


@dataclass(frozen=True)
class ClassNamesEvidence:
    """The class names in a model's configuration."""

    description: ClassVar[str] = "the class names in the model's configuration"

    id2label: Mapping[int, str]
    label2id: Mapping[str, int]


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
        _convert(self, array_of, "factors")


@dataclass(frozen=True)
class PrecisionEvidence:
    """The number type of the forward pass, and whether the device supports it."""

    description: ClassVar[str] = "the device and number type"

    kind: Literal["fp32", "bf16", "fp16"]
    device: str
    computed_in_hardware: bool
    """False if the processor emulates the type."""
    weights_kind: str = "fp32"
    """The type in which trainable weights are stored."""
    loss_scaling: bool = False
    slowdown: float | None = None
    """Measured time of a matrix product in this type over the time in float32."""


@dataclass(frozen=True, eq=False)
class ProbeEvidence:
    """Results of short experiments before the first step."""

    description: ClassVar[str] = "short experiments on the model before the first step"

    n_classes: int
    initial_loss: float | None = None
    """Mean loss of the untrained head on real batches, nats."""
    n_examples: int = 0
    loss_when_right: float | None = None
    """The loss function on logits that are correct by a wide margin."""
    loss_when_uniform: float | None = None
    """The loss function on equal logits."""
    loss_when_inverted: float | None = None
    """The loss function on logits that are wrong by the same margin."""
    mean_of_loss: float | None = None
    """Loss of a batch with one example twice over the loss of the example alone: 1 for a mean, 2 for a sum."""
    rewarded_instead: tuple[tuple[int, int, float, float], ...] = ()
    """Classes for whose rows the loss function rewards another class more: the class, the other, and the loss of logits
    that are right, or for the other class, by a margin of 10."""
    parameters_without_gradient: tuple[str, ...] | None = None
    """Trainable parameters without a gradient after a backward pass."""
    parameters_with_zero_gradient: tuple[str, ...] | None = None
    share_without_gradient: float | None = None
    """The share of the trainable weights that the former have."""
    logit_change_from_blanking: float | None = None
    """Largest change of a logit if every text is replaced by padding or [UNK]."""
    training_logit_change_from_blanking: float | None = None
    """The same in training mode, with the same dropout for both."""
    logit_change_from_padding: float | None = None
    """Largest change of a logit if padding is added to its row."""
    logit_change_from_neighbours: float | None = None
    """Largest change of a logit if the other rows of its batch change."""
    logit_spread: float | None = None
    """Standard deviation of the logits over different texts."""
    rows_sum_to_one: bool | None = None
    """Whether the input of the loss already is a distribution (softmax before the loss)."""
    overfit_errors: int | None = None
    """Errors on `overfit_examples` after a short attempt to memorize them."""
    overfit_examples: int | None = None
    overfit_loss: tuple[float, float] | None = None
    """Loss before and after that attempt."""
    overfit_responds: tuple[float, float] | None = None
    """Loss after the attempt on the real texts, and after the same attempt on blanked texts."""
    random_labels_loss: float | None = None
    """Only with --deep: loss after the same number of steps on shuffled labels."""
    real_labels_loss: float | None = None
    """Only with --deep: loss after as many steps on the real labels; both are means over unseen examples."""
    deep_examples: int = 0
    """The number of examples of each of these two means."""
    rates_tried: tuple[float, ...] | None = None
    """Only with --deep: increasing learning rates of a few steps."""
    losses_at_rates: tuple[float, ...] | None = None
    """The loss before each of these steps; the series ends when the loss diverges."""
    loss_gradient: float | None = None
    """Norm of the loss function's gradient with respect to equal logits; 0 where none arrives."""
    trainable_share: float | None = None
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
        _convert(self, array_of, "steps", "loss", "grad_norm", "learning_rate", "planned_rate", "update_ratio")
        _convert(self, array_of, "predicted_counts", "label_counts", "skipped_steps")
        _convert(self, _names, "frozen_moved", "unchanged_trainable", "without_gradient")

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
class ReportedSplit:
    """The reported results of one evaluated split; any part may be missing."""

    n: int
    confusion: np.ndarray | None = None
    """Counts, rows true and columns predicted, shape (K, K)."""
    accuracy: float | None = None
    loss: float | None = None
    """Mean cross-entropy in nats."""
    macro_f1: float | None = None
    macro_name: str = "macro F1"
    """Which mean over the classes it is: a balanced accuracy and an F1 of one class fall where a class is lost, too."""
    mcc: float | None = None
    """Matthews' correlation coefficient, -1 … 1."""
    recalls: Mapping[str, float] | None = None
    """The recall of each class, where neither a matrix nor the number of its rows is recorded."""
    report: Mapping[str, object] | None = None
    """scikit-learn's `classification_report(output_dict=True)`."""
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    """Shape (n, K)."""
    ids: Sequence[str] | None = None
    texts: Sequence[str] | None = None
    lengths: np.ndarray | None = None
    """Of each text, as its file records it (in tokens), shape (n,)."""
    expected_n: int | None = None
    """Number of rows in the split."""
    text_baseline_accuracy: float | None = None
    majority_accuracy: float | None = None
    class_names: tuple[str, ...] | None = None
    """Names of the classes 0 … K-1, if the rows contain them."""
    read_as: tuple[tuple[str, str], ...] | None = None
    """Pairs (class of the predictions, class of the labels) by which predictions were read if the two have no class
    name in common; () if they have one; None if the rows contain no predicted classes."""
    notes: tuple[str, ...] = ()
    """How the split was read if there was a choice, a sentence each."""

    def __post_init__(self) -> None:
        _convert(self, array_of, "confusion", "labels", "predicted", "probabilities", "lengths")
        _convert(self, list_of, "ids", "texts")


@dataclass(frozen=True)
class ValidationCourse:
    """All validations of a run, in the order of their steps."""

    accuracy: tuple[ValidationPoint, ...] = ()
    loss: tuple[ValidationPoint, ...] = ()
    """Mean cross-entropy in nats."""
    n_classes: int | None = None
    """If the run records it."""
    training_loss: float | None = None
    """The last one that was recorded."""
    training_accuracy: tuple[ValidationPoint, ...] = ()
    score: tuple[ValidationPoint, ...] = ()
    """Another score of the validations, as a share, where no accuracy is recorded."""
    score_name: str = ""
    by_epoch: bool = False
    """Whether a step number counts epochs."""


@dataclass(frozen=True, eq=False)
class EvaluationEvidence:
    """Results on held-out rows."""

    description: ClassVar[str] = "predictions or a confusion matrix"

    splits: Mapping[str, ReportedSplit]
    """By name, such as validation or test."""
    n_classes: int
    not_numbers: Mapping[str, tuple[str, ...]] | None = None
    """File or run → recorded metrics that are NaN or infinite, as "name is NaN"; None if no record was searched."""
    course: ValidationCourse | None = None
    """The validations during training, if they were recorded."""


@dataclass(frozen=True)
class CheckpointEvidence:
    """The checkpoint that was chosen, saved and evaluated."""

    description: ClassVar[str] = "the log of validations, and the checkpoints"

    validations: tuple[ValidationPoint, ...] = ()
    metric: str | None = None
    """The name of the metric that selects."""
    larger_is_better: bool | None = None
    """Its direction, if the run records it; None: derived from the metric's name."""
    selection_unknown: str = ""
    """Why the metric or its direction is unknown, and where it can be recorded."""
    other_metrics: Mapping[str, tuple[ValidationPoint, ...]] = field(default_factory=dict)
    """The other metrics of the same validations, by name."""
    chosen_step: int | None = None
    evaluated_step: int | None = None
    chosen_digest: str | None = None
    evaluated_digest: str | None = None
    path: str | None = None
    """As recorded; None if the record is null or missing."""
    path_recorded: bool = False
    """Whether a path is recorded, even if it is null."""
    exists: bool | None = None
    """Whether the path exists."""
    metrics_recorded: bool | None = None
    """Whether validation metrics were recorded; False if the record is null."""
    status: str | None = None
    """The recorded status of the run."""
    best_value: float | None = None
    """The best value of the selection metric as the run's state records it, also if no checkpoint is recorded."""
    best_is_used: bool | None = None
    """Whether the run was to use the best checkpoint at its end (`load_best_model_at_end`)."""
    not_restored: tuple[str, ...] | None = None
    """Parameters that are saved under other names than the model has, so that `load_state_dict` skips them."""
    restored_by: tuple[str, ...] = ()
    """What loads such a checkpoint with `load_state_dict`: resuming, `load_best_model_at_end`."""
    other_runs: tuple[str, ...] | None = None
    """Checkpoints of other runs in the output folder."""
    deletes_last: bool | None = None
    """Whether the checkpoint of the last step is deleted at the end, while the model in memory is that of this step."""
    weights_file: str | None = None
    """The file of the weights that was read, relative to the folder."""
    weights_not_finite: tuple[str, ...] | None = None
    """Tensors in that file with a value that is NaN or infinite."""
    head_is_saved: bool | None = None
    """Whether that file contains the classification head, if it is that of a classifier."""


@dataclass(frozen=True)
class ProcessEvidence:
    """Training in several processes: whether their gradients are averaged, and how the loss is scaled."""

    description: ClassVar[str] = "the processes of a distributed run"

    n_processes: int
    gradients_averaged: bool | None = None
    """Whether the model is wrapped (DistributedDataParallel, FSDP, …), so that the processes' gradients are averaged;
    None: not known."""
    is_trainer: bool = False
    """Whether `transformers.Trainer` trains, which leaves nothing else that could average gradients."""
    loss_factor: float | None = None
    """The loss that the program computes, divided by the mean loss of its rows; None: not known."""
    loss_unknown: str = ""
    """Why it is not known."""


@dataclass(frozen=True)
class TrainerEvidence:
    """What `transformers.Trainer` does with its rows: which columns it keeps, which labels it evaluates, how far its
    training had come."""

    description: ClassVar[str] = "the rows and arguments of transformers.Trainer"

    label_names: tuple[str, ...] = ()
    """Keys that an evaluation batch must contain for loss and metrics to be computed."""
    label_names_given: bool = False
    """Whether the program gave them (`TrainingArguments(label_names=…)`)."""
    evaluation_keys: tuple[str, ...] | None = None
    """Keys of an evaluation batch as collated that have a value; None: not known."""
    evaluation_unknown: str = ""
    """Why they are not known."""
    metrics_wanted: tuple[str, ...] = ()
    """Arguments that need the labels: compute_metrics, metric_for_best_model."""
    steps_done: int = 0
    """Steps of the run that was resumed; 0 for a new one."""
    max_steps: int = 0
    epochs_done: float | None = None
    """Epochs of the run that was resumed."""
    steps_per_epoch: int | None = None
    """Of the present rows."""
    removed_read: tuple[tuple[str, str], ...] | None = None
    """Columns that the Trainer removed although a method of the program names them: column and method, such as
    `WeightedTrainer.compute_loss`; None: not known."""


@dataclass(frozen=True)
class MetricObject:
    """An object that accumulates a metric, as its value was computed."""

    name: str
    """Of its class."""
    training_updates: int
    """Since its last reset."""
    evaluation_updates: int


@dataclass(frozen=True)
class MetricObjectsEvidence:
    """The objects of torchmetrics whose value was computed."""

    description: ClassVar[str] = "the updates of metric objects (torchmetrics)"

    computed: int
    """Number of these objects."""
    mixed: tuple[MetricObject, ...]
    """Those with updates in training and in evaluation between two resets, as they were when first computed."""


@dataclass(frozen=True, eq=False)
class ResumeEvidence:
    """A run before and after an interruption."""

    description: ClassVar[str] = "the records from before and after a resume"

    step_before: int
    step_after: int
    rate_after: float | None = None
    planned_rate_after: float | None = None
    rows_before: Sequence[int] | None = None
    """Rows of the epoch's batches before the interruption."""
    rows_after: Sequence[int] | None = None
    """Rows of the batches after it, within the same epoch."""
    rows_in_epoch: int | None = None
    """Number of rows in the epoch."""

    def __post_init__(self) -> None:
        _convert(self, list_of, "rows_before", "rows_after")


@dataclass(frozen=True, eq=False)
class RankEvidence:
    """The rows that each process of a distributed run processed."""

    description: ClassVar[str] = "the rows that each process saw"

    rows: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Row numbers of one epoch, by rank."""
    n_rows: int | None = None
    """Number of rows in the split."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {rank: list_of(rows, "rows") for rank, rows in self.rows.items()})


@dataclass(frozen=True)
class AgreementEvidence:
    """Weights and gradients of the processes of a distributed run before one optimizer step, compared bit for bit."""

    description: ClassVar[str] = "the weights and gradients of each process"

    n_processes: int
    step: int
    """Optimizer steps done before."""
    n_parameters: int
    """Trainable parameters (tensors)."""
    weights_differ: tuple[str, ...] = ()
    """Parameters whose weights are not the same bits in all processes."""
    weight_gap: float = 0.0
    """The largest relative difference between sampled weights of two processes."""
    gradients_differ: tuple[str, ...] = ()
    """Parameters whose gradients are not the same bits in all processes."""
    gradient_gap: float = 0.0
    """The largest relative difference between sampled gradients of two processes."""
    gradient_in_some: tuple[str, ...] = ()
    """Parameters that have a gradient in some processes only."""


@dataclass(frozen=True, eq=False)
class OverlapEvidence:
    """Evaluated rows whose text is also in the run's other splits; arrays are bool, shape (n,)."""

    description: ClassVar[str] = "the evaluated texts and keys of the run's own texts"

    split: str
    """Name of the evaluated split."""
    texts: Sequence[str]
    """The texts of the n evaluated rows."""
    in_train: np.ndarray
    """Whether the text is a training text."""
    in_validation: np.ndarray
    """Whether the text is a validation text and not a training text."""


@dataclass(frozen=True, eq=False)
class CorpusEvidence:
    """The texts that an encoder is trained on without labels, and those of the evaluated splits."""

    description: ClassVar[str] = "the corpus of a masked-language-model training and the evaluated texts"

    texts: Sequence[str]
    evaluated: Mapping[str, Sequence[str]]
    """By the name of the split."""

    def __post_init__(self) -> None:
        _convert(self, sequence_of, "texts")


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
