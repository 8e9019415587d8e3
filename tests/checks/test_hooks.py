"""The kind and the scale of a loss follow from the logits and their gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tenor.checks.loss_gradients import ForwardPass, kind_of_loss, loss_factor

shapes = st.tuples(st.integers(8, 24), st.integers(2, 6), st.integers(0, 10_000))


def one_pass(rows: int, k: int, seed: int, loss_of: object, scale: float = 1.0) -> tuple[ForwardPass, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(rows, k, generator=generator)).requires_grad_()
    labels = torch.randint(0, k, (rows,), generator=generator)
    gradient = torch.autograd.grad(loss_of(logits, labels), logits)[0]
    return ForwardPass(0, logits.detach(), gradient), labels


@given(shapes, st.floats(0.01, 1000))
def test_the_factor_of_a_mean_is_measured(shape, factor):
    one, labels = one_pass(*shape, lambda logits, labels: factor * F.cross_entropy(logits, labels))
    assert loss_factor(one) == pytest.approx(factor, rel=1e-2)
    assert one.gradient.argmin(dim=1).tolist() == labels.tolist()


@given(shapes)
def test_mean_sum_and_probabilities_are_distinguished(shape):
    losses = {
        "mean": F.cross_entropy,
        "sum": lambda logits, labels: F.cross_entropy(logits, labels, reduction="sum"),
        "probabilities": lambda logits, labels: F.cross_entropy(logits.softmax(dim=1), labels),
    }
    for kind, loss in losses.items():
        # Half of the scale: of few rows, most must be predicted without much confidence.
        assert kind_of_loss(one_pass(*shape, loss, scale=0.5)[0]) == kind


@given(shapes, st.floats(4, 12), st.booleans())
def test_confident_rows_are_not_taken_for_a_loss_of_probabilities(shape, confidence, doubly):
    """A model at the end of its training: the gradients of both losses shrink in the same proportion."""
    rows, k, seed = shape
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, k, (rows,), generator=generator)
    logits = F.one_hot(labels, k) * (confidence + torch.rand(rows, 1, generator=generator))
    logits = (logits + 0.1 * torch.rand(rows, k, generator=generator)).requires_grad_()
    loss = F.cross_entropy(logits.softmax(dim=1) if doubly else logits, labels)
    gradient = torch.autograd.grad(loss, logits)[0]
    assert kind_of_loss(ForwardPass(0, logits.detach(), gradient)) in (None, "mean")


@given(st.integers(0, 10_000))
def test_other_losses_have_no_kind(seed):
    def focal(logits, labels):
        nats = F.cross_entropy(logits, labels, reduction="none")
        return ((1 - torch.exp(-nats)) ** 2 * nats).mean()

    def smoothed(logits, labels):
        return F.cross_entropy(logits, labels, label_smoothing=0.2)

    for loss in (focal, smoothed):
        assert kind_of_loss(one_pass(16, 3, seed, loss)[0]) is None


def test_an_overflow_has_no_kind_and_no_factor():
    one = ForwardPass(0, torch.zeros(4, 2), torch.full((4, 2), float("inf")))
    assert kind_of_loss(one) is None
    assert loss_factor(one) != loss_factor(one)
