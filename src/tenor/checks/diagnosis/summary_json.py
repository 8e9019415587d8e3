"""A summary of experiments: one row per run with status, checkpoint path and metrics, Tenor's own or another's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.evaluation_json import SPLIT_KEYS, not_numbers, splits_of
from tenor.checks.diagnosis.material import Material, evaluation_evidence
from tenor.checks.evidence import CheckpointEvidence
from tenor.checks.rules.ckp import SUCCESS_WORDS

NAME_KEYS = ("name", "run_name", "experiment", "config_name", "run_id", "id")
STATUS_KEYS = ("status", "state")
PATH_KEYS = ("ckpt_path", "checkpoint_path", "best_ckpt_path", "best_checkpoint", "best_model_checkpoint", "checkpoint")
METRIC_KEYS = tuple(key for key in SPLIT_KEYS["validation"] if "_" in key)
LIST_KEYS = ("runs", "experiments", "results")


def runs_of(found: Any) -> dict[str, Mapping[str, Any]]:
    """The runs in a JSON value by name; none where it is no summary."""
    if isinstance(found, Mapping):
        for key in LIST_KEYS:
            if isinstance(found.get(key), list | Mapping) and runs_of(found[key]):
                return runs_of(found[key])
        if _is_run(found):
            return {_name(found, 0): found}
        return {str(name): run for name, run in found.items() if _is_run(run)}
    if isinstance(found, list):
        return {_name(run, number): run for number, run in enumerate(found) if _is_run(run)}
    return {}


def read_summary(found: Any, path: Path) -> list[Material]:
    """One material per run. Raises UserError for a confusion matrix that is none."""
    return [_material(name, run, path) for name, run in runs_of(found).items()]


def _material(name: str, run: Mapping[str, Any], path: Path) -> Material:
    splits = splits_of(run, str(path))
    for key in ("evaluation", "eval", "metrics", "results"):
        nested = run.get(key)
        if not splits and isinstance(nested, Mapping):
            splits = splits_of(nested, f"{path}: {name}, {key}")
    evidence: list[Any] = [_checkpoint(run, path)]
    settings = run.get("config")
    results = {key: value for key, value in run.items() if key != "config"}
    evidence += [evaluation_evidence(splits, not_numbers={name: not_numbers(results)})] if splits else []
    return Material(
        "an experiments summary (JSON)",
        tuple(evidence),
        name,
        settings=settings if isinstance(settings, Mapping) else run,
    )


def _checkpoint(run: Mapping[str, Any], path: Path) -> CheckpointEvidence:
    status = next((str(run[key]) for key in STATUS_KEYS if isinstance(run.get(key), str)), None)
    ended_well = status is not None and status.strip().lower() in SUCCESS_WORDS
    # A run that failed may lack both; only what claims to be complete, or does not say, is held to them.
    judged = ended_well or status is None
    named = next((key for key in PATH_KEYS if key in run), None)
    recorded = run[named] if named else None
    place = recorded if isinstance(recorded, str) and recorded else None
    return CheckpointEvidence(
        path=place,
        path_recorded=named is not None and (judged or place is not None),
        exists=None if place is None else found_at(place, path.parent),
        metrics_recorded=_metrics_recorded(run, judged),
        status=status,
    )


def found_at(place: str, folder: Path) -> bool | None:
    """Whether something lies at a recorded path; None where it seems to be one of another machine."""
    recorded = Path(place)
    try:
        if any(one.exists() for one in (folder / recorded, folder.parent / recorded, recorded)):
            return True
        if recorded.is_absolute():
            return False if recorded.parent.exists() else None
        return False if (folder / recorded.parts[0]).exists() else None
    except (OSError, ValueError):  # too long, or with a null byte: nothing can lie there
        return False


def _metrics_recorded(run: Mapping[str, Any], judged: bool) -> bool | None:
    named = [run[key] for key in METRIC_KEYS if key in run]
    if not named:
        return None
    there = any(isinstance(value, Mapping) and value and set(value) != {"absent"} for value in named)
    return True if there else False if judged else None


def _is_run(found: object) -> bool:
    keys = (*PATH_KEYS, *METRIC_KEYS, *STATUS_KEYS)
    return isinstance(found, Mapping) and sum(key in found for key in keys) >= 2


def _name(run: Mapping[str, Any], position: int) -> str:
    names = [str(run[key]) for key in NAME_KEYS if isinstance(run.get(key), str | int)]
    config = run.get("config")
    if not names and isinstance(config, Mapping) and isinstance(config.get("name"), str):
        names = [config["name"]]
    if "config_name" in run and "run_id" in run:
        return f"{run['config_name']}/{run['run_id']}"
    return names[0] if names else f"run {position + 1}"
