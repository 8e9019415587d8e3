"""The short experiments: which faults they find, and that they change nothing."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tenor.checks.catalogue import run_rules
from tenor.checks.evidence.model_evidence import ProbeEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.probes.probe import probe
from tenor.checks.rule import Rule
from tenor.checks.rules import los_function, los_training, mod, opt_steps
from tenor.checks.rules import los_function as los_experiments
from tiny_models import load_tiny

FAMILIES = (los_function, los_experiments, los_training, mod, opt_steps)
RULES = [rule for family in FAMILIES for rule in vars(family).values() if isinstance(rule, Rule)]
PLENTY = 600.0
"""Seconds: enough that the number of steps is the limit on any machine."""


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """Models this small are slower on two threads."""
    torch.set_num_threads(1)


def batches(rows: int = 24, width: int = 12, k: int = 2) -> list[dict[str, torch.Tensor]]:
    """Two batches of different widths with rows of different lengths; one token determines the class."""
    made, generator = [], torch.Generator().manual_seed(5)
    for extra in (0, 3):
        labels = torch.arange(rows // 2) % k
        ids = torch.randint(1000, 1200, (rows // 2, width + extra), generator=generator)
        ids[:, 0], ids[:, 2] = 101, 2000 + labels
        mask = (torch.arange(width + extra) < torch.randint(4, width, (rows // 2, 1), generator=generator)).long()
        made.append({"input_ids": ids * mask, "attention_mask": mask, "labels": labels})
    return made


class Bag(nn.Module):
    """A mean of embeddings under a linear layer, with one fault at a time."""

    def __init__(self, fault: str = "", k: int = 2) -> None:
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(3000, 16), nn.Linear(16, 16), nn.Linear(16, k)
        self.fault = fault
        self.register_buffer("calls", torch.zeros(1))
        if fault == "zero head":
            nn.init.zeros_(self.out.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.calls += 1
        weights = attention_mask[..., None].float()
        if self.fault == "no mask":
            weights = torch.ones_like(weights)
        pooled = (self.embedding(input_ids) * weights).sum(1) / weights.sum(1).clamp_min(1)
        if self.fault == "neighbours":
            pooled = pooled - pooled.mean(0)
        if self.fault == "blind":
            pooled = torch.ones_like(pooled)
        if self.fault == "detached":
            pooled = pooled.detach()
        logits = self.out(torch.tanh(self.hidden(pooled)))
        return (logits.softmax(-1) if self.fault == "softmax" else logits,)


def reported(evidence: ProbeEvidence) -> dict[str, str]:
    """Codes and severities of the findings of every rule that needs only these experiments."""
    severities = {}
    for rule in RULES:
        if rule.needs == (ProbeEvidence,):
            try:
                finding = rule(evidence)
            except CannotTell:
                continue
            if finding is not None:
                severities[rule.code] = finding.severity or rule.severity
    return severities


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """Everything that must not change, bit by bit, and the identity of the tensors."""
    return [
        {name: (id(t), t.clone()) for name, t in (*model.named_parameters(), *model.named_buffers())},
        {name: (id(p.grad), p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None},
        [module.training for module in model.modules()],
        [{k: v.clone() for k, v in values.items()} for values in optimizer.state.values()],
        [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
        random.getstate(),
        str(np.random.get_state(legacy=False)),
        torch.get_rng_state(),
    ]


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("kind", ["distilbert", "bert", "bag"])
def test_experiments_change_nothing(kind: str, tiny_distilbert: Path, tiny_bert: Path) -> None:
    folders = {"distilbert": tiny_distilbert, "bert": tiny_bert}
    model = load_tiny(folders[kind]).model if kind in folders else Bag()
    model.train()
    next(model.children()).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = batches()[0]
    output = model(input_ids=first["input_ids"], attention_mask=first["attention_mask"])
    logits = output[0] if isinstance(output, tuple) else output.logits
    F.cross_entropy(logits, first["labels"]).backward()
    optimizer.step()
    before = state(model, optimizer)
    probe(model, F.cross_entropy, batches(), 2, seconds=5.0, deep=True)
    assert_same(before, state(model, optimizer))


def test_an_interrupted_experiment_changes_nothing() -> None:
    model, calls = Bag(), 0

    def interrupted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return F.cross_entropy(logits, labels)

    optimizer = torch.optim.AdamW(model.parameters())
    before = state(model, optimizer)
    with pytest.raises(KeyboardInterrupt):
        probe(model, interrupted, batches(), 2)
    assert_same(before, state(model, optimizer))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["distilbert", "bert"])
def test_healthy_encoders_pass(kind: str, frozen: bool, tiny_distilbert: Path, tiny_bert: Path) -> None:
    model = load_tiny({"distilbert": tiny_distilbert, "bert": tiny_bert}[kind]).model
    if frozen:
        model.base_model.requires_grad_(False)
    evidence = probe(model, F.cross_entropy, batches(), 2, seconds=PLENTY)
    assert evidence.failures == {}
    assert evidence.n_examples == 24
    assert {code: severity for code, severity in reported(evidence).items() if severity != "note"} == {}
    # A tiny encoder with large random weights can have a high initial loss: at most a note.
    assert set(reported(evidence)) <= {"LOS001"}


def twice_softmax(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.softmax(-1), labels)


def inverted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.nll_loss(-logits.log_softmax(-1), labels)


def from_argmax(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(-1) != labels).float().mean()


def summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=0.1, weight=torch.tensor([1.0, 9.0]))


@pytest.mark.parametrize(
    ("fault", "loss_fn", "expected", "allowed"),
    [
        ("", F.cross_entropy, set(), set()),
        ("", smoothed, set(), set()),
        ("zero head", F.cross_entropy, set(), set()),
        ("no mask", F.cross_entropy, {"MOD006"}, set()),
        ("neighbours", F.cross_entropy, {"MOD007"}, {"MOD006"}),
        ("blind", F.cross_entropy, {"MOD005", "LOS010", "LOS009"}, {"OPT020"}),
        ("softmax", F.cross_entropy, {"LOS002"}, {"LOS009"}),
        ("detached", F.cross_entropy, {"OPT020"}, set()),
        ("", twice_softmax, {"LOS002"}, {"LOS009"}),
        ("", inverted, {"LOS003"}, {"LOS009", "LOS010", "LOS001"}),
        ("", from_argmax, {"LOS004", "OPT020"}, {"LOS009"}),
        ("", summed, {"LOS005"}, {"LOS001"}),
    ],
)
def test_each_fault_is_found(
    fault: str, loss_fn: Callable[..., torch.Tensor], expected: set[str], allowed: set[str]
) -> None:
    evidence = probe(Bag(fault), loss_fn, batches(), 2, seconds=PLENTY)
    assert expected <= set(reported(evidence)) <= expected | allowed


@pytest.mark.parametrize("width", [12, 64, 90])
def test_padding_is_added_to_batches_of_any_width(width: int) -> None:
    faulty = probe(Bag("no mask"), F.cross_entropy, batches(width=width), 2, seconds=0.0)
    healthy = probe(Bag(), F.cross_entropy, batches(width=width), 2, seconds=0.0)
    assert "MOD006" in reported(faulty)
    assert healthy.logit_change_from_padding is not None
    assert "MOD006" not in reported(healthy)


class Recurrent(nn.Module):
    """A bidirectional GRU that reads the whole width, under a mean over the tokens."""

    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3000, 16)
        self.gru = nn.GRU(16, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 2)
        self.packed = packed

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        embedded = self.embedding(input_ids)
        if self.packed:
            lengths = attention_mask.sum(1)
            rows = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            hidden, _ = nn.utils.rnn.pad_packed_sequence(
                self.gru(rows)[0], batch_first=True, total_length=input_ids.shape[1]
            )
        else:
            hidden, _ = self.gru(embedded)
        weights = attention_mask[..., None].float()
        return self.out((hidden * weights).sum(1) / weights.sum(1))


def test_padding_that_a_recurrent_layer_reads_does_not_stop_a_program() -> None:
    """Programs train well with it; that predictions depend on the width is still worth a warning."""
    unpacked = probe(Recurrent(packed=False), F.cross_entropy, batches(), 2, seconds=0.0)
    assert reported(unpacked) == {"MOD006": "warning"}
    assert "pack_padded_sequence" in getattr(mod.padding_changes_logits(unpacked), "fix", "")
    assert reported(probe(Recurrent(packed=True), F.cross_entropy, batches(), 2, seconds=0.0)) == {}


def test_batches_padded_on_the_left_get_more_padding_on_the_left() -> None:
    turned = [{k: v if k == "labels" else v.flip(1) for k, v in batch.items()} for batch in batches(width=80)]
    assert "MOD006" in reported(probe(Bag("no mask"), F.cross_entropy, turned, 2, seconds=0.0))
    assert reported(probe(Bag(), F.cross_entropy, turned, 2, seconds=0.0)) == {}


def test_twenty_classes_pass() -> None:
    assert reported(probe(Bag(k=20), F.cross_entropy, batches(rows=40, k=20), 20, seconds=PLENTY)) == {}


def test_shuffled_labels_are_harder_than_real_ones() -> None:
    evidence = probe(Bag(), F.cross_entropy, batches(rows=400), 2, seconds=PLENTY, deep=True)
    assert evidence.deep_examples == 200
    assert evidence.real_labels_loss is not None
    assert evidence.random_labels_loss is not None
    assert evidence.real_labels_loss < 0.9 * evidence.random_labels_loss


@pytest.mark.parametrize(
    "made",
    [
        [],
        [{"input_ids": torch.zeros(2, 3, dtype=torch.long)}],
        [{"input_ids": torch.zeros(2, 3, dtype=torch.long), "labels": torch.tensor([0, 7])}],
        [{"text": ["a", "b"], "labels": torch.tensor([0, 1])}],
        [{"input_ids": torch.full((2, 3), 9999), "attention_mask": torch.ones(2, 3), "labels": torch.tensor([0, 1])}],
    ],
)
def test_an_experiment_that_cannot_be_run_is_recorded_as_a_failure(made: Any) -> None:
    evidence = probe(Bag(), F.cross_entropy, made, 2, seconds=1.0)
    assert evidence.failures
    assert evidence.initial_loss is None
    assert evidence.loss_when_right == pytest.approx(4.5e-5, rel=0.01)


def test_features_and_a_custom_forward_are_supported() -> None:
    labels = torch.arange(16) % 2
    made = [{"features": torch.randn(16, 6) + 4 * labels[:, None], "labels": labels}]
    model = nn.Linear(6, 2)
    for forward in (None, lambda m, inputs: {"logits": m(inputs["features"])}):
        evidence = probe(model, F.cross_entropy, made, 2, forward=forward, seconds=PLENTY)
        assert evidence.logit_change_from_padding is None
        assert evidence.logit_change_from_blanking
        assert evidence.overfit_loss is not None
        assert reported(evidence).keys() <= {"LOS001"}


def test_nothing_is_trained_without_time_or_trainable_weights() -> None:
    frozen = Bag()
    frozen.requires_grad_(False)
    for model, seconds in ((Bag(), 0.0), (frozen, PLENTY)):
        evidence = probe(model, F.cross_entropy, batches(), 2, seconds=seconds)
        assert evidence.initial_loss is not None
        assert evidence.overfit_loss is None


def test_a_rule_whose_experiment_had_no_time_gives_that_reason() -> None:
    report = run_rules([probe(Bag(), F.cross_entropy, batches(), 2, seconds=1e-6)], "preflight")
    reason = next(one.reason for one in report.not_applicable if one.code == "LOS009")
    assert "allow 0 steps; 20 are needed" in reason
