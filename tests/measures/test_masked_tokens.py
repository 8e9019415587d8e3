"""The masked-token objective: means over tokens, whatever the rows they are in."""

import math

import numpy as np
import pytest
import torch

from tenor.data.masking import NOT_COUNTED
from tenor.measures.masked_tokens import MaskedTokens, perplexity, unigram_entropy


def test_the_loss_of_a_batch_is_the_mean_over_its_tokens() -> None:
    logits, targets = torch.randn(7, 50), torch.randint(50, (7,))
    objective = MaskedTokens()
    parts = objective.summed_loss(logits[:3], targets[:3]) + objective.summed_loss(logits[3:], targets[3:])
    mean = parts / objective.total_weight(torch.tensor([3, 4]))
    torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(logits, targets))


def test_tokens_that_fill_up_a_pass_are_not_counted() -> None:
    logits, targets = torch.randn(7, 50), torch.randint(50, (7,))
    filled = torch.cat([targets[:5], torch.full((2,), NOT_COUNTED)])
    loss = MaskedTokens().summed_loss(logits, filled)
    torch.testing.assert_close(loss, MaskedTokens().summed_loss(logits[:5], targets[:5]))


def test_metrics_weigh_rows_by_their_tokens() -> None:
    metrics, confusion = MaskedTokens().validation_metrics(np.array([1, 3]), np.array([[2.0, 1.0], [3.0, 0.0]]))
    assert metrics == {"loss": 1.25, "perplexity": pytest.approx(math.exp(1.25)), "masked_accuracy": 0.25}
    assert confusion == []


def test_the_lower_loss_is_better() -> None:
    assert MaskedTokens().prefers({"loss": 1.0}, {"loss": 1.1})
    assert not MaskedTokens().prefers({"loss": 1.1}, {"loss": 1.1})


def test_the_entropy_of_equally_frequent_tokens_is_the_logarithm_of_their_number() -> None:
    assert unigram_entropy(np.array([0, 5, 5, 0, 5, 5])) == pytest.approx(math.log(4))
    assert unigram_entropy(np.array([7, 0])) == 0
    assert unigram_entropy(np.array([3, 1])) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_a_perplexity_is_always_a_number() -> None:
    assert math.isfinite(perplexity(1e6))
