"""Settings of a training in a file next to its record, where the reader of the record knows none: they rank causes."""

from dataclasses import replace
from pathlib import Path

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.result_files import NO_RESULT
from tenor.checks.diagnosis.trainer_arguments import STEMS, SUFFIXES, settings_in
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
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
    known = " ".join(note for note in notes if NO_RESULT not in note)
    for file in (folder / name for name in NAMES if name not in known):
        try:
            values = settings_in(file) if _is_small(file) else {}
        except UserError as error:
            notes.append(f"not read: {' '.join(str(error).split())[:200]}")
            continue
        if values:
            no_result = f"not read: {file.name} {NO_RESULT}"
            notes += [f"settings read from {file.name}"] if file not in run.files or no_result in notes else []
            notes = [note for note in notes if note != no_result]
            return replace(run, settings=values, files=(*run.files, file), notes=tuple(notes))
    return replace(run, notes=tuple(notes))


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= MAX_BYTES
