"""The range test of learning rates: which rates it tries, what its rule reports, and that weights are restored."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.evidence.training_evidence import GroupRow, OptimizerEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.probes.probe import probe
from tenor.checks.probes.short_experiments import HIGHEST, LOWEST, STEPS
from tenor.checks.rules.opt_groups import rate_outside_tested_range

PLENTY = 600.0


class Sensitive(nn.Module):
    """A deep network that diverges at a large learning rate."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(8, 8) for _ in range(4)]
        self.net = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())), nn.Linear(8, 2))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.net(features)


def batches() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(128, 8, generator=generator)
    return [{"features": features, "labels": (features[:, 0] > 0).long()}]


def test_rates_rise_in_equal_factors_until_the_loss_diverges() -> None:
    torch.manual_seed(0)
    model = Sensitive()
    before = [p.clone() for p in model.parameters()]
    evidence = probe(model, F.cross_entropy, batches(), 2, seconds=PLENTY, deep=True)
    assert "rising_rates" not in evidence.failures
    tried, losses = evidence.rates_tried, evidence.losses_at_rates
    assert tried is not None
    assert losses is not None
    assert len(tried) == len(losses) <= STEPS
    assert tried[0] == pytest.approx(LOWEST)
    assert max(tried) <= HIGHEST * 1.0001
    assert np.allclose(np.diff(np.log(tried)), np.log(tried[1] / tried[0]))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_without_deep_no_rate_is_tried() -> None:
    assert probe(Sensitive(), F.cross_entropy, batches(), 2, seconds=5.0).rates_tried is None


def range_test(losses: Sequence[float]) -> ProbeEvidence:
    rates = tuple(1e-6 * 2.0**step for step in range(len(losses)))
    return ProbeEvidence(2, rates_tried=rates, losses_at_rates=tuple(losses))


def adam(rate: float, kind: str = "AdamW") -> OptimizerEvidence:
    group = GroupRow(("weight",), 0, rate, 0.0)
    return OptimizerEvidence((group,), frozenset({"weight"}), frozenset(), frozenset(), kind)


DIVERGING = [0.69] * 8 + [0.5, 0.4, 0.3, 0.3, 0.9, 2.0, 8.0, 60.0]
"""Falls from a rate of 2.6e-4 on, and diverges at 4.1e-3."""


def test_a_rate_at_which_the_loss_diverged_is_reported_and_a_lower_one_is_not() -> None:
    finding = rate_outside_tested_range(range_test(DIVERGING), adam(0.05))
    assert finding is not None
    assert "diverged" in finding.observed
    assert rate_outside_tested_range(range_test(DIVERGING), adam(3e-4)) is None


def test_without_divergence_nothing_is_reported() -> None:
    assert rate_outside_tested_range(range_test([0.69] * 10 + [0.5] * 10), adam(10.0)) is None


def test_a_loss_of_nan_is_divergence() -> None:
    assert rate_outside_tested_range(range_test([*[0.69] * 12, math.nan]), adam(1.0)) is not None


def test_too_few_rates_and_other_optimizers_are_not_checked() -> None:
    with pytest.raises(CannotTell):
        rate_outside_tested_range(range_test(DIVERGING[:6]), adam(1.0))
    with pytest.raises(CannotTell):
        rate_outside_tested_range(range_test(DIVERGING), adam(1.0, "SGD"))
    with pytest.raises(CannotTell):
        rate_outside_tested_range(ProbeEvidence(2), adam(1.0))
