"""The output folder of `transformers.Trainer`. `training_args.bin` is a pickle, and never opened."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.checks.diagnosis.evaluation_json import claims_of, not_numbers
from tenor.checks.diagnosis.further_results import read_further_results
from tenor.checks.diagnosis.material import (
    FINDINGS,
    Material,
    earlier_reports,
    evaluation_evidence,
    number,
    read_any_json,
)
from tenor.checks.diagnosis.tenor_run import points, step_evidence
from tenor.checks.diagnosis.trainer_arguments import Arguments, read_arguments
from tenor.checks.diagnosis.trainer_selection import chosen_by
from tenor.checks.evidence import CheckpointEvidence
from tenor.errors import UserError

STATE = "trainer_state.json"
RESULTS = ("all_results.json", "eval_results.json")


def is_trainer_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in (STATE, *RESULTS)) or bool(_checkpoints(path))


def read_trainer_folder(path: Path) -> list[Material]:
    """Evidence from the newest state, the results and the configuration. Raises UserError for a broken file."""
    states = [file for file in (path / STATE, *(one / STATE for one in _checkpoints(path))) if file.is_file()]
    state = max((_mapping(file) for file in states), key=_last_step, default={})
    return [_material(state, path)]


def read_trainer_state(state: Mapping[str, Any], path: Path) -> list[Material]:
    """The same from a state alone."""
    return [_material(state, path.parent)]


def _material(state: Mapping[str, Any], folder: Path) -> Material:
    history = state.get("log_history") or []
    if not isinstance(history, list) or not all(isinstance(record, Mapping) for record in history):
        raise UserError(f"{folder / STATE}: log_history is no list of records. Restore the file.")
    history = [record for record in history if number(record.get("step")) is not None]
    config = _mapping(folder / "config.json") if (folder / "config.json").is_file() else {}
    n_classes = _n_classes(config)
    arguments = read_arguments(folder)
    steps = step_evidence([record for record in history if "eval_loss" not in record], n_classes)
    last = _last_evaluation(folder, history)
    claims, further = claims_of(last, ""), read_further_results(folder, (*RESULTS, STATE, FINDINGS))
    splits = {"validation": claims} if claims is not None else {}
    splits |= {name if name not in splits else file: one for file, name, one in further.splits}
    broken = {name: said for name, said in (("the last evaluation", not_numbers(last)), *further.not_numbers) if said}
    evidence: list[Any] = []
    if state:
        evidence.append(_checkpoint(state, history, folder, arguments))
    if steps is not None:
        planned = number(state.get("max_steps"))
        clip = number(arguments.values.get("max_grad_norm"))
        evidence.append(
            replace(
                steps,
                total_steps=None if planned is None else int(planned),
                clip_at=clip,
                validation_loss=points(history, "eval_loss"),
            )
        )
    if splits or broken:
        evidence.append(evaluation_evidence(splits, n_classes, broken))
    earlier = earlier_reports(folder / FINDINGS)
    return Material(
        "the output of transformers.Trainer",
        tuple(evidence),
        earlier=earlier,
        settings=arguments.values,
        notes=(*arguments.unread, *further.notes),
    )


def _checkpoint(state: Mapping[str, Any], history: list[Any], folder: Path, arguments: Arguments) -> CheckpointEvidence:
    best = state.get("best_model_checkpoint")
    best = best if isinstance(best, str) and best else None
    name = best.replace("\\", "/").rstrip("/").rpartition("/")[2] if best else ""
    kept = int(name.rpartition("-")[2]) if name.rpartition("-")[2].isdecimal() else None
    # The best step of the log; where no checkpoint was saved at it, an earlier one is what Trainer loads.
    step = number(state.get("best_global_step"))
    step = kept if step is None else step
    chosen = chosen_by(number(state.get("best_metric")), step, history, arguments.selection)
    return replace(
        chosen,
        chosen_step=None if best is None else kept if kept is not None else None if step is None else int(step),
        path=best,
        path_recorded=best is not None,
        exists=None if best is None else _kept(folder, name, best),
    )


def _kept(folder: Path, name: str, best: str) -> bool | None:
    if any(place.exists() for place in (folder / name, Path(best), folder.parent / name)):
        return True
    # Only the folder that holds other checkpoints can tell that this one is gone.
    return False if _checkpoints(folder) else None


def _last_evaluation(folder: Path, history: list[Any]) -> dict[str, Any]:
    """The last value of each metric, from the results, else from the log; without the prefix `eval_`."""
    found: dict[str, Any] = {}
    for record in [*history, *(_mapping(folder / name) for name in RESULTS if (folder / name).is_file())]:
        found |= {key: value for key, value in record.items() if key.startswith("eval_")}
    return {key.removeprefix("eval_") if key != "eval_samples" else key: value for key, value in found.items()}


def _n_classes(config: Mapping[str, Any]) -> int | None:
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, Mapping) else number(config.get("num_labels"))
    return int(count) if count else None


def _checkpoints(path: Path) -> list[Path]:
    return sorted(one.parent for one in path.glob(f"checkpoint-*/{STATE}"))


def _last_step(state: Mapping[str, Any]) -> float:
    return number(state.get("global_step")) or 0.0


def _mapping(path: Path) -> Mapping[str, Any]:
    found = read_any_json(path)
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: holds no record. Restore it, or move it away.")
    return found
