"""Rules on freezing."""

from typing import Any

import numpy as np
import pytest

from tenor.checks.evidence.data_evidence import BatchEvidence
from tenor.checks.evidence.model_evidence import ModelEvidence, ParameterRow
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rule import Rule
from tenor.checks.rules import frz

BODY = ("d.embeddings.weight", "d.layer.0.q_lin.weight", "d.layer.0.q_lin.bias")
SHAPES = {"d.embeddings.weight": (9, 4), "d.layer.0.q_lin.weight": (4, 4), "d.layer.0.q_lin.bias": (4,)}
HEAD = {"pooler.weight": (4, 4), "classifier.weight": (2, 4), "classifier.bias": (2,)}


def model(frozen: tuple[str, ...] = (), declared: Any = "none", **more: Any) -> ModelEvidence:
    rows = [ParameterRow(n, s, n not in frozen, n in HEAD) for n, s in {**SHAPES, **HEAD}.items()]
    covered = {"none": frozenset(), "base": frozenset(BODY), None: None}[declared]
    return ModelEvidence(tuple(rows), 2, n_outputs=2, declared_freeze=declared, declared_frozen=covered, **more)


def severity(rule: Rule, evidence: Any) -> str | None:
    seen = rule(evidence)
    return None if seen is None else seen.severity or rule.severity


@pytest.mark.parametrize(
    ("rule", "evidence", "expected"),
    [
        (frz.trainable_but_declared_frozen, model(BODY, "base"), None),
        (frz.trainable_but_declared_frozen, model((), "base"), "error"),
        (frz.trainable_but_declared_frozen, model(BODY[:1], "base", keep_trainable=("lin",)), "error"),
        (frz.trainable_but_declared_frozen, model(BODY[:2], "base", keep_trainable=("bias",)), None),
        (frz.frozen_but_declared_trainable, model(), None),
        (frz.frozen_but_declared_trainable, model(BODY), "error"),
        (frz.frozen_but_declared_trainable, model(BODY[2:]), "warning"),
        (frz.frozen_but_declared_trainable, model(BODY, "base"), None),
        (frz.nothing_trainable, model(BODY), None),
        (frz.nothing_trainable, model((*BODY, *HEAD)), "error"),
        (frz.head_is_frozen, model(BODY, "base"), None),
        (frz.head_is_frozen, model(("classifier.weight",)), "error"),
        (frz.head_is_frozen, model(("classifier.weight",), new_weights=()), "warning"),
        (frz.head_is_frozen, model((*BODY, "pooler.weight"), "base", new_weights=("classifier.weight",)), None),
        (frz.head_is_frozen, model((*BODY, "pooler.weight"), "base", new_weights=("pooler.weight",)), "warning"),
    ],
)
def test_freezing_rules(rule: Rule, evidence: ModelEvidence, expected: str | None) -> None:
    assert severity(rule, evidence) == expected


def test_lora_freezes_the_encoder_on_purpose() -> None:
    adapter = ParameterRow("d.layer.0.q_lin.lora_A.weight", (2, 4), True, False, added=True)
    frozen = model(BODY)
    lora = ModelEvidence((*frozen.parameters, adapter), 2, declared_freeze="none", declared_frozen=frozenset())
    assert frz.frozen_but_declared_trainable(lora) is None


@pytest.mark.parametrize(
    ("trainable", "frozen", "expected"),
    [
        ((False, False), BODY, "warning"),  # Loaded for inference; the head is trained.
        ((False, True), BODY, None),  # One of two adapters.
        ((False, False), (*BODY, *HEAD), None),  # Nothing is trained: another rule reports that.
    ],
)
def test_adapters_must_be_trainable(trainable: tuple[bool, ...], frozen: tuple[str, ...], expected: str | None) -> None:
    adapters = [
        ParameterRow(f"d.layer.0.q_lin.lora_A.{k}.weight", (2, 4), one, False, added=True)
        for k, one in enumerate(trainable)
    ]
    loaded = ModelEvidence((*model(frozen).parameters, *adapters), 2)
    assert severity(frz.adapters_are_frozen, loaded) == expected
    assert severity(frz.adapters_are_frozen, model(frozen)) is None


def test_frozen_weights_must_not_change() -> None:
    with pytest.raises(CannotTell):
        frz.frozen_weights_changed(StepEvidence(np.arange(3), np.ones(3)))
    at_rest = StepEvidence(np.arange(3), np.ones(3), frozen_moved=())
    assert frz.frozen_weights_changed(at_rest) is None
    moved = StepEvidence(np.arange(3), np.ones(3), frozen_moved=("d.embeddings.weight",))
    assert severity(frz.frozen_weights_changed, moved) == "error"


def test_an_undeclared_freeze_is_not_judged() -> None:
    with pytest.raises(CannotTell):
        frz.frozen_but_declared_trainable(model(BODY, None))


def test_new_tokens_need_trainable_vectors() -> None:
    batches = BatchEvidence((np.zeros(2, int),), 2, input_ids=(np.array([[1, 8, 0], [2, 3, 0]]),))
    assert severity_of_tokens(model(known_tokens=8), batches) == "warning"
    assert severity_of_tokens(model(known_tokens=9), batches) is None  # Rows that only pad the matrix.
    with pytest.raises(CannotTell):
        frz.new_tokens_are_frozen(model(), batches)


def severity_of_tokens(evidence: ModelEvidence, batches: BatchEvidence) -> str | None:
    found = frz.new_tokens_are_frozen(evidence, batches)
    return None if found is None else found.severity or frz.new_tokens_are_frozen.severity


DISTILBERT = ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2")
LINEAR = [f"d.layer.{k}.{name}.{kind}" for k in (0, 1) for name in DISTILBERT for kind in ("weight", "bias")]
OTHERS = ["d.embeddings.weight", *(f"d.layer.{k}.norm.{kind}" for k in (0, 1) for kind in ("weight", "bias"))]


def encoder(trainable: list[str]) -> ModelEvidence:
    shapes = {n: (4, 4) if n.endswith("weight") and "norm" not in n else (4,) for n in [*OTHERS, *LINEAR]}
    rows = [ParameterRow(n, s, n in trainable, in_head=False) for n, s in shapes.items()]
    return ModelEvidence((*rows, *(ParameterRow(n, s, True, True) for n, s in HEAD.items())), 2)


@pytest.mark.parametrize(
    ("trainable", "is_found"),
    [
        (LINEAR, True),  # "lin" in name
        ([], False),
        ([*OTHERS, *LINEAR], False),
        ([n for n in [*OTHERS, *LINEAR] if "embeddings" not in n], False),
        ([n for n in [*OTHERS, *LINEAR] if "layer.1" in n], False),
        ([n for n in [*OTHERS, *LINEAR] if "norm" not in n], False),  # No fragment: the embeddings are trained, too.
        ([n for n in [*OTHERS, *LINEAR] if n.endswith("bias")], False),
        ([n for n in OTHERS if "norm" in n], False),
        ([n for n in LINEAR if "q_lin" in n], False),  # A small part of each layer.
        ([n for n in [*OTHERS, *LINEAR] if n.endswith("weight")], False),  # Biases are frozen, whatever their layer.
    ],
)
def test_a_name_fragment_that_matches_the_encoder(trainable: list[str], is_found: bool) -> None:
    found = frz.trainable_by_fragment(encoder(trainable))
    assert (found is not None) == is_found
    if found is not None:
        assert "'lin'" in found.observed
