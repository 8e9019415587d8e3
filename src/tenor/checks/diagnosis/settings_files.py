"""Settings of a training in a file next to its record, where the reader of the record knows none: they rank causes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history import classes_by_default, classes_in
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
            n_classes = classes_in(values) or classes_by_default(values)
            evidence = run.evidence if n_classes is None else tuple(_of_classes(one, n_classes) for one in run.evidence)
            return replace(run, settings=values, evidence=evidence, files=(*run.files, file), notes=tuple(notes))
    return replace(run, notes=tuple(notes))


def _of_classes(evidence: Any, n_classes: int) -> Any:
    """Evidence with the number of classes, where it is not known."""
    if isinstance(evidence, StepEvidence) and evidence.n_classes is None:
        return replace(evidence, n_classes=n_classes)
    course = evidence.course if isinstance(evidence, EvaluationEvidence) else None
    if course is None or course.n_classes is not None:
        return evidence
    known = replace(course, n_classes=n_classes)
    return replace(evidence, course=known, n_classes=max(n_classes, evidence.n_classes))


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= MAX_BYTES
