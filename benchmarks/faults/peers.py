"""What others find in the same programs: torch-audit, trainproof, and a look at the loss alone.

A peer has found a fault if it says something of it that it does not say of the healthy program: any rule, at any
level above information. It need not name the cause.
"""

import contextlib
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faults.program import Program, build, train

PEERS = ("torch-audit", "trainproof", "loss alone")


@dataclass
class Log:
    """A loop's records, and nothing that looks into the model."""

    records: list[dict[str, float]] = field(default_factory=list)

    def step(self, loss: float, *, grad_norm: float | None = None) -> None:
        record = {"step": float(len(self.records) + 1), "loss": loss}
        self.records.append(record if grad_norm is None else {**record, "grad_norm": grad_norm})


def said_by_peers(program: Program) -> dict[str, set[str]]:
    """Rules that each peer reports; a program that stops by itself is found by all."""
    from torch_audit import Severity, autopatch
    from trainproof.epoch import check_records
    from trainproof.preflight import check_preflight

    log, said = Log(), {peer: set() for peer in PEERS}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            objects = build(program)
            rows = [{"text": text} for text in program.train.texts]
            before = check_preflight(rows, tokenizer=objects.tokenizer, max_len=48, text_field="text")
            said["trainproof"] |= _loud(before)
            auditor = autopatch(objects.model, optimizer=objects.optimizer, every_n_steps=1, reporters=[])
            train(program, objects, log)
            said["torch-audit"] |= {
                one.rule_id for one in auditor.finish(report=False).findings if one.severity is not Severity.INFO
            }
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError):
            return {peer: {"the program stops"} for peer in PEERS}
    said["trainproof"] |= _loud(check_records(log.records))
    said["loss alone"] |= {"the loss"} if loss_looks_wrong([one["loss"] for one in log.records]) else set()
    return said


def loss_looks_wrong(losses: list[float]) -> bool:
    """Not a number, or in the last quarter no lower than nine tenths of the first quarter: what one sees in a curve."""
    quarter = max(1, len(losses) // 4)
    first, last = np.mean(losses[:quarter]), np.mean(losses[-quarter:])
    return not np.isfinite(losses).all() or bool(last > 0.9 * first)


def _loud(report: dict[str, Any]) -> set[str]:
    return {one["id"] for one in report["findings"] if one["level"] in ("WARN", "FAIL")}
