"""Logs, arrays and tables in forms that many programs write: what is in them is read, and a sound one stays silent."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenor.checks import diagnose
from tenor.checks.diagnosis import Diagnosis
from tenor.errors import UserError


# metrics.jsonl of other programs.

FALLING = [{"step": 20 * k, "train_loss": 0.7 * 0.95**k, "lr": 5e-5 * (1 - k / 31)} for k in range(1, 31)]
VALIDATIONS = [(200, 0.5, 0.8), (400, 0.36, 0.86), (600, 0.33, 0.87)]
OVERFIT = [(200, 0.4, 0.83), (400, 0.9, 0.83), (600, 1.6, 0.83)]


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("is_at_end", [True, False])
@pytest.mark.parametrize("first", [{}, {"args": {"lr": 5e-5, "seed": 1}}, {"step": 0, "val_loss": 0.71, "val_acc": 0.5}])
@pytest.mark.parametrize("validations", [VALIDATIONS, OVERFIT])
def test_metrics_jsonl_of_another_program_is_a_history(
    validations: list[tuple[int, float, float]], first: dict[str, Any], is_at_end: bool, tmp_path: Path
) -> None:
    held_out = [{"step": step, "val_loss": loss, "val_acc": accuracy} for step, loss, accuracy in validations]
    records = [*([first] if first else []), *FALLING, *held_out]
    if not is_at_end:
        records.sort(key=lambda record: record.get("step", -1))
    (tmp_path / "metrics.jsonl").write_text(lines(records) + '{"step": 620, "train')
    diagnosis = diagnose(tmp_path)
    assert "JSON Lines" in diagnosis.kind
    assert "600 steps" in diagnosis.conclusion or "step 200" in str(diagnosis.findings)
    assert ("LOS015" in codes(diagnosis)) == (validations is OVERFIT)
    assert diagnose(tmp_path / "metrics.jsonl").findings == diagnosis.findings


def codes(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings}


def problems(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings if finding.severity != "note"}


@pytest.mark.parametrize("broken", ['{"kind": "train"}', "not JSON", '{"step": 1, "kind": 3, "loss": 0.6}'])
def test_a_broken_record_of_tenor_is_refused(broken: str, tmp_path: Path) -> None:
    good = '{"kind": "train", "step": 1, "loss": 0.69}'
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{broken}\n{good}\n")
    with pytest.raises(UserError, match="line 2: is not a record"):
        diagnose(tmp_path)
