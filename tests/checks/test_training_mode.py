"""What only training mode shows: the experiments and the watchdog see it, and change nothing."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tenor.checks import Watchdog
from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.probes.probe import probe
from tenor.checks.rules import mod, opt_steps


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """Models this small are slower on two threads."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Modes(nn.Module):
    """A mean of embeddings under two layers, which behaves otherwise in one of the modes."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.kind, self.calls = kind, 0
        self.embedding, self.norm = nn.Embedding(100, 16), nn.BatchNorm1d(16)
        self.hidden, self.out = nn.Linear(16, 16), nn.Linear(16, 2)
        self.unused = nn.Linear(2, 2) if kind == "unused layer" else None
        if "checkpoint" in kind:
            self.embedding.requires_grad_(False)
            self.norm.requires_grad_(False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        pooled = F.dropout(self.norm(self.embedding(input_ids).mean(dim=1)), 0.1, self.training)
        if "checkpoint" in self.kind and self.training:
            hidden = checkpoint(self.hidden, pooled, use_reentrant=self.kind.startswith("reentrant"))
        else:
            hidden = self.hidden(pooled)
        if self.kind == ("detached in training" if self.training else "detached in evaluation"):
            hidden = hidden.detach()
        if self.kind == "skipped at random" and self.training and torch.rand(()) < 0.4:
            hidden = pooled
        if self.kind == "blank in training" and self.training:
            hidden = 0 * hidden
        return self.out(torch.tanh(hidden))


def batches(n: int = 2) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(n):
        ids = torch.randint(2, 100, (16, 6), generator=generator)
        made.append({"input_ids": ids, "labels": (ids[:, 0] > 50).long()})
    return made


def probed(model: nn.Module) -> ProbeEvidence:
    return probe(model, F.cross_entropy, batches(), 2, seconds=5.0)


FAULTS = ("reentrant checkpoint", "detached in training", "blank in training")
SOUND = ("", "checkpoint", "detached in evaluation", "skipped at random", "unused layer")


def severity(rule: Any, evidence: Any) -> str | None:
    found = rule(evidence)
    return found and (found.severity or rule.severity)


@pytest.mark.parametrize("in_training", [True, False], ids=["training", "as loaded"])
@pytest.mark.parametrize("kind", [*FAULTS, *SOUND])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_the_experiments_run_in_the_mode_of_training(kind: str, in_training: bool) -> None:
    evidence = probed(Modes(kind).train(in_training))
    assert not evidence.failures.keys() & {"gradients", "blanking_in_training"}
    gradients, text = severity(opt_steps.no_gradient, evidence), severity(mod.logits_ignore_the_input, evidence)
    assert (gradients == "error") == (kind in FAULTS[:2])
    assert (text == "error") == (kind == "blank in training")


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [*FAULTS, *SOUND])
def test_the_watchdog_sees_gradients_that_never_arrive(kind: str) -> None:
    model = Modes(kind).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    watchdog = Watchdog(model, optimizer, n_classes=2, every=5, policy="warn")
    for batch in batches(10):
        loss = F.cross_entropy(model(batch["input_ids"]), batch["labels"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(loss)
    found = {finding.code: finding.severity for finding in watchdog.report.findings}
    expected = "error" if kind in FAULTS else "warning" if kind == "unused layer" else None
    assert found.get("OPT028") == expected
    assert "OPT028" in watchdog.report.checked


def test_training_mode_leaves_statistics_and_counters_unchanged() -> None:
    model = Modes().train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probed(model)
    assert model.calls == 0
    assert (model.training, model.norm.training) == (True, False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_layers_that_are_unfrozen_on_the_way_do_not_count_as_changed_frozen_weights() -> None:
    model = Modes().train()
    model.embedding.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watchdog = Watchdog(model, optimizer, n_classes=2)
    for step, batch in enumerate(batches(20)):
        if step == 10:
            model.embedding.requires_grad_(True)
        loss = F.cross_entropy(model(batch["input_ids"]), batch["labels"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(loss)
    watchdog.check_weights()
    assert "FRZ004" not in {finding.code for finding in watchdog.report.findings}
