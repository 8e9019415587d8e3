"""The loss of a batch does not depend on how it is cut."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenor.config.schema import Training
from tenor.errors import UserError
from tenor.training.loss import class_weights, summed_cross_entropy, total_weight

CLASSES = 3
WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 0.7]),
)
def test_the_losses_of_the_parts_sum_to_the_loss_of_the_whole(
    seed: int, rows: int, cuts: list[int], weighted: bool, smoothing: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(rows, CLASSES, generator=random)
    labels = torch.randint(0, CLASSES, (rows,), generator=random)
    weights = WEIGHTS if weighted else None
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    parts = [slice(a, b) for a, b in pairwise(edges)]

    whole = summed_cross_entropy(logits, labels, weights, smoothing)
    summed = sum(summed_cross_entropy(logits[part], labels[part], weights, smoothing) for part in parts)

    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=1e-5)
    assert sum(total_weight(labels[part], weights) for part in parts) == pytest.approx(total_weight(labels, weights))
    # The reference is PyTorch's own mean.
    mean = torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(whole / total_weight(labels, weights), mean, rtol=1e-5, atol=1e-5)


def test_half_precision_logits_are_measured_in_float32() -> None:
    logits = torch.randn(4, 2).to(torch.bfloat16)
    assert summed_cross_entropy(logits, torch.tensor([0, 1, 0, 1]), None, 0.0).dtype == torch.float32


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 7 + [1] * 2 + [2] * 11)
    found = class_weights(Training(class_weights="balanced"), labels, 3)
    assert found is not None
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)


def test_a_class_without_rows_has_a_finite_balanced_weight() -> None:
    found = class_weights(Training(class_weights="balanced"), np.array([0, 0, 1]), 3)
    assert found is not None
    assert torch.isfinite(found).all()


def test_no_weights_unless_asked_for() -> None:
    assert class_weights(Training(), np.array([0, 1]), 2) is None


def test_weights_given_by_hand_are_taken_as_they_are_and_counted() -> None:
    settings = Training(class_weights=(1.0, 2.0))
    found = class_weights(settings, np.array([0, 1]), 2)
    assert found is not None
    assert found.tolist() == [1.0, 2.0]
    with pytest.raises(UserError, match="2 weights for 3 classes"):
        class_weights(settings, np.array([0, 1, 2]), 3)
