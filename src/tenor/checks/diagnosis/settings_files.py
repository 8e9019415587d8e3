"""Settings of a training in a file next to its record, where the reader of the record knows none: they rank causes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts, read_any_json
from tenor.checks.diagnosis.trainer_folder import STEMS, SUFFIXES
from tenor.checks.evidence import EvaluationEvidence, StepEvidence
from tenor.config.yaml_text import parse_yaml
from tenor.errors import UserError

NAMES = tuple(f"{stem}{suffix}" for stem in (*STEMS, "model_args", "config", "params") for suffix in SUFFIXES)
"""As programs name such files: args.json, hparams.yaml, config.yaml, model_args.json, params.json, …"""
MAX_BYTES = 2**20


def with_settings(run: Artifacts, folder: Path) -> Artifacts:
    """A record of a training with the settings in its folder; others, and those that know their settings, unchanged."""
    is_training = any(
        isinstance(one, StepEvidence) or (isinstance(one, EvaluationEvidence) and one.course) for one in run.evidence
    )
    if run.settings or run.earlier or not is_training:
        return run
    notes = list(run.notes)
    known = " ".join(notes)
    for file in (folder / name for name in NAMES if name not in known):
        try:
            values = _mapping(file)
        except UserError as error:
            notes.append(f"not read: {' '.join(str(error).split())[:200]}")
            continue
        if values:
            notes += [f"settings read from {file.name}"] if file not in run.files else []
            return replace(run, settings=values, files=(*run.files, file), notes=tuple(notes))
    return replace(run, notes=tuple(notes))


def _mapping(file: Path) -> Mapping[str, Any]:
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        return {}
    if file.suffix == ".json":
        value = read_any_json(file)
    else:
        value = parse_yaml(file.read_bytes().decode("utf-8", errors="replace"), str(file)).value
    return value if isinstance(value, Mapping) else {}
