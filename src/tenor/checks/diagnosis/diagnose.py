"""Diagnosis: choose the reader, gather evidence from a run's artifacts, run every rule, rank the causes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tenor.checks.catalogue import RULES, by_code, causes_of, fold, run_rules
from tenor.checks.diagnosis.artifacts import ACCEPTED, FINDINGS, Artifacts, parse_reports, read_any_json
from tenor.checks.diagnosis.causes import Cause, facts_of, is_symptom, ranked_causes
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
from tenor.runs.summary import FILE_NAME

SHOWN = 8


def read_artifacts(path: Path) -> list[Artifacts]:
    """Every run that can be read from a path. Raises UserError, with what is accepted, where there is none."""
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
    raise UserError(f"{path}: is a kind of file that is not known ({suffix or 'no suffix'}). Give {ACCEPTED}.")


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
    held = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "") if names else "nothing"
    raise UserError(f"{path}: is a folder that is not understood; it holds {held}. Give {ACCEPTED}, or one file.")


def _read_json(path: Path) -> list[Artifacts]:
    found = read_any_json(path)
    if isinstance(found, Mapping) and "log_history" in found:
        return read_trainer_state(found, path)
    if isinstance(found, Mapping) and isinstance(found.get("stages"), list):
        return [Artifacts("findings of a run", (), earlier=parse_reports(found, path))]
    if runs_of(found):
        return read_summary(found, path)
    is_records = isinstance(found, list) and bool(found) and all(isinstance(one, Mapping) for one in found)
    if is_records and has_prediction_columns(list(found[0])):
        return predictions_artifacts(sheet_of_records(path, found))
    if is_evaluation(found):
        return read_evaluation(found, path)
    if isinstance(found, Mapping):
        what = f"an object with the keys {', '.join(map(str, list(found)[:SHOWN])) or '(none)'}"
    else:
        what = f"a list of {len(found)} values" if isinstance(found, list) else f"the value {str(found)[:40]}"
    raise UserError(f"{path}: holds {what}, which is not understood. Give {ACCEPTED}.")


@dataclass(frozen=True)
class NotChecked:
    """A rule that what is left does not allow to run."""

    code: str
    title: str
    reason: str
    settled_by: str
    """What it would take."""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a run, and why."""

    path: str
    kind: str
    """What the path holds, in words."""
    findings: tuple[Finding, ...]
    """All of them: errors first, causes before symptoms."""
    symptoms: tuple[Finding, ...]
    """Those that another one explains, or must explain."""
    causes: tuple[Cause, ...]
    """The first one first."""
    ruled_out: tuple[str, ...]
    """Codes of possible causes of a symptom whose rules ran and found nothing."""
    not_checked: tuple[NotChecked, ...]
    notes: tuple[str, ...] = ()
    """How the path was read where that was a choice, and files in it that could not be read."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Errors that were not allowed in the run."""
        return tuple(f for f in self.findings if f.severity == "error" and not f.allowed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def diagnose(path: Path | str, rules: Iterable[Rule] = ()) -> Diagnosis:
    """Read whatever is left of a run, or of several, and name the causes; nothing is trained, loaded or unpickled.

    `rules` of your own are checked with Tenor's and those of installed packages.

    Raises UserError for a path that holds nothing that is understood.
    """
    artifacts = read_artifacts(Path(path))
    parts = [diagnose_artifacts(one, str(path), rules) for one in artifacts]
    return parts[0] if len(parts) == 1 else _together([m.name for m in artifacts], parts)


def diagnose_artifacts(artifacts: Artifacts, path: str, rules: Iterable[Rule] = ()) -> Diagnosis:
    """Every rule on what is left of one run, beside what was found while it ran."""
    catalogue = by_code((*RULES, *rules))
    earlier = [finding for report in artifacts.earlier for finding in report.findings]
    allow = {**artifacts.allow, **{finding.code: finding.allowed for finding in earlier if finding.allowed}}
    report = run_rules(artifacts.evidence, "diagnosis", rules=tuple(catalogue.values()), earlier=earlier)
    # What was found during the run rests on more than what is left, so it is kept unless it is found again.
    latest = {finding.code: finding for finding in (*earlier, *report.findings)}
    # Sorted before it is said what was allowed, so that an accepted error still leads its symptoms.
    folded = fold(latest.values(), rules=catalogue.values())
    findings = tuple(replace(f, allowed=f.allowed or allow.get(f.code, "")) for f in folded)
    ran = {code for one in (report, *artifacts.earlier) for code in one.checked}
    skipped = [one for one in report.not_applicable if one.code not in ran]
    causes = ranked_causes(findings, [one.code for one in skipped], facts_of(artifacts), catalogue)
    judged = [catalogue[finding.code] for finding in findings if finding.code in catalogue]
    possible = {code for rule in judged for code in causes_of(rule, catalogue.values())}
    return Diagnosis(
        path=path,
        kind=artifacts.kind,
        findings=findings,
        symptoms=tuple(f for f in findings if f.caused_by or is_symptom(f, catalogue)),
        causes=causes,
        ruled_out=tuple(code for code in catalogue if code in possible & ran - latest.keys()),
        not_checked=tuple(_not_checked(catalogue[one.code], one.reason) for one in skipped),
        notes=_notes(artifacts),
    )


def _notes(artifacts: Artifacts) -> tuple[str, ...]:
    """How the run was read, and each of its splits; their names stand where there are several."""
    splits = [one.splits for one in artifacts.evidence if isinstance(one, EvaluationEvidence)]
    said = [(name, note) for one in splits for name, claims in one.items() for note in claims.notes]
    several = any(len(one) > 1 for one in splits)
    return (*artifacts.notes, *(f"{name}: {note}" if several else note for name, note in said))


def _not_checked(rule: Rule, reason: str) -> NotChecked:
    return NotChecked(rule.code, rule.title, reason, " and ".join(kind.description for kind in rule.needs))


def _together(names: list[str], parts: list[Diagnosis]) -> Diagnosis:
    """Several runs in one diagnosis: findings say whose they are, equal causes become one."""
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
        causes=_causes_together(names, parts),
        ruled_out=tuple(code for code in parts[0].ruled_out if code in ruled_out),
        not_checked=tuple(one for one in parts[0].not_checked if one.code in unchecked),
        notes=tuple(f"{name}: {note}" for name, part in zip(names, parts, strict=True) for note in part.notes),
    )


def _causes_together(names: list[str], parts: list[Diagnosis]) -> tuple[Cause, ...]:
    """One cause per code and standing, in the order in which the runs rank them, shown ones first."""
    owners: dict[tuple[str, str], list[tuple[str, Cause, int]]] = {}
    for name, part in zip(names, parts, strict=True):
        for rank, cause in enumerate(part.causes):
            owners.setdefault((cause.standing, cause.code), []).append((name, cause, rank))
    groups = sorted(owners.values(), key=lambda group: (group[0][1].standing, min(rank for *_, rank in group)))
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
        return f"all {total} runs, such as {names[0]}"
    return f"{len(names)} of {total} runs, such as {names[0]}" if len(names) > 1 else names[0]
