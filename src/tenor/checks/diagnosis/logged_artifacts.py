"""Results that a run logged to MLflow or Weights & Biases as files: a matrix, a report or predictions."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from tenor.checks.diagnosis.artifacts import NO_SPLIT, Artifacts, evaluation_evidence, read_any_json
from tenor.checks.diagnosis.history import split_of
from tenor.checks.diagnosis.result_files import TEXT, read_json_results, read_printed_results, read_table
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence, ReportedSplit
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.data.files.delimited import DELIMITERS
from tenor.errors import UserError

MODEL = "MLmodel"
"""In the folder of a saved model, whose other files are parts of it."""
MAX_FILES, MAX_BYTES = 50, 2**26
SAME_ACCURACY = 1e-3
NUMBERS = re.compile(r"_[0-9a-f]{20}(?=\.table\.json$)|\d+")
"""What differs between files of one result: the step, and the digest in names of Weights & Biases."""


@dataclass
class ArtifactResults:
    """The results in the files of a run."""

    splits: list[tuple[str, Path, ReportedSplit]] = field(default_factory=list)
    not_numbers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def artifact_results(folder: Path) -> ArtifactResults:
    """The results in a run's folder of artifacts, of files that are numbered only the last one. Those of the training
    rows and files of any other kind are left to the list of unread files."""
    results = ArtifactResults()
    for *earlier, file in islice(_by_name(folder), MAX_FILES):
        try:
            runs = _read(file)
        except UserError:
            continue  # Named among the files that were not read.
        found = [one for run in runs for one in run.evidence if isinstance(one, EvaluationEvidence) and one.splits]
        for evaluation in found:
            for name, claims in evaluation.splits.items():
                place = split_of(file.relative_to(folder).as_posix())
                results.splits.append((place or name if name in NO_SPLIT else name, file, claims))
            results.not_numbers |= evaluation.not_numbers or {}
        if found:
            results.files += (*earlier, file)
            results.notes += [note for run in runs for note in run.notes]
            if earlier:
                results.notes.append(f"of {len(earlier) + 1} files such as {file.name}, the last one was read")
    return results


def with_artifacts(run: Artifacts, results: ArtifactResults) -> Artifacts:
    """A run together with these results: details of an evaluation in its metrics if the accuracy is the same."""
    if not results.splits:
        return run
    own = next((one for one in run.evidence if isinstance(one, EvaluationEvidence)), None)
    splits = dict(own.splits) if own is not None else {}
    for name, file, claims in results.splits:
        recorded = splits.get(name)
        if recorded is None or _are_same(recorded, claims):
            splits[name] = claims if recorded is None else _with_scores(claims, recorded)
        else:
            splits[f"{name} ({file.name})"] = claims
    broken = {**((own.not_numbers or {}) if own is not None else {}), **results.not_numbers}
    course = own.course if own is not None else None
    known = None if course is None else course.n_classes
    others = [
        replace(one, has_evaluation=True) if isinstance(one, StepEvidence) else one
        for one in run.evidence
        if one is not own
    ]
    evidence = (*others, evaluation_evidence(splits, known, broken, course))
    return replace(run, evidence=evidence, files=(*run.files, *results.files), notes=(*run.notes, *results.notes))


def _read(file: Path) -> list[Artifacts]:
    suffix = file.suffix.lower()
    if suffix == ".json":
        return read_json_results(read_any_json(file), file) or []
    return read_table(file) if suffix in DELIMITERS else read_printed_results(file)


def _by_name(folder: Path) -> Iterator[list[Path]]:
    """The files that may contain results; those whose names differ only by their numbers together, in their order."""
    models = {file.parent for file in folder.rglob(MODEL)}
    named: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*"), key=_numbers):
        is_result = file.suffix.lower() in (".json", *DELIMITERS, *TEXT) and split_of(file.stem) != "train"
        if is_result and file.is_file() and file.stat().st_size <= MAX_BYTES and not models & set(file.parents):
            named.setdefault(NUMBERS.sub("#", file.relative_to(folder).as_posix()), []).append(file)
    return iter(sorted(named.values(), key=lambda files: files[-1]))


def _numbers(file: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d{1,9}", file.name)], file.as_posix()


def _are_same(recorded: ReportedSplit, claims: ReportedSplit) -> bool:
    """Whether metrics without counts have the accuracy of these results."""
    if any(part is not None for part in (recorded.confusion, recorded.report, recorded.predicted)):
        return False
    share = claims.accuracy
    if share is None and claims.confusion is not None:
        share = float(claims.confusion.trace() / max(claims.confusion.sum(), 1))
    return share is None or recorded.accuracy is None or abs(share - recorded.accuracy) <= SAME_ACCURACY


def _with_scores(claims: ReportedSplit, recorded: ReportedSplit) -> ReportedSplit:
    """Results with the loss and the scores that only the metrics record."""
    names = ("loss", "mcc", *(("macro_f1", "macro_name") if claims.macro_f1 is None else ()))
    more: Mapping[str, object] = {name: getattr(recorded, name) for name in names}
    missing = {name: one for name, one in more.items() if name == "macro_name" or getattr(claims, name) is None}
    return replace(claims, **missing)  # type: ignore[arg-type]
