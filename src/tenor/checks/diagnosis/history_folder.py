"""A folder with the files of training histories, which may be of several trainings, or several of the same one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.history import history_evidence
from tenor.checks.diagnosis.history_files import CHART, LINES, TABLES, is_history_file, read_history_file
from tenor.checks.diagnosis.result_files import TEXT, read_results_folder
from tenor.checks.diagnosis.wandb_charts import JoinedCharts, joined_charts
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.errors import UserError

MAX_HISTORIES = 50
FEWEST_LOSSES, PRINTED = 3, 1e-3
"""Losses that distinguish a training from others, and what printing with three digits changes in them."""


def history_files(folder: Path) -> list[Path]:
    """The files of a training history in a folder, at most `MAX_HISTORIES`."""
    found = []
    for file in sorted(folder.iterdir()):
        try:
            found += [file] if is_history_file(file) else []
        except UserError:
            continue  # Named among the files that were not read.
    return found[:MAX_HISTORIES]


def read_history_folder(folder: Path) -> list[Artifacts]:
    """The histories of a folder, and the results next to them: those of the run, if it is the only one."""
    histories = history_files(folder)
    charts = joined_charts(histories)
    of_charts = {file for one in charts.values() for file in one.files}
    others = [file for file in histories if file not in of_charts]
    read = [replace(run, name=f"{file.name} {run.name}".strip()) for file in others for run in read_history_file(file)]
    runs = _without_copies([*read, *_runs_of_charts(charts)])
    if not runs:
        return read_history_file(histories[0])  # Says which metrics it contains.
    results = read_results_folder(folder, but_not=histories)
    if len(runs) > 1 or not results:
        return [*runs, *(replace(one, name="results") for one in results)] if len(runs) > 1 else [_unnamed(runs[0])]
    run, (result,) = runs[0], results
    kinds = {type(item) for item in run.evidence}
    further = tuple(item for item in result.evidence if type(item) not in kinds)
    if len(further) < len(result.evidence) and not _is_same_training(result, run):
        if (joined := _with_results(run, result)) is not None:
            files = (*(run.files or tuple(histories)), *result.files)
            return [_unnamed(replace(joined, files=files, notes=(*run.notes, *result.notes)))]
        return [run, replace(result, name="results")]
    is_copy = len(further) < len(result.evidence)
    notes = (*run.notes, *([_copied(result)] if is_copy else []), *result.notes)
    both = replace(run, evidence=(*run.evidence, *further), notes=notes)
    return [_unnamed(replace(both, files=(*(run.files or tuple(histories)), *result.files)))]


def _with_results(run: Artifacts, result: Artifacts) -> Artifacts | None:
    """A run with the splits of results that it has not recorded itself, such as those of the test after the training;
    None if the results are of another training."""
    own = next((one for one in run.evidence if isinstance(one, EvaluationEvidence)), None)
    if own is None or not all(isinstance(one, EvaluationEvidence) for one in result.evidence):
        return None
    [found] = (one for one in result.evidence if isinstance(one, EvaluationEvidence))
    if set(found.splits) & set(own.splits) or not found.splits:
        return None
    broken = {**(own.not_numbers or {}), **(found.not_numbers or {})}
    count = max(own.n_classes, found.n_classes)
    both = replace(own, splits={**own.splits, **found.splits}, not_numbers=broken, n_classes=count)
    return replace(run, evidence=tuple(both if one is own else one for one in run.evidence))


def _runs_of_charts(charts: Mapping[str, JoinedCharts]) -> Iterator[Artifacts]:
    """The run of each name with a known metric."""
    for name, joined in charts.items():
        history = joined.history()
        if evidence := history_evidence(history):
            kind = CHART if len(joined.files) == 1 else "exported charts of Weights & Biases"
            yield Artifacts(kind, evidence, name, notes=history.notes, files=joined.files)


def _without_copies(runs: Iterable[Artifacts]) -> list[Artifacts]:
    """Runs without those that record the losses of another one again, as a printed log does next to a table."""
    kept: list[Artifacts] = []
    for run in runs:
        same = next((at for at, other in enumerate(kept) if _is_same_training(run, other)), None)
        if same is None:
            kept.append(run)
            continue
        one = kept[same]
        kept[same] = replace(one, notes=(*one.notes, _copied(run)), files=(*one.files, *run.files))
    return kept


def _copied(run: Artifacts) -> str:
    # Among the files of results are those that contain none, such as settings in JSON.
    logs = [file.name for file in run.files if file.suffix.lower() in (*TEXT, *TABLES, *LINES)]
    names = ", ".join(logs or [file.name for file in run.files])
    return f"{names} contains the losses of the same training, which are read once"


def _is_same_training(run: Artifacts, other: Artifacts) -> bool:
    """Whether both record the same losses, and `run` no evaluated rows besides."""
    evaluations = [item for item in run.evidence if isinstance(item, EvaluationEvidence)]
    claims = [one for item in evaluations for one in item.splits.values()]
    if any(part is not None for one in claims for part in (one.predicted, one.confusion, one.report)):
        return False
    losses = [
        np.asarray(item.loss, dtype=np.float64).ravel()
        for one in (run, other)
        for item in one.evidence
        if isinstance(item, StepEvidence)
    ]
    is_comparable = len(losses) == 2 and len(losses[0]) == len(losses[1]) >= FEWEST_LOSSES
    return is_comparable and bool(np.allclose(losses[0], losses[1], rtol=PRINTED, atol=PRINTED, equal_nan=True))


def _unnamed(run: Artifacts) -> Artifacts:
    return replace(run, name="")
