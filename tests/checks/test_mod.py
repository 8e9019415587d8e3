"""Rules on the model as built."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tenor.checks.evidence.model_evidence import ModelEvidence, ParameterRow, ProbeEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.gather.model import model_evidence
from tenor.checks.probes.trace import trace
from tenor.checks.rule import Rule
from tenor.checks.rules import mod
from tenor.runs.findings import Finding

ENCODER = [f"bert.encoder.layer.{i}.attention.query" for i in range(3)]
PARAMETERS = (
    *(ParameterRow(f"{name}.weight", (8, 8), True, False) for name in ENCODER),
    *(ParameterRow(f"{name}.bias", (8,), True, False) for name in ENCODER),
    ParameterRow("bert.pooler.dense.weight", (8, 8), True, True),
    ParameterRow("classifier.weight", (2, 8), True, True),
)
HEALTHY = ModelEvidence(
    PARAMETERS,
    2,
    n_outputs=2,
    class_names=("negative", "positive"),
    id2label={0: "negative", 1: "positive"},
    new_weights=("classifier.weight", "bert.pooler.dense.weight"),
    unused_weights=("cls.predictions.transform.dense.weight",),
    pretrained=True,
    problem_type="single_label_classification",
)
LOST = tuple(p.name for p in PARAMETERS if not p.in_head)
PROBE = ProbeEvidence(
    2,
    n_examples=8,
    logit_spread=0.05,
    logit_change_from_blanking=0.1,
    logit_change_from_padding=1e-7,
    logit_change_from_neighbours=2e-7,
)


def severity(rule: Rule, evidence: Any) -> str | None:
    seen = rule(evidence)
    return None if seen is None else seen.severity or rule.severity


@pytest.mark.parametrize(
    ("rule", "change", "expected"),
    [
        (mod.outputs_differ_from_classes, {}, None),
        (mod.outputs_differ_from_classes, {"n_outputs": 1}, "error"),
        (mod.outputs_differ_from_classes, {"n_outputs": 3}, "error"),
        (mod.outputs_differ_from_classes, {"n_outputs": 20, "n_classes": 20}, None),
        (mod.names_contradict_the_data, {}, None),
        (mod.names_contradict_the_data, {"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}}, None),
        (mod.names_contradict_the_data, {"id2label": {0: "neg", 1: "pos"}}, None),
        (mod.names_contradict_the_data, {"id2label": {0: "LABEL_0", 1: "LABEL_1"}}, "note"),
        (mod.names_contradict_the_data, {"id2label": {0: "schlecht", 1: "gut"}}, "note"),
        (mod.names_contradict_the_data, {"id2label": {0: "POS", 1: "NEG"}}, "error"),
        (mod.pretrained_weights_missing, {}, None),
        (mod.pretrained_weights_missing, {"new_weights": LOST}, "error"),
        (mod.pretrained_weights_missing, {"new_weights": (f"{ENCODER[0]}.bias",)}, "warning"),
        (mod.pretrained_weights_missing, {"new_weights": LOST, "pretrained": False}, None),
        (mod.checkpoint_not_used, {}, None),
        (mod.checkpoint_not_used, {"unused_weights": tuple(f"module.{n}" for n in LOST)}, None),
        (
            mod.checkpoint_not_used,
            {"new_weights": LOST, "unused_weights": tuple(f"module.model.{n.removeprefix('bert.')}" for n in LOST)},
            "error",
        ),
        (mod.checkpoint_not_used, {"unused_weights": ("bert.encoder.layer.9.attention.query.weight",)}, None),
        (mod.problem_type_is_not_classification, {}, None),
        (mod.problem_type_is_not_classification, {"problem_type": None}, None),
        (mod.problem_type_is_not_classification, {"problem_type": "regression"}, "error"),
        (mod.problem_type_is_not_classification, {"problem_type": "multi_label_classification"}, "error"),
    ],
)
def test_model_rules(rule: Rule, change: dict[str, Any], expected: str | None) -> None:
    assert severity(rule, replace(HEALTHY, **change)) == expected


def test_newly_initialized_adapters_pass() -> None:
    adapter = ParameterRow("bert.encoder.layer.0.attention.query.lora_A.weight", (4, 8), True, False, added=True)
    lora = replace(HEALTHY, parameters=(*PARAMETERS, adapter), new_weights=(adapter.name,))
    assert mod.pretrained_weights_missing(lora) is None


@pytest.mark.parametrize(
    ("rule", "change", "expected"),
    [
        (mod.logits_ignore_the_input, {}, None),
        (mod.logits_ignore_the_input, {"logit_change_from_blanking": 0.0}, "error"),
        (mod.logits_ignore_the_input, {"logit_spread": 1e-8}, "error"),
        # A head initialized to zero that learns from the texts.
        (mod.logits_ignore_the_input, {"logit_spread": 0.0, "overfit_responds": (0.1, 0.69)}, None),
        (mod.padding_changes_logits, {}, None),
        (mod.padding_changes_logits, {"logit_change_from_padding": 1e-3}, "error"),
        (mod.padding_changes_logits, {"logit_change_from_padding": float("nan")}, "error"),
        (mod.padding_changes_logits, {"logit_change_from_padding": 1e-2, "rounding": 2.0**-8}, None),
        (mod.neighbours_change_logits, {}, None),
        (mod.neighbours_change_logits, {"logit_change_from_neighbours": 1e-3}, "error"),
    ],
)
def test_logit_dependency_rules(rule: Rule, change: dict[str, Any], expected: str | None) -> None:
    assert severity(rule, replace(PROBE, **change)) == expected


@pytest.mark.parametrize(
    "rule",
    [mod.outputs_differ_from_classes, mod.names_contradict_the_data, mod.pretrained_weights_missing],
)
def test_unknown_model_facts_are_not_judged(rule: Rule) -> None:
    with pytest.raises(CannotTell):
        rule(ModelEvidence(PARAMETERS, 2))


def judged_head(initialize: Callable[[nn.Linear], object]) -> tuple[float | None, Finding | None]:
    head = nn.Linear(384, 2)
    initialize(head)
    evidence = model_evidence(head, 2, trace=trace(head, {"input": torch.randn(4, 384)}))
    try:
        return evidence.output_gain, mod.new_head_is_too_wide(evidence)
    except CannotTell:
        return evidence.output_gain, None


INITIALIZERS: dict[str, Callable[[torch.Tensor], object]] = {
    "BERT": lambda weight: nn.init.normal_(weight, std=0.02),
    "PyTorch": lambda weight: nn.init.kaiming_uniform_(weight, a=5**0.5),
    "Xavier": nn.init.xavier_normal_,
    "He": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_new_head_of_a_usual_initializer_is_not_too_wide(name: str) -> None:
    def initialize(head: nn.Linear) -> None:
        INITIALIZERS[name](head.weight)
        nn.init.zeros_(head.bias)

    gain, finding = judged_head(initialize)
    assert gain is not None
    assert 0.3 < gain < 2
    assert finding is None


@pytest.mark.parametrize("std", [1.0, 3.0])
def test_a_new_head_that_is_too_wide_is_found(std: float) -> None:
    def initialize(head: nn.Linear) -> None:
        nn.init.normal_(head.weight, std=std)
        nn.init.zeros_(head.bias)

    gain, finding = judged_head(initialize)
    assert gain == pytest.approx(std * 384**0.5, rel=0.15)
    assert finding is not None
    assert finding.n == 2 * 384 + 2


def test_a_trained_head_may_be_wide() -> None:
    def initialize(head: nn.Linear) -> None:
        nn.init.normal_(head.weight, std=3.0)
        nn.init.normal_(head.bias)

    assert judged_head(initialize) == (None, None)
