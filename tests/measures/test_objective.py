"""The objective: the loss of a batch does not depend on how it is split, and the best checkpoint is well defined."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenor.config.schema import Training
from tenor.errors import UserError
from tenor.measures.objective import LARGER_IS_BETTER, Objective, class_probabilities, class_weights, make_objective

CLASSES = 3
WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 40),
    splits=st.lists(st.integers(0, 40), max_size=6),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 0.7]),
)
def test_the_losses_of_the_parts_sum_to_the_loss_of_the_whole(
    seed: int, rows: int, splits: list[int], weighted: bool, smoothing: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(rows, CLASSES, generator=random)
    labels = torch.randint(0, CLASSES, (rows,), generator=random)
    weights = WEIGHTS if weighted else None
    edges = sorted({0, rows, *(split for split in splits if split < rows)})
    parts = [slice(a, b) for a, b in pairwise(edges)]

    objective = Objective(("a", "b", "c"), weights, smoothing)
    whole = objective.summed_loss(logits, labels)
    summed = sum(objective.summed_loss(logits[part], labels[part]) for part in parts)

    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=1e-5)
    total = sum(objective.total_weight(labels[part]) for part in parts)
    assert total == pytest.approx(objective.total_weight(labels))
    # The reference is PyTorch's own mean.
    mean = torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(objective.mean_loss(logits, labels), mean, rtol=1e-5, atol=1e-5)


def test_half_precision_logits_are_measured_in_float32() -> None:
    logits = torch.randn(4, 2).to(torch.bfloat16)
    loss = Objective(("a", "b")).summed_loss(logits, torch.tensor([0, 1, 0, 1]))
    assert loss.dtype == torch.float32


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 7 + [1] * 2 + [2] * 11)
    weights = class_weights(Training(class_weights="balanced"), labels, 3)
    assert weights is not None
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)


def test_a_class_without_rows_has_a_finite_balanced_weight() -> None:
    weights = class_weights(Training(class_weights="balanced"), np.array([0, 0, 1]), 3)
    assert weights is not None
    assert torch.isfinite(weights).all()


def test_there_are_no_class_weights_by_default() -> None:
    assert class_weights(Training(), np.array([0, 1]), 2) is None


def test_explicit_class_weights_are_used_unchanged_and_must_match_the_classes() -> None:
    settings = Training(class_weights=(1.0, 2.0))
    weights = class_weights(settings, np.array([0, 1]), 2)
    assert weights is not None
    assert weights.tolist() == [1.0, 2.0]
    with pytest.raises(UserError, match="2 weights for 3 classes"):
        class_weights(settings, np.array([0, 1, 2]), 3)


def _metrics(accuracy: float, macro_f1: float, loss: float) -> dict[str, float]:
    return {"accuracy": accuracy, "macro_f1": macro_f1, "loss": loss}


def test_select_by_chooses_the_metric_and_ties_go_to_the_lower_loss() -> None:
    low_loss, high_f1 = _metrics(0.5, 0.2, loss=0.1), _metrics(0.5, 0.9, loss=0.9)
    objectives = {name: Objective(("a", "b"), select_by=name) for name in LARGER_IS_BETTER}
    assert objectives["loss"].prefers(low_loss, high_f1)
    assert objectives["macro_f1"].prefers(high_f1, low_loss)
    assert objectives["accuracy"].prefers(low_loss, high_f1)
    assert not objectives["accuracy"].prefers(low_loss, low_loss)


def test_every_value_of_select_by_is_a_metric_of_the_objective() -> None:
    assert get_args(Training.model_fields["select_by"].annotation) == tuple(LARGER_IS_BETTER)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_validation_metrics_are_those_of_scikit_learn(n_classes: int) -> None:
    from sklearn import metrics as reference

    random = np.random.default_rng(0)
    labels, logits = random.integers(0, n_classes, 50), random.normal(size=(50, n_classes)).astype(np.float32)
    objective = make_objective(Training(), labels, tuple("abc"[:n_classes]))
    metrics, confusion = objective.validation_metrics(labels, logits)
    predicted = logits.argmax(axis=1)
    assert metrics == {
        "accuracy": pytest.approx(reference.accuracy_score(labels, predicted)),
        "macro_f1": pytest.approx(reference.f1_score(labels, predicted, average="macro")),
        "loss": pytest.approx(reference.log_loss(labels, class_probabilities(logits))),
    }
    assert confusion == reference.confusion_matrix(labels, predicted).tolist()
    assert objective.prediction_counts(torch.from_numpy(logits)).tolist() == np.bincount(predicted).tolist()
