"""The output folder of `transformers.Trainer`: its state, its checkpoints and which of them was chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tenor.checks.diagnosis.artifacts import (
    Artifacts,
    evaluation_evidence,
    number,
    read_any_json,
)
from tenor.checks.diagnosis.event_files import classes_in_events, event_folders
from tenor.checks.diagnosis.key_value_results import prediction_files, read_parts
from tenor.checks.diagnosis.model_alone import Saved, saved_evidence, with_saved
from tenor.checks.diagnosis.results_json import (
    CONFUSION_KEYS,
    REPORT_KEYS,
    TRAINING_RESULTS,
    claims_of,
    is_evaluation,
    non_finite_metrics,
    read_further_results,
)
from tenor.checks.diagnosis.tenor_run import points, step_evidence
from tenor.checks.diagnosis.trainer_arguments import STEMS, SUFFIXES, Arguments, read_arguments
from tenor.checks.diagnosis.trainer_choice import NOT_METRICS, Records, chosen_by, names_of_metrics
from tenor.checks.diagnosis.trainer_resume import logged_resume
from tenor.checks.diagnosis.trainer_totals import totals_of
from tenor.checks.evidence.checkpoint_evidence import CheckpointEvidence
from tenor.checks.evidence.evaluation_evidence import ReportedSplit, ValidationCourse
from tenor.checks.evidence.model_evidence import PrecisionEvidence
from tenor.checks.evidence.training_evidence import StepEvidence, ValidationPoint
from tenor.errors import UserError
from tenor.runs.findings import FINDINGS, read_findings

MODEL, ADAPTER = "model.safetensors", "adapter_model.safetensors"
LOSSES = ("loss", "eval_loss")
SCORES = ("eval_matthews_correlation", "eval_mcc", "eval_macro_f1", "eval_f1_macro", "eval_f1")
"""Of validations without an accuracy, the first of these."""
STATE = "trainer_state.json"
EVALUATION = "eval_results.json"
RESULTS = ("all_results.json", EVALUATION)
WITHOUT_PREFIX = (*CONFUSION_KEYS, *REPORT_KEYS)
TEST_PREFIXES = ("test_", "predict_")
OTHER_SPLITS = ("train", "test", "predict")
CONFIG, SETFIT = "config.json", "config_setfit.json"
CLASSIFIER = "ForSequenceClassification"
"""The end of the name of a classifier; `transformers` writes its number of classes only if it is not 2, the default."""


def is_trainer_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in (STATE, *RESULTS)) or bool(_checkpoints(path))


def read_trainer_folder(path: Path) -> list[Artifacts]:
    """Evidence from the newest state, the results and the configuration. Raises UserError for a broken file.

    The state in the folder itself says which run it is: a checkpoint that contradicts it is of another one.
    """
    states = {folder.name: _mapping(folder / STATE) for folder in _checkpoints(path)}
    own = _mapping(path / STATE) if (path / STATE).is_file() else None
    reference = max(states.values(), key=_last_step, default={}) if own is None else own
    same = {name: state for name, state in states.items() if not _contradicts(state, reference)}
    state = max((reference, *same.values()), key=_last_step)
    others = tuple(name for name in states if name not in same) if states else None
    artifacts = _artifacts(state, path, others)
    resumed = logged_resume(same.values(), state)
    return [artifacts if resumed is None else replace(artifacts, evidence=(*artifacts.evidence, resumed))]


def _contradicts(state: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states record different losses for the same step."""
    one, two = _losses(state), _losses(other)
    return any(one[at] != two[at] for at in one.keys() & two.keys())


def _losses(state: Mapping[str, Any]) -> dict[tuple[float, str], float]:
    history = state.get("log_history")
    records = [record for record in history if isinstance(record, Mapping)] if isinstance(history, list) else []
    found = ((number(record.get("step")), name, number(record.get(name))) for record in records for name in LOSSES)
    return {(step, name): value for step, name, value in found if step is not None and value is not None}


def read_trainer_state(state: Mapping[str, Any], path: Path) -> list[Artifacts]:
    """Evidence from a state without its folder's newest checkpoint."""
    return [_artifacts(state, path.parent)]


def _artifacts(state: Mapping[str, Any], folder: Path, other_runs: tuple[str, ...] | None = None) -> Artifacts:
    history = state.get("log_history") or []
    if not isinstance(history, list) or not all(isinstance(record, Mapping) for record in history):
        raise UserError(f"{folder / STATE}: log_history is not a list of records. Restore the file.")
    history = [record for record in history if number(record.get("step")) is not None]
    n_classes, config = _classes_of_folder(folder)
    arguments = read_arguments(folder)
    steps = step_evidence([record for record in history if "eval_loss" not in record], n_classes)
    mean_loss = _mean_loss(folder, history)
    if steps is None and mean_loss == 0:  # Logged too rarely for a record, and NaN in every step.
        steps = StepEvidence(np.zeros(0), np.zeros(0), n_classes, mean_loss=mean_loss)
    whole = totals_of(state, folder, mean_loss)
    steps = steps if steps is not None else whole.as_steps(n_classes)
    last = _last_evaluation(folder, history)
    claims = claims_of(last, "")
    by_split = [name for name in RESULTS if claims is None and _is_evaluation(folder / name)]
    further = read_further_results(folder, (*(name for name in RESULTS if name not in by_split), STATE, FINDINGS))
    splits = {"validation": claims} if claims is not None else {}
    splits |= {name if name not in splits else file: result for file, name, result in further.splits}
    if "test" not in splits and (tested := _test_results(folder)) is not None:
        splits["test"] = tested
    predicted = read_parts(prediction_files(folder), n_classes, splits)
    splits |= predicted.splits
    checked = (
        ("the last evaluation", non_finite_metrics(last)),
        ("the log", _not_finite_in(history, last, has_steps=steps is not None)),
        *((name, _training_results_not_finite(folder / name, last)) for name in (*RESULTS, TRAINING_RESULTS)),
        *further.not_numbers,
    )
    broken = {name: metrics for name, metrics in checked if metrics}
    evidence: list[Any] = []
    saved = saved_evidence(*_model_places(folder))
    if state:
        checkpoint = _checkpoint(state, history, folder, arguments)
        evidence.append(with_saved(replace(checkpoint, other_runs=other_runs), saved))
    if saved.names is not None:
        evidence.append(saved.names)
    if trained := _trained_in(saved):
        evidence.append(PrecisionEvidence(trained, "the device of the run", True, weights_kind=trained))
    if steps is not None:
        steps = _with_course(steps, state, history, arguments, bool(splits))
        evidence.append(replace(steps, train_rows=whole.rows, kept_checkpoints=whole.kept))
    if splits or broken:
        evidence.append(
            evaluation_evidence(
                splits, predicted.n_classes, broken, _validations(history, steps, n_classes, claims, mean_loss)
            )
        )
    earlier = read_findings(folder / FINDINGS)
    is_setfit = not state and (any(folder.glob(SETFIT)) or any(folder.glob(f"*/{SETFIT}")))
    return Artifacts(
        "a model of SetFit and its results" if is_setfit else "the output of transformers.Trainer",
        tuple(evidence),
        earlier=earlier,
        settings=arguments.values,
        notes=(*arguments.unread, *further.notes, *predicted.notes),
        train_loss=mean_loss,
        files=(*_files_read(folder, further.files), *predicted.files, *config, *saved.files),
        outcome=_outcome(state),
    )


def _validations(
    history: Records,
    steps: StepEvidence | None,
    n_classes: int | None,
    last: ReportedSplit | None,
    mean_loss: float | None,
) -> ValidationCourse:
    """The logged validations; where only results are recorded, the last one, and the mean loss of the training."""
    if not points(history, "eval_accuracy") and not points(history, "eval_loss") and last is not None:
        accuracy, loss = (() if value is None else (ValidationPoint(0, value),) for value in (last.accuracy, last.loss))
        trained = mean_loss if steps is None or not len(steps.loss) else float(steps.loss[-1])
        return ValidationCourse(accuracy=accuracy, loss=loss, n_classes=n_classes, training_loss=trained)
    score = next((name for name in SCORES if points(history, name)), "")
    return ValidationCourse(
        accuracy=points(history, "eval_accuracy"),
        loss=points(history, "eval_loss"),
        n_classes=n_classes,
        training_loss=None if steps is None or not len(steps.loss) else float(steps.loss[-1]),
        first_training_loss=_before_validations(steps, points(history, "eval_loss")),
        score=() if points(history, "eval_accuracy") else points(history, score),
        score_name=score.removeprefix("eval_"),
    )


def _before_validations(steps: StepEvidence | None, validations: Sequence[ValidationPoint]) -> float | None:
    """The last training loss before the first validation; None without one."""
    if steps is None or not validations:
        return None
    before = np.flatnonzero(steps.steps <= validations[0].step)
    return float(steps.loss[before[-1]]) if len(before) else None


def _with_course(
    steps: StepEvidence, state: Mapping[str, Any], history: Records, arguments: Arguments, evaluated: bool
) -> StepEvidence:
    """The steps together with the validations, the plan and how the training ended."""
    planned, last = number(state.get("max_steps")), number(state.get("global_step"))
    best = arguments.values.get("load_best_model_at_end")
    clip = number(arguments.values.get("max_grad_norm"))
    return replace(
        steps,
        clip_at=clip,
        total_steps=int(planned) if planned and planned > 0 else None,
        validation_loss=points(history, "eval_loss"),
        epochs=number(state.get("epoch")),
        ended=True,
        last_step=max(int(last or 0), int(steps.steps.max(initial=0))),
        stopped_because=_early_stopping(state),
        has_evaluation=evaluated or any(key.startswith("eval_") for record in history for key in record),
        keeps_best=best if isinstance(best, bool) else None,
    )


def _early_stopping(state: Mapping[str, Any]) -> str:
    """The callback that ended the training, as far as the state records it."""
    callbacks = state.get("stateful_callbacks")
    callbacks = callbacks if isinstance(callbacks, Mapping) else {}
    for name, entry in callbacks.items():
        parts = [entry.get(part) for part in ("args", "attributes")] if isinstance(entry, Mapping) else []
        values = {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}
        patience = number(values.get("early_stopping_patience"))
        counter = number(values.get("early_stopping_patience_counter"))
        if patience is not None and counter is not None and counter >= patience:
            return str(name)
        if values.get("should_training_stop") is True:
            return str(name)
    return ""


def _outcome(state: Mapping[str, Any]) -> str:
    last, planned = number(state.get("global_step")), number(state.get("max_steps"))
    if not last or not planned or planned < 0:
        return ""
    if last >= planned:
        return f"all {int(planned):,} planned steps were taken"
    reason = _early_stopping(state)
    if reason:
        return f"training was stopped at step {int(last):,} of {int(planned):,} by {reason}"
    return (
        f"the state is that of step {int(last):,} of {int(planned):,}; if training was interrupted, resume it with "
        "`trainer.train(resume_from_checkpoint=True)`"
    )


def _not_finite_in(history: Records, last: Mapping[str, Any], has_steps: bool) -> tuple[str, ...]:
    """Metrics that were NaN or infinite in an earlier evaluation, each once; with steps, losses are LOS007's."""
    named = {
        message: None
        for record in history
        for message in non_finite_metrics(record)
        if message.startswith("eval_") and not (has_steps and message.startswith("eval_loss "))
    }
    known = set(non_finite_metrics(last))
    return tuple(message for message in named if message.removeprefix("eval_") not in known)


def _training_results_not_finite(file: Path, last: Mapping[str, Any]) -> tuple[str, ...]:
    if not file.is_file():
        return ()
    known = set(non_finite_metrics(last))
    messages = non_finite_metrics(_mapping(file))
    return tuple(message for message in messages if not message.startswith("eval_") and message not in known)


def _mean_loss(folder: Path, history: Records) -> float | None:
    """The mean loss over the whole training, which Trainer writes and logs at its end."""
    files = [folder / name for name in (TRAINING_RESULTS, RESULTS[0]) if (folder / name).is_file()]
    records = (*map(_mapping, files), *reversed(history))
    return next((loss for record in records if (loss := number(record.get("train_loss"))) is not None), None)


def _trained_in(saved: Saved) -> Literal["fp16", "bf16"] | None:
    """The 16-bit type in which a checkpoint stores all its weights: mixed precision stores float32, but DeepSpeed
    gathers its float32 weights into 16 bits."""
    weights = saved.weights
    if weights is None or not weights.file.parent.name.startswith("checkpoint-"):
        return None
    if any(weights.file.parent.glob("global_step*")) or len(weights.kinds) != 1:
        return None
    return {"F16": "fp16", "BF16": "bf16"}.get(*weights.kinds)  # type: ignore[return-value]


def _model_places(folder: Path) -> tuple[Path, ...]:
    """Where the run's newest weights can be: the folder itself, the only model saved in it, then its checkpoints, the
    newest first."""
    models = [one.parent for name in (MODEL, ADAPTER) for one in folder.glob(f"*/{name}")]
    saved = [one for one in models if not one.name.startswith("checkpoint-")]
    return (folder, *(saved if len(saved) == 1 else ()), *sorted(_checkpoints(folder), key=_step_of, reverse=True))


def _step_of(checkpoint: Path) -> int:
    digits = checkpoint.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _files_read(folder: Path, further: tuple[str, ...]) -> tuple[Path, ...]:
    own = (STATE, *RESULTS, TRAINING_RESULTS, CONFIG, FINDINGS)
    arguments = [f"{stem}{suffix}" for stem in STEMS for suffix in SUFFIXES]
    states = [place / STATE for place in _checkpoints(folder)]
    return (*(folder / name for name in (*own, *arguments, *further) if (folder / name).is_file()), *states)


def _classes_of_folder(folder: Path) -> tuple[int | None, tuple[Path, ...]]:
    """The number of classes from the model's configuration, in the folder, its newest checkpoint or its parent; and the
    file that was read."""
    for place in (folder, *reversed(_checkpoints(folder)), *sorted(folder.glob("*/config.json")), folder.parent):
        file = place if place.is_file() else place / CONFIG
        if not file.is_file():
            continue
        try:
            count = _n_classes(_mapping(file))
        except UserError:
            if place == folder:
                raise
            continue
        if count is not None:
            return count, (file,)
    counts = (classes_in_events(place) for place in event_folders(folder))
    return next(filter(None, counts), None), ()


def _checkpoint(state: Mapping[str, Any], history: list[Any], folder: Path, arguments: Arguments) -> CheckpointEvidence:
    best = state.get("best_model_checkpoint")
    best = best if isinstance(best, str) and best else None
    name = best.replace("\\", "/").rstrip("/").rpartition("/")[2] if best else ""
    kept = int(name.rpartition("-")[2]) if name.rpartition("-")[2].isdecimal() else None
    # The best step of the log. If no checkpoint was saved at it, Trainer loads an earlier one.
    step = number(state.get("best_global_step"))
    step = kept if step is None else step
    chosen = chosen_by(number(state.get("best_metric")), step, history, arguments.selection)
    used = arguments.values.get("load_best_model_at_end")
    is_last = step is not None and step == number(state.get("global_step"))
    return replace(
        chosen,
        best_value=None if is_last else _best_value(state),
        best_is_used=used if isinstance(used, bool) else None,
        restored_by=("load_best_model_at_end",) if used is True and best is not None and not is_last else (),
        chosen_step=None if best is None else kept if kept is not None else None if step is None else int(step),
        path=best,
        path_recorded=best is not None,
        other_metrics={
            name: points(history, name)
            for name in names_of_metrics(history)
            if name not in (*NOT_METRICS, chosen.metric)
        },
        exists=None if best is None else _kept(folder, name, best),
    )


def _best_value(state: Mapping[str, Any]) -> float | None:
    """The best value of the metric; infinite where none of the validations gave a number."""
    value = state.get("best_metric")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None


def _kept(folder: Path, name: str, best: str) -> bool | None:
    if any(place.exists() for place in (folder / name, Path(best), folder.parent / name)):
        return True
    # Only a folder with other checkpoints shows that this one was deleted.
    return False if _checkpoints(folder) else None


def _last_evaluation(folder: Path, history: list[Any]) -> dict[str, Any]:
    """The last value of each metric, from the results, else from the log; without the prefix `eval_`.

    Programs that write such results themselves add a report or a matrix, or write all names without the prefix.
    """
    metrics: dict[str, Any] = {}
    for record in history:
        metrics |= {key: value for key, value in record.items() if key.startswith("eval_")}
    for name in RESULTS:
        record = _mapping(folder / name) if (folder / name).is_file() else {}
        is_bare = name == EVALUATION and "train_loss" not in record
        metrics |= {
            key: value
            for key, value in record.items()
            if key.startswith("eval_") or key in WITHOUT_PREFIX or (is_bare and not key.startswith(OTHER_SPLITS))
        }
    return {key.removeprefix("eval_") if key != "eval_samples" else key: value for key, value in metrics.items()}


def _test_results(folder: Path) -> ReportedSplit | None:
    """The metrics of a test among all results, under the prefix that `Trainer.predict` or the program gave them."""
    file = folder / RESULTS[0]
    record = _mapping(file) if file.is_file() else {}
    for prefix in TEST_PREFIXES:
        metrics = {key.removeprefix(prefix): one for key, one in record.items() if key.startswith(prefix)}
        counts = {key: one for key, one in record.items() if key == f"{prefix}samples"}
        if (claims := claims_of({**metrics, **counts}, f"{file}: {prefix}")) is not None:
            return claims
    return None


def _is_evaluation(file: Path) -> bool:
    return file.is_file() and is_evaluation(_mapping(file))


def _n_classes(config: Mapping[str, Any]) -> int | None:
    labels, architectures = config.get("id2label"), config.get("architectures")
    if "id2label" not in config and isinstance(architectures, list) and str(architectures).count(CLASSIFIER) == 1:
        return int(number(config.get("num_labels", config.get("_num_labels"))) or 2)
    count = len(labels) if isinstance(labels, Mapping) else number(config.get("num_labels", config.get("_num_labels")))
    return int(count) if count and count > 1 else None


def _checkpoints(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob(f"checkpoint-*/{STATE}"))


def _last_step(state: Mapping[str, Any]) -> float:
    return number(state.get("global_step")) or 0.0


def _mapping(path: Path) -> Mapping[str, Any]:
    value = read_any_json(path)
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: contains no JSON object. Restore it, or move it away.")
    return value
