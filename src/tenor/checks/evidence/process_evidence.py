"""The processes of a distributed training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from tenor.data.sequences import list_of


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
