"""Diagnosis: choose a reader for the path, gather evidence from the run artifacts, run every rule, rank the causes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tenor.checks.catalogue import RULES, by_code, causes_of, link_causes, run_rules
from tenor.checks.diagnosis.artifacts import ACCEPTED, Artifacts, read_any_json
from tenor.checks.diagnosis.causes import Cause, is_symptom, observations_of, ranked_causes
from tenor.checks.diagnosis.columns import SUFFIXES, sheet_of_records
from tenor.checks.diagnosis.event_files import event_folders, read_event_folders
from tenor.checks.diagnosis.predictions_file import (
    has_prediction_columns,
    predictions_artifacts,
    read_predictions_file,
)
from tenor.checks.diagnosis.results_json import is_evaluation, read_evaluation, read_summary, runs_of
from tenor.checks.diagnosis.tenor_run import is_tenor_run, read_tenor_run
from tenor.checks.diagnosis.trainer_folder import is_trainer_folder, read_trainer_folder, read_trainer_state
from tenor.checks.evidence import EvaluationEvidence
from tenor.checks.finding import Finding
from tenor.checks.rule import Rule
from tenor.errors import UserError
from tenor.runs.findings import FINDINGS, parse_reports
from tenor.runs.summary import FILE_NAME

SHOWN = 8


def read_artifacts(path: Path) -> list[Artifacts]:
    """Every run that can be read from a path. Raises UserError, which lists what is accepted, if there is none."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: does not exist. Give {ACCEPTED}.")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return read_predictions_file(path)
    if "tfevents" in path.name:
        return read_event_folders(path.parent)
    if suffix == ".json":
        return _read_json(path)
    raise UserError(f"{path}: unknown kind of file ({suffix or 'no suffix'}). Give {ACCEPTED}.")


def _read_folder(path: Path) -> list[Artifacts]:
    if is_tenor_run(path):
        return read_tenor_run(path)
    if is_trainer_folder(path):
        return read_trainer_folder(path)
    if (path / FILE_NAME).is_file():
        return _read_json(path / FILE_NAME)
    if (path / FINDINGS).is_file():
        return _read_json(path / FINDINGS)
    if event_folders(path):
        return read_event_folders(path)
    names = sorted(one.name for one in path.iterdir())
    content = f"contains {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}" if names else "is empty"
    raise UserError(f"{path}: the folder {content}, which is not recognized. Give {ACCEPTED}, or one file.")


def _read_json(path: Path) -> list[Artifacts]:
    value = read_any_json(path)
    if isinstance(value, Mapping) and "log_history" in value:
        return read_trainer_state(value, path)
    if isinstance(value, Mapping) and isinstance(value.get("stages"), list):
        return [Artifacts("findings of a run", (), earlier=parse_reports(value, path))]
    if runs_of(value):
        return read_summary(value, path)
    is_records = isinstance(value, list) and bool(value) and all(isinstance(record, Mapping) for record in value)
    if is_records and has_prediction_columns(list(value[0])):
        return predictions_artifacts(sheet_of_records(path, value))
    if is_evaluation(value):
        return read_evaluation(value, path)
    if isinstance(value, Mapping):
        content = f"an object with the keys {', '.join(map(str, list(value)[:SHOWN])) or '(none)'}"
    else:
        content = f"a list of {len(value)} values" if isinstance(value, list) else f"the value {str(value)[:40]}"
    raise UserError(f"{path}: contains {content}, which is not recognized. Give {ACCEPTED}.")


@dataclass(frozen=True)
class NotChecked:
    """A rule whose evidence the available files do not contain."""

    code: str
    title: str
    reason: str
    settled_by: str
    """The evidence that it needs."""


@dataclass(frozen=True)
class Diagnosis:
    """The findings on a run and their causes."""

    path: str
    kind: str
    """What was read, as text."""
    findings: tuple[Finding, ...]
    """All findings: errors first, causes before symptoms."""
    symptoms: tuple[Finding, ...]
    """Findings that another finding explains, and those that report a bad result without naming why."""
    causes: tuple[Cause, ...]
    """In the order in which to look at them."""
    ruled_out: tuple[str, ...]
    """Codes of possible causes of a symptom whose rules were checked and reported nothing."""
    not_checked: tuple[NotChecked, ...]
    notes: tuple[str, ...] = ()
    """How the path was read if there was a choice, and files in it that could not be read."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Errors that were not allowed in the run."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.allowed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def diagnose(path: Path | str, rules: Iterable[Rule] = ()) -> Diagnosis:
    """Read what exists of one or several runs and name the causes; nothing is trained, loaded or unpickled.

    Your own `rules` are checked together with Tenor's and those of installed packages.

    Raises:
        UserError: the path contains nothing that can be read.
    """
    artifacts = read_artifacts(Path(path))
    parts = [diagnose_artifacts(run, str(path), rules) for run in artifacts]
    return parts[0] if len(parts) == 1 else _combined([run.name for run in artifacts], parts)


def diagnose_artifacts(artifacts: Artifacts, path: str, rules: Iterable[Rule] = ()) -> Diagnosis:
    """Every rule on the artifacts of one run, together with the findings of its earlier stages."""
    catalogue = by_code((*RULES, *rules))
    earlier = [finding for report in artifacts.earlier for finding in report.findings]
    allow = {**artifacts.allow, **{finding.code: finding.allowed for finding in earlier if finding.allowed}}
    report = run_rules(artifacts.evidence, "diagnosis", rules=tuple(catalogue.values()), earlier=earlier)
    # The stages of the run had more evidence than the diagnosis has, so their findings are kept unless reported again.
    latest = {finding.code: finding for finding in (*earlier, *report.findings)}
    # Sorted before `allowed` is filled in, so that an allowed error still comes before its symptoms.
    linked = link_causes(latest.values(), rules=catalogue.values())
    findings = tuple(replace(f, allowed=f.allowed or allow.get(f.code, "")) for f in linked)
    checked = {code for stage in (report, *artifacts.earlier) for code in stage.checked}
    skipped = [rule for rule in report.not_applicable if rule.code not in checked]
    causes = ranked_causes(findings, [rule.code for rule in skipped], observations_of(artifacts), catalogue)
    judged = [catalogue[finding.code] for finding in findings if finding.code in catalogue]
    possible = {code for rule in judged for code in causes_of(rule, catalogue.values())}
    return Diagnosis(
        path=path,
        kind=artifacts.kind,
        findings=findings,
        symptoms=tuple(f for f in findings if f.caused_by or is_symptom(f, catalogue)),
        causes=causes,
        ruled_out=tuple(code for code in catalogue if code in possible & checked - latest.keys()),
        not_checked=tuple(_not_checked(catalogue[rule.code], rule.reason) for rule in skipped),
        notes=_notes(artifacts),
    )


def _notes(artifacts: Artifacts) -> tuple[str, ...]:
    """How the run and each of its splits were read; the split is named if there are several."""
    evaluations = [item.splits for item in artifacts.evidence if isinstance(item, EvaluationEvidence)]
    notes = [(name, note) for splits in evaluations for name, claims in splits.items() for note in claims.notes]
    several = any(len(splits) > 1 for splits in evaluations)
    return (*artifacts.notes, *(f"{name}: {note}" if several else note for name, note in notes))


def _not_checked(rule: Rule, reason: str) -> NotChecked:
    return NotChecked(rule.code, rule.title, reason, " and ".join(kind.description for kind in rule.needs))


def _combined(names: list[str], parts: list[Diagnosis]) -> Diagnosis:
    """Several runs in one diagnosis: each finding names its run, equal causes become one."""
    findings = [
        replace(finding, observed=f"{name}: {finding.observed}")
        for name, part in zip(names, parts, strict=True)
        for finding in part.findings
    ]
    weight = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: (bool(finding.caused_by), weight[finding.severity]))
    ruled_out = set.intersection(*(set(part.ruled_out) for part in parts))
    unchecked = set.intersection(*({one.code for one in part.not_checked} for part in parts))
    return Diagnosis(
        path=parts[0].path,
        kind=f"{parts[0].kind}, {len(parts)} runs",
        findings=tuple(findings),
        symptoms=tuple(finding for finding in findings if finding.caused_by or is_symptom(finding)),
        causes=_combined_causes(names, parts),
        ruled_out=tuple(code for code in parts[0].ruled_out if code in ruled_out),
        not_checked=tuple(one for one in parts[0].not_checked if one.code in unchecked),
        notes=tuple(f"{name}: {note}" for name, part in zip(names, parts, strict=True) for note in part.notes),
    )


def _combined_causes(names: list[str], parts: list[Diagnosis]) -> tuple[Cause, ...]:
    """One cause per code and status, confirmed ones first, in the order in which the runs rank them."""
    owners: dict[tuple[str, str], list[tuple[str, Cause, int]]] = {}
    for name, part in zip(names, parts, strict=True):
        for rank, cause in enumerate(part.causes):
            owners.setdefault((cause.status, cause.code), []).append((name, cause, rank))
    groups = sorted(owners.values(), key=lambda group: (group[0][1].status, min(rank for *_, rank in group)))
    return tuple(
        replace(
            group[0][1],
            evidence=f"{_named([name for name, *_ in group], len(parts))}: {group[0][1].evidence}",
            symptoms=tuple(dict.fromkeys(code for _, cause, _ in group for code in cause.symptoms)),
        )
        for group in groups
    )


def _named(names: list[str], total: int) -> str:
    if len(names) == total:
        return f"all {total} runs, for example {names[0]}"
    return f"{len(names)} of {total} runs, for example {names[0]}" if len(names) > 1 else names[0]
