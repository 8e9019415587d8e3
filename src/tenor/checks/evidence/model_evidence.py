"""The model as built, its class names, its number type, and short experiments on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from tenor.checks.evidence.conversion import convert, names_of


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
        convert(self, names_of, "class_names", "new_weights", "unused_weights", "keep_trainable")


@dataclass(frozen=True)
class ClassNamesEvidence:
    """The class names in a model's configuration."""

    description: ClassVar[str] = "the class names in the model's configuration"

    id2label: Mapping[int, str]
    label2id: Mapping[str, int]


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
    has_recurrent_layer: bool = False
    """Whether the model contains an RNN, LSTM or GRU of PyTorch, which reads padding unless its input is packed."""
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
