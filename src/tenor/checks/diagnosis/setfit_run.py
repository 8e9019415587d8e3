"""The output folder of SetFit: the state of its first phase, which trains the encoder on pairs of texts.

The log is that of `transformers.Trainer` with the loss under another name, so that it is not taken for the loss of a
classifier: a cosine or contrastive loss has no chance level of ln K.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, number, read_any_json
from tenor.checks.diagnosis.history import History, history_evidence, series_of_records
from tenor.checks.evidence.training_evidence import StepEvidence

STATE, LOSS, CONFIG = "trainer_state.json", "embedding_loss", "config_setfit.json"
PLACES = (STATE, f"checkpoint-*/{STATE}", f"checkpoints/checkpoint-*/{STATE}")
MAX_STATES = 100


def setfit_states(path: Path) -> list[Path]:
    """The states of SetFit's trainer in a folder; empty if it is not SetFit's."""
    states = [file for pattern in PLACES for file in sorted(path.glob(pattern))][:MAX_STATES]
    return states if any(LOSS in record for file in states[-1:] for record in _history(read_any_json(file))) else []


def read_setfit_folder(path: Path) -> list[Artifacts]:
    """Evidence from the state with the most steps. Raises UserError for a broken file."""
    states = {file: read_any_json(file) for file in setfit_states(path)}
    file = max(states, key=lambda one: _steps(states[one]))
    state = states[file]
    records = [record for record in _history(state) if number(record.get("step")) is not None]
    series = series_of_records((int(record["step"]), record) for record in records)
    planned = number(state.get("max_steps"))
    evidence: list[Any] = []
    for one in history_evidence(History(series)):
        is_steps = isinstance(one, StepEvidence) and planned
        evidence.append(replace(one, total_steps=int(planned or 0)) if is_steps else one)
    note = f"{LOSS} is that of pairs of texts; SetFit records nothing about its classifier. Give its predictions as CSV"
    return [Artifacts("the output of SetFit", tuple(evidence), files=(file,), notes=(note,))]


def _history(state: Any) -> list[Mapping[str, Any]]:
    history = state.get("log_history") if isinstance(state, Mapping) else None
    return [record for record in history if isinstance(record, Mapping)] if isinstance(history, list) else []


def _steps(state: Any) -> float:
    return (number(state.get("global_step")) if isinstance(state, Mapping) else None) or 0.0
