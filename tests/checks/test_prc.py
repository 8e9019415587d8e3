"""Rules on number types."""

from typing import Any

import numpy as np
import pytest

from tenor.checks.evidence.model_evidence import PrecisionEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.finding import CannotTell
from tenor.checks.rules import prc


@pytest.mark.parametrize(
    ("kind", "device", "hardware", "slowdown", "expected"),
    [
        ("fp32", "cpu", True, None, None),
        ("bf16", "cpu", True, None, None),
        ("bf16", "cpu", False, 120.0, "warning"),
        ("bf16", "cpu", False, None, "warning"),
        ("bf16", "cpu", False, 3.0, "warning"),
        ("bf16", "cpu", False, 1.1, None),
        ("bf16", "cuda", False, None, "warning"),
    ],
)
def test_emulated_types(kind: Any, device: str, hardware: bool, slowdown: float | None, expected: str | None) -> None:
    seen = prc.type_is_emulated(PrecisionEvidence(kind, device, hardware, slowdown=slowdown))
    assert (seen and (seen.severity or prc.type_is_emulated.severity)) == expected


def test_fp16_needs_loss_scaling_and_bf16_does_not() -> None:
    assert prc.fp16_without_scaling(PrecisionEvidence("fp16", "cuda", True)) is not None
    assert prc.fp16_without_scaling(PrecisionEvidence("fp16", "cuda", True, loss_scaling=True)) is None
    assert prc.fp16_without_scaling(PrecisionEvidence("bf16", "cuda", True)) is None


@pytest.mark.parametrize(
    ("skips", "expected"), [([10, 0, 0, 1], None), ([20, 10, 10, 6], "warning"), ([50] * 4, "error")]
)
def test_skipped_steps(skips: list[int], expected: str | None) -> None:
    seen = prc.scaling_skips_steps(
        StepEvidence(np.arange(50, 201, 50), np.ones(4), skipped_steps=np.array(skips)),
    )
    assert (seen and seen.severity) == expected


def test_skipping_is_not_judged_after_few_steps() -> None:
    with pytest.raises(CannotTell):
        prc.scaling_skips_steps(StepEvidence(np.array([5]), np.ones(1), skipped_steps=np.array([5])))


def test_trainable_weights_must_be_float32() -> None:
    assert prc.weights_in_16_bits(PrecisionEvidence("bf16", "cuda", True)) is None
    assert prc.weights_in_16_bits(PrecisionEvidence("bf16", "cuda", True, weights_kind="bf16")) is not None
