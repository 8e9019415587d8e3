"""`tenor train` and `tenor check` give the public preflight the batches that the loop will train on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_runs import small_config
from tenor.checks.gather.batches import batch_evidence
from tenor.data.batching import epoch_batches
from tenor.workflows.check import FirstEpoch, run_preflight
from tenor.workflows.prepare import Prepared, prepare


@pytest.fixture
def prepared(small_model: Path, tmp_path: Path) -> Prepared:
    return prepare(small_config(tmp_path, small_model, "checks.probe_seconds=1"))


def test_the_loader_gives_the_batches_of_the_first_epoch_in_order(prepared: Prepared) -> None:
    tokens, size = prepared.tokens["train"], prepared.config.training.batch_size
    order = epoch_batches(tokens.lengths, size, prepared.config.seed, epoch=0)
    loader = FirstEpoch.of(prepared)
    assert len(loader) == len(order)
    assert [batch["labels"].tolist() for batch in loader] == [tokens.labels[rows].tolist() for rows in order]
    evidence = batch_evidence(loader, 2)
    np.testing.assert_array_equal(evidence.epoch_labels, tokens.labels[np.concatenate(order)])  # type: ignore[arg-type]
    assert evidence.rows_per_epoch == evidence.rows_in_split == len(tokens)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_weights_gradients_and_random_states_are_unchanged(prepared: Prepared, precision: str) -> None:
    model = prepared.classifier.model
    weights, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    run_preflight(replace(prepared, plan=replace(prepared.plan, precision=precision)))  # type: ignore[arg-type]
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_without_time_the_experiments_are_reported_as_switched_off(prepared: Prepared) -> None:
    checks = prepared.config.checks.model_copy(update={"probe_seconds": 0.0})
    report = run_preflight(replace(prepared, config=prepared.config.model_copy(update={"checks": checks})))
    reason = next(one.reason for one in report.not_applicable if one.code == "LOS009")
    assert "switched off" in reason
    assert "checks.probe_seconds" in reason
