"""Objects that accumulate a metric (torchmetrics): whether they were updated in training, in evaluation, or in both."""

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tenor.checks.evidence.evaluation_evidence import MetricObject, MetricObjectsEvidence


@dataclass(eq=False)
class _Updates:
    """Of one object since its last reset."""

    metric: "weakref.ref[Any]"
    training: int = 0
    evaluation: int = 0
    is_computed: bool = False
    is_mixed: bool = False
    """Whether its value was computed with both."""


class MetricObjects:
    """The metric objects of one process. They are kept by identity: their hash is that of their state."""

    def __init__(self) -> None:
        self._updates: dict[int, _Updates] = {}
        self._computed = 0
        self._mixed: list[MetricObject] = []

    def on_update(self, metric: Any) -> None:
        """After `update`; inside `forward` it counts one batch apart, which `on_forward` adds."""
        if not _is_in_forward(metric):
            self._count(metric)

    def on_forward(self, metric: Any) -> None:
        """After `forward`, which has updated the object, in one of two ways: only one of them calls `update` for it."""
        if not metric.full_state_update and metric.full_state_update is not None and not metric.dist_sync_on_step:
            self._count(metric)

    def on_compute(self, metric: Any) -> None:
        """After `compute`, outside of `forward`: the value covers all updates since the last reset."""
        updates = self._known(metric)
        if updates is None or _is_in_forward(metric):
            return
        from tenor.checks.evidence.evaluation_evidence import MetricObject

        self._computed += not updates.is_computed
        updates.is_computed = True
        # A reset may have come since the last update.
        if updates.training and updates.evaluation and metric._update_count and not updates.is_mixed:
            updates.is_mixed = True
            self._mixed.append(MetricObject(type(metric).__name__, updates.training, updates.evaluation))

    def evidence(self) -> "MetricObjectsEvidence | None":
        """None if no value was computed."""
        from tenor.checks.evidence.evaluation_evidence import MetricObjectsEvidence

        return MetricObjectsEvidence(self._computed, tuple(self._mixed)) if self._computed else None

    def _known(self, metric: Any) -> _Updates | None:
        updates = self._updates.get(id(metric))
        return updates if updates is not None and updates.metric() is metric else None

    def _count(self, metric: Any) -> None:
        updates = self._known(metric)
        if updates is None:
            updates = self._updates[id(metric)] = _Updates(weakref.ref(metric))
        if metric._update_count <= 1:  # It was reset, or is new.
            updates.training = updates.evaluation = 0
        if torch.is_grad_enabled():
            updates.training += 1
        else:
            updates.evaluation += 1


def _is_in_forward(metric: Any) -> bool:
    """`forward` computes the value of its batch with gradients enabled, in a state that it restores afterwards."""
    return bool(metric._enable_grad)
