"""Objects that accumulate a metric: whether their value covers training and evaluation rows."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tenor.checks.catalogue import find_rule
from tenor.checks.evidence.evaluation_evidence import MetricObject, MetricObjectsEvidence
from tenor.watch.metric_hooks import hook_metric_objects
from tenor.watch.metric_objects import MetricObjects
from tenor.watch.observer import OBSERVER, Observer


def metric_class(full_state: bool) -> Any:
    """A class with the contract of `torchmetrics.Metric` 1.9, as far as the hooks use it: `update` and `compute` are
    attributes of the object that count its updates, and `forward` computes one batch in a state that it restores."""

    class Metric:
        full_state_update, dist_sync_on_step = full_state, False

        def __init__(self) -> None:
            self._update_count, self._enable_grad, self.total = 0, False, 0
            self._bind()

        def __getstate__(self) -> dict[str, Any]:
            return {key: value for key, value in vars(self).items() if key not in ("update", "compute")}

        def __setstate__(self, state: dict[str, Any]) -> None:
            vars(self).update(state)
            self._bind()

        def _bind(self) -> None:
            self.update, self.compute = self._update, lambda: self.total

        def _update(self, value: int) -> None:
            self._update_count += 1
            self.total += value

        def reset(self) -> None:
            self._update_count = self.total = 0

        def forward(self, value: int) -> int:
            if full_state:
                self.update(value)
            count, total = self._update_count, self.total
            self._enable_grad = True
            self.reset()
            self.update(value)
            result = self.compute()
            self._enable_grad = False
            self._update_count, self.total = (count, total) if full_state else (count + 1, total + value)
            return result

    return Metric


@pytest.fixture(params=[False, True], ids=["reduced", "full state"])
def metric(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hooked class, while the process is watched."""
    monkeypatch.setattr(OBSERVER, "is_watching", True)
    monkeypatch.setattr(OBSERVER, "metric_objects", MetricObjects())
    module = SimpleNamespace(Metric=metric_class(request.param))
    hook_metric_objects(module)  # type: ignore[arg-type]
    return module.Metric


def mixed() -> list[tuple[int, int]]:
    evidence = OBSERVER.metric_objects.evidence()
    return [] if evidence is None else [(one.training_updates, one.evaluation_updates) for one in evidence.mixed]


def epoch(train: Any, validation: Any, way: str) -> None:
    """Three batches with gradients, two without."""
    for _ in range(3):
        getattr(train, way)(1)
    with torch.no_grad():
        for _ in range(2):
            getattr(validation, way)(10)


@pytest.mark.parametrize("way", ["update", "forward"])
def test_one_object_in_training_and_evaluation_is_told(metric: Any, way: str) -> None:
    one = metric()
    epoch(one, one, way)
    assert mixed() == []  # Its value was not computed yet.
    assert one.compute() == 23
    assert mixed() == [(3, 2)]
    epoch(one, one, way)
    assert one.compute() == 46
    assert mixed() == [(3, 2)]


@pytest.mark.parametrize("way", ["update", "forward"])
def test_objects_of_one_split_pass(metric: Any, way: str) -> None:
    train = metric()
    train.update(5)
    validation = copy.deepcopy(train)
    validation.reset()
    for _ in range(2):
        epoch(train, validation, way)
        validation.compute()
        train.compute()
    assert mixed() == []
    evidence = OBSERVER.metric_objects.evidence()
    assert evidence is not None
    assert evidence.computed == 2


@pytest.mark.parametrize("way", ["update", "forward"])
def test_a_reset_between_training_and_evaluation_passes(metric: Any, way: str) -> None:
    one = metric()
    for _ in range(2):
        for _ in range(3):
            getattr(one, way)(1)
        assert one.compute() == 3
        one.reset()
        with torch.no_grad():
            getattr(one, way)(10)
            assert one.compute() == 10
            one.reset()
            assert one.compute() == 0
    assert mixed() == []


class Accumulating(torch.nn.Module):
    """A metric with a gradient, as torchmetrics' `MeanSquaredError`."""

    def update(self) -> None: ...

    def compute(self) -> None: ...

    def reset(self) -> None: ...

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels)


class Accuracy(torch.nn.Module):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (logits.argmax(dim=1) == labels).float().mean()


@pytest.mark.parametrize("kind", [Accumulating, Accuracy])
def test_a_metric_is_no_loss(kind: type[torch.nn.Module]) -> None:
    """Else it is called by the short experiments, which changes what the program reports."""
    observer = Observer()
    logits, labels = torch.randn(4, 2, requires_grad=True), torch.tensor([0, 1, 1, 0])
    for module in (torch.nn.CrossEntropyLoss(), kind()):
        observer.on_call(module, (logits, labels), {}, module(logits, labels))
    assert [loss.name for loss in observer.step.losses] == ["CrossEntropyLoss"]


def test_the_rule_names_the_object() -> None:
    rule = find_rule("EVL035")
    assert rule(MetricObjectsEvidence(3, ())) is None
    finding = rule(MetricObjectsEvidence(3, (MetricObject("MulticlassAccuracy", 57, 6),)))
    assert finding is not None
    assert "MulticlassAccuracy was computed over 57 updates in training and 6 in evaluation" in finding.observed
