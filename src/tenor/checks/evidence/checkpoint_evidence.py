"""The checkpoint that was chosen, and runs that were resumed from one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from tenor.checks.evidence.conversion import convert
from tenor.checks.evidence.training_evidence import ValidationPoint
from tenor.data.sequences import list_of


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
        convert(self, list_of, "rows_before", "rows_after")
