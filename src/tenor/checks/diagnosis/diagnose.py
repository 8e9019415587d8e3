"""Diagnosis: choose a reader for the path, gather evidence from the run artifacts, run every rule, rank the causes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tenor.checks.catalogue import RULES, by_code, causes_of, link_causes, run_rules
from tenor.checks.diagnosis.allennlp_run import allennlp_epochs, read_allennlp_folder
from tenor.checks.diagnosis.artifacts import ACCEPTED, Artifacts, read_any_json
from tenor.checks.diagnosis.catboost_run import (
    is_catboost_file,
    is_catboost_folder,
    read_catboost_file,
    read_catboost_folder,
)
from tenor.checks.diagnosis.causes import Cause, is_symptom, ranked_causes, ruled_out_by_rate
from tenor.checks.diagnosis.columns import SUFFIXES, sheet_of_records
from tenor.checks.diagnosis.conclusion import conclusion_of, conclusion_of_runs, limits_of, limits_of_runs
from tenor.checks.diagnosis.dvclive_run import dvclive_tables, read_dvclive_folder
from tenor.checks.diagnosis.event_files import event_folders, read_event_folders
from tenor.checks.diagnosis.flair_run import is_flair_folder, is_flair_log, read_flair_folder, read_flair_log
from tenor.checks.diagnosis.history_files import is_history_file, is_history_value, read_history_file
from tenor.checks.diagnosis.history_folder import MAX_HISTORIES, history_files, read_history_folder
from tenor.checks.diagnosis.key_value_results import (
    is_predictions_text,
    is_results_text,
    prediction_files,
    read_predictions_text,
    read_results_files,
    read_results_text,
    results_files,
)
from tenor.checks.diagnosis.lightning_runs import lightning_versions, read_lightning_versions
from tenor.checks.diagnosis.ludwig_run import is_ludwig_value, ludwig_runs, read_ludwig_file, read_ludwig_runs
from tenor.checks.diagnosis.mlflow_runs import is_mlflow_database, mlflow_places, read_mlflow
from tenor.checks.diagnosis.model_alone import read_faulty_model, refuse_model_file, refuse_model_folder
from tenor.checks.diagnosis.numpy_arrays import SUFFIXES as ARRAYS
from tenor.checks.diagnosis.numpy_arrays import array_files, read_array_file, read_array_folder
from tenor.checks.diagnosis.observations import configured_rate, observations_of
from tenor.checks.diagnosis.pipeline_output import has_pipeline_output
from tenor.checks.diagnosis.predictions_file import (
    has_prediction_columns,
    predictions_artifacts,
    read_predictions_file,
)
from tenor.checks.diagnosis.result_files import (
    TEXT,
    read_json_results,
    read_printed_results,
    read_results_folder,
    read_table,
)
from tenor.checks.diagnosis.results_card import MARKDOWN, has_validations, read_card, read_card_of_folder
from tenor.checks.diagnosis.results_json import TRAINING_RESULTS, read_summary, runs_of
from tenor.checks.diagnosis.run_folders import read_runs, run_folders_in
from tenor.checks.diagnosis.sacred_run import is_sacred_folder, read_sacred_folder
from tenor.checks.diagnosis.search_results import refuse_database
from tenor.checks.diagnosis.sentence_transformers_run import evaluator_tables, read_evaluator_tables
from tenor.checks.diagnosis.setfit_run import read_setfit_folder, setfit_states
from tenor.checks.diagnosis.settings_files import with_settings
from tenor.checks.diagnosis.simpletransformers_run import (
    is_simpletransformers_folder,
    read_simpletransformers_folder,
)
from tenor.checks.diagnosis.spacy_run import (
    is_spacy_folder,
    is_spacy_log,
    is_spacy_meta,
    read_spacy_file,
    read_spacy_folder,
)
from tenor.checks.diagnosis.tenor_run import is_tenor_run, read_tenor_run
from tenor.checks.diagnosis.trainer_folder import is_trainer_folder, read_trainer_folder, read_trainer_state
from tenor.checks.diagnosis.unread_files import unread_notes
from tenor.checks.diagnosis.wandb_runs import (
    RECORD,
    is_runs_table,
    is_wandb_summary,
    read_runs_table,
    read_wandb_folders,
    read_wandb_record,
    read_wandb_summary,
    wandb_folders,
)
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.evidence.training_evidence import StepEvidence
from tenor.checks.rule import Rule
from tenor.errors import UserError
from tenor.runs.findings import FINDINGS, Finding, NotApplicable, parse_reports
from tenor.runs.summary import FILE_NAME

SHOWN = 8
PIPELINE = {"label", "score"}
"""Keys of a row of transformers' `pipeline`; the reader of predictions says how to name them."""


def read_artifacts(path: Path) -> list[Artifacts]:
    """Every run that can be read from a path. Raises UserError, which lists what is accepted, if there is none."""
    runs = _read(path)
    runs = runs if len(runs) > 1 else [with_settings(runs[0], path if path.is_dir() else path.parent)]
    return [_with_rate(run) for run in runs]


def _with_rate(run: Artifacts) -> Artifacts:
    """A run whose steps know the learning rate of its settings."""
    rate = configured_rate(run.settings)
    steps = (replace(one, configured_rate=rate) if isinstance(one, StepEvidence) else one for one in run.evidence)
    return run if rate is None else replace(run, evidence=tuple(steps))


def _read(path: Path) -> list[Artifacts]:
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: does not exist. Give {ACCEPTED}.")
    suffix = path.suffix.lower()
    for recognized, read in FILE_READERS:
        if recognized(path):
            return read(path)
    if suffix in SUFFIXES:
        return read_table(path)
    if suffix == ".json":
        return _read_json(path)
    if suffix in TEXT:
        return read_printed_results(path)
    if suffix == MARKDOWN:
        return read_card(path)
    refuse_model_file(path)
    refuse_database(path)
    raise UserError(f"{path}: unknown kind of file ({suffix or 'no suffix'}). Give {ACCEPTED}.")


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


FILE_READERS: tuple[tuple[Callable[[Path], Any], Callable[[Path], list[Artifacts]]], ...] = (
    (lambda path: "tfevents" in path.name, lambda path: read_event_folders(path.parent)),
    (lambda path: path.match(RECORD), read_wandb_record),
    (is_runs_table, read_runs_table),
    (lambda path: path.suffix.lower() in ARRAYS, read_array_file),
    (is_mlflow_database, read_mlflow),
    (is_results_text, read_results_text),
    (is_predictions_text, read_predictions_text),
    (is_spacy_log, read_spacy_file),
    (is_flair_log, read_flair_log),
    (is_catboost_file, read_catboost_file),
    (lambda path: not _is_json(path) and is_history_file(path), read_history_file),
)
"""What recognizes a file, and what reads it; a JSON file is opened once, by `_read_json`."""
FOLDER_READERS: tuple[tuple[Callable[[Path], Any], Callable[[Path], list[Artifacts]]], ...] = (
    (is_tenor_run, read_tenor_run),
    (is_simpletransformers_folder, read_simpletransformers_folder),
    (setfit_states, read_setfit_folder),
    (lambda path: is_trainer_folder(path) or (path / TRAINING_RESULTS).is_file(), lambda path: _read_trainer(path)),
    (lambda path: (path / FILE_NAME).is_file(), lambda path: _read_one_of_folder(path / FILE_NAME)),
    (lambda path: (path / FINDINGS).is_file(), lambda path: _read_one_of_folder(path / FINDINGS)),
    (wandb_folders, read_wandb_folders),
    (mlflow_places, read_mlflow),
    (lightning_versions, read_lightning_versions),
    (allennlp_epochs, read_allennlp_folder),
    (is_flair_folder, read_flair_folder),
    (is_spacy_folder, read_spacy_folder),
    (is_sacred_folder, read_sacred_folder),
    (is_catboost_folder, read_catboost_folder),
    (dvclive_tables, read_dvclive_folder),
    (event_folders, read_event_folders),
    (evaluator_tables, read_evaluator_tables),
    (ludwig_runs, read_ludwig_runs),
    (lambda path: results_files(path) or prediction_files(path), read_results_files),
    (history_files, read_history_folder),
    (lambda path: runs_tables(path), lambda path: [run for file in runs_tables(path) for run in read_runs_table(file)]),
)
"""What recognizes a folder, and what reads it: the first one that does. Programs are recognized before their parts."""


def runs_tables(path: Path) -> list[Path]:
    """The tables of runs in a folder."""
    return [file for file in sorted(path.iterdir()) if is_runs_table(file)]


def _read_folder(path: Path) -> list[Artifacts]:
    for recognized, read in FOLDER_READERS:
        if recognized(path):
            return read(path)
    try:
        results = read_results_folder(path)
    except UserError:
        refuse_model_folder(path)  # Texts next to a model are no results: the model is what the folder is about.
        raise
    if results:
        return results
    if array_files(path):
        return read_array_folder(path)
    if folders := run_folders_in(path, _is_run_folder):
        return read_runs(path, folders, _read_folder)
    if faulty := read_faulty_model(path):
        return faulty
    if has_validations(path):
        return read_card_of_folder(path)
    refuse_model_folder(path)
    for file in sorted(path.iterdir()):
        refuse_database(file)
    names = sorted(one.name for one in path.iterdir())
    shown = f"{', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
    content = f"contains {shown}, which is not recognized" if names else "is empty"
    raise UserError(f"{path}: the folder {content}. Give {ACCEPTED}, or one file.")


def _read_trainer(path: Path) -> list[Artifacts]:
    """The runs of a Trainer's output folder; with the tables of predictions in it if it is that of one run."""
    runs = read_trainer_folder(path)
    tables = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES] if len(runs) == 1 else []
    for file in tables[:MAX_HISTORIES]:
        try:
            (results,) = read_predictions_file(file)
        except UserError:
            continue  # Named among the files that were not read.
        runs = [_with_splits(runs[0], results, file)]
    return runs


def _with_splits(run: Artifacts, results: Artifacts, file: Path) -> Artifacts:
    """A run whose evaluation has further splits, where their names are new."""
    own = next((one for one in run.evidence if isinstance(one, EvaluationEvidence)), None)
    others = [one for one in run.evidence if one is not own]
    (found,) = (one for one in results.evidence if isinstance(one, EvaluationEvidence))
    if own is not None:
        splits = {**found.splits, **own.splits}
        found = replace(own, splits=splits, n_classes=max(own.n_classes, found.n_classes))
    evaluated = [replace(one, has_evaluation=True) if isinstance(one, StepEvidence) else one for one in others]
    notes = (*run.notes, *results.notes)
    return replace(run, evidence=(*evaluated, found), notes=notes, files=(*run.files, file))


def _is_run_folder(path: Path) -> bool:
    return any(recognized(path) for recognized, _ in FOLDER_READERS)


def _read_one_of_folder(file: Path) -> list[Artifacts]:
    return [replace(run, files=(file,)) for run in _read_json(file)]


def _read_json(path: Path) -> list[Artifacts]:
    value = read_any_json(path)
    if isinstance(value, Mapping) and "log_history" in value:
        return read_trainer_state(value, path)
    if isinstance(value, Mapping) and path.name == TRAINING_RESULTS and "train_loss" in value:
        return read_trainer_folder(path.parent)
    if is_wandb_summary(value):
        return read_wandb_summary(value, path)
    if isinstance(value, Mapping) and isinstance(value.get("stages"), list):
        return [Artifacts("findings of a run", (), earlier=parse_reports(value, path))]
    if is_spacy_meta(value):
        return read_spacy_file(path)
    if is_ludwig_value(value) and path.name == "training_statistics.json":
        return read_ludwig_file(path)
    if is_history_value(value):
        return read_history_file(path)
    if runs_of(value):
        return read_summary(value, path)
    is_records = isinstance(value, list) and bool(value) and all(isinstance(record, Mapping) for record in value)
    if is_records and (
        has_prediction_columns(list(value[0])) or set(value[0]) == PIPELINE or has_pipeline_output(value[0])
    ):
        return predictions_artifacts(sheet_of_records(path, value))
    if results := read_json_results(value, path):
        return results
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
    checked: tuple[str, ...] = ()
    """Codes of the rules that were checked, here or at an earlier stage of the run."""
    limits: str = ""
    """How little could be judged, and what to pass to check more; empty if enough was checked."""
    conclusion: str = ""
    """What was checked, what was found and what follows, in a sentence."""

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
    diagnosis = diagnose_runs(artifacts, str(path), rules)
    return replace(diagnosis, notes=(*diagnosis.notes, *_unread(Path(path), artifacts)))


def diagnose_runs(artifacts: Sequence[Artifacts], path: str, rules: Iterable[Rule] = ()) -> Diagnosis:
    """One diagnosis of several runs; `path` is what they were read from."""
    parts = [diagnose_artifacts(run, path, rules) for run in artifacts]
    return parts[0] if len(parts) == 1 else _combined([run.name for run in artifacts], parts)


def _unread(path: Path, artifacts: list[Artifacts]) -> tuple[str, ...]:
    """The files of a folder that were not read."""
    return unread_notes(path, (file for run in artifacts for file in run.files)) if path.is_dir() else ()


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
    observations = observations_of(artifacts)
    causes = ranked_causes(findings, [rule.code for rule in skipped], observations, catalogue)
    causes = _with_what_is_missing(causes, skipped, artifacts, catalogue)
    judged = [catalogue[finding.code] for finding in findings if finding.code in catalogue]
    possible = {code for rule in judged for code in causes_of(rule, catalogue.values())}
    ordered = tuple(code for code in catalogue if code in checked)
    refuted = checked | ruled_out_by_rate(observations)
    return Diagnosis(
        path=path,
        kind=artifacts.kind,
        findings=findings,
        symptoms=_by_severity(f for f in findings if f.caused_by or is_symptom(f, catalogue)),
        causes=causes,
        ruled_out=tuple(code for code in catalogue if code in possible & refuted - latest.keys()),
        not_checked=tuple(_not_checked(catalogue[rule.code], rule.reason) for rule in skipped),
        notes=_notes(artifacts),
        checked=ordered,
        limits=limits_of(artifacts, ordered, {rule.code: rule.reason for rule in skipped}),
        conclusion=conclusion_of(artifacts, ordered, findings, _first(causes)),
    )


def _by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, also where a warning has no known cause; those that were allowed in the run last."""
    weight = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(findings, key=lambda finding: (bool(finding.allowed), weight[finding.severity])))


def _with_what_is_missing(
    causes: tuple[Cause, ...], skipped: Iterable[NotApplicable], artifacts: Artifacts, catalogue: Mapping[str, Rule]
) -> tuple[Cause, ...]:
    """Suspects whose kind of evidence was given, but without what they need: it is named."""
    given = {type(item) for item in artifacts.evidence}
    missing = {
        rule.code: _missing(" and ".join(kind.description for kind in catalogue[rule.code].needs), rule.reason)
        for rule in skipped
        if not catalogue[rule.code].settled_by and set(catalogue[rule.code].needs) <= given
    }
    return tuple(replace(one, settled_by=missing.get(one.code, one.settled_by)) for one in causes)


def _missing(evidence: str, reason: str) -> str:
    what = reason.removesuffix(" is not known")
    return f"{evidence} that shows {what}" if what != reason else f"{evidence}; in this one, {reason}"


def _first(causes: tuple[Cause, ...]) -> str:
    """The first cause, as text; empty if there is none."""
    return "" if not causes else causes[0].code + (" (suspected)" if causes[0].status == "suspected" else "")


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
        kind=f"{_kind_of_all(parts)}, {len(parts)} runs",
        findings=tuple(findings),
        symptoms=_by_severity(finding for finding in findings if finding.caused_by or is_symptom(finding)),
        causes=_combined_causes(names, parts),
        ruled_out=tuple(code for code in parts[0].ruled_out if code in ruled_out),
        not_checked=tuple(one for one in parts[0].not_checked if one.code in unchecked),
        notes=tuple(f"{name}: {note}" for name, part in zip(names, parts, strict=True) for note in part.notes),
        checked=tuple(dict.fromkeys(code for part in parts for code in part.checked)),
        limits=limits_of_runs(names, [part.limits for part in parts]),
        conclusion=conclusion_of_runs(names, [(part.conclusion, part.findings) for part in parts]),
    )


def _kind_of_all(parts: Sequence[Diagnosis]) -> str:
    kinds = dict.fromkeys(part.kind for part in parts)
    return " and ".join(kinds) if len(kinds) < 3 else "several kinds of records"


def _combined_causes(names: list[str], parts: list[Diagnosis]) -> tuple[Cause, ...]:
    """One cause per code and status, confirmed ones first, notes of any run last, else in the order in which the runs
    rank them."""
    loud = {finding.code for part in parts for finding in part.findings if finding.severity != "note"}
    owners: dict[tuple[str, str], list[tuple[str, Cause, int]]] = {}
    for name, part in zip(names, parts, strict=True):
        for rank, cause in enumerate(part.causes):
            owners.setdefault((cause.status, cause.code), []).append((name, cause, rank))
    groups = sorted(
        owners.values(),
        key=lambda group: (
            group[0][1].status,
            group[0][1].status == "confirmed" and group[0][1].code not in loud,
            min(rank for *_, rank in group),
        ),
    )
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
        return f"{'both' if total == 2 else f'all {total}'} runs, for example {names[0]}"
    return f"{len(names)} of {total} runs, for example {names[0]}" if len(names) > 1 else names[0]
