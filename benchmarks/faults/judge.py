"""A program seen through Tenor's checks, as its author would put them in: preflight, watchdog, diagnosis."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faults.program import Evaluation, Objects, Program, build, evaluate, train, write_predictions
from tenor.checks import Watchdog, preflight
from tenor.checks.diagnosis.artifacts import Artifacts
from tenor.checks.diagnosis.diagnose import diagnose_artifacts
from tenor.checks.diagnosis.predictions_file import read_claims
from tenor.checks.evidence.data_evidence import DataEvidence, Rows
from tenor.checks.evidence.evaluation_evidence import EvaluationEvidence
from tenor.checks.finding import Finding, Report
from tenor.errors import RefusedError

PROBE_SECONDS = 5.0

WEIGHT = {"note": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Verdict:
    """What Tenor said of one program."""

    found: tuple[tuple[str, str, str], ...]
    """Stage, code and severity of every finding, in order."""
    top: str
    """Code of the first-ranked cause; empty where there is none."""
    crash: str
    """How the program itself ended, if not well."""


def judge(program: Program) -> Verdict:
    """Run the program with every check in place; an error of a check ends it, as the policy `stop` has it."""
    crash, evaluations, reports, records = "", [], [], list(program.further_evidence)
    try:
        objects = build(program)
        reports.append(look_before(program, objects))
        if not reports[0].errors:
            watchdog = make_watchdog(program, objects, reports[0].findings)
            try:
                train(program, objects, watchdog)
                watchdog.check_weights()
                evaluations = [evaluate(program, objects, name, watchdog) for name in ("validation", "test")]
            except RefusedError:
                pass  # What was found is in the watchdog's report.
            finally:
                reports.append(watchdog.report)
                records.append(watchdog.evidence)  # The log that every program keeps.
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        crash = f"{type(error).__name__}: {error}"[:300]
    return conclude(reports, evaluations, records, crash)


def look_before(program: Program, objects: Objects) -> Report:
    return preflight(
        model=objects.model,
        train_loader=objects.loader,
        tokenizer=objects.tokenizer,
        optimizer=objects.optimizer,
        scheduler=objects.scheduler,
        loss_fn=program.loss_fn,
        n_classes=program.n_classes,
        class_names=program.class_names,
        total_steps=program.total_steps,
        steps_per_epoch=program.steps_per_epoch,
        declared_freeze=program.declared_freeze,
        keep_trainable=program.keep_trainable,
        new_weights=objects.new_weights,
        unused_weights=objects.unused_weights,
        precision=program.precision,
        loss_scaling=program.loss_scaling,
        accumulation=program.step.parts,
        seconds=PROBE_SECONDS,
        evidence=(data_evidence(program),),
    )


def data_evidence(program: Program) -> DataEvidence:
    train, validation, test = (
        Rows(split.labels, split.texts) for split in (program.train, program.validation, program.test)
    )
    return DataEvidence(
        train,
        program.n_classes,
        validation,
        test,
        program.class_names,
        program.source_labels,
        program.train_positions,
        program.selected_on,
    )


def make_watchdog(program: Program, objects: Objects, earlier: tuple[Finding, ...]) -> Watchdog:
    return Watchdog(
        objects.model,
        objects.optimizer,
        scheduler=objects.scheduler,
        n_classes=program.n_classes,
        total_steps=program.total_steps,
        clip_at=program.step.clip_at,
        every=4,
        earlier=earlier,
    )


def conclude(
    reports: Sequence[Report], evaluations: Sequence[Evaluation], evidence: Sequence[object], crash: str
) -> Verdict:
    """Diagnose what is left of the program: its predictions, its records, and what the checks said meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        claims = {one.split: _claims(one, Path(folder)) for one in evaluations}
    n_classes = max((one.probabilities.shape[1] for one in evaluations), default=2)
    held = (EvaluationEvidence(claims, n_classes),) if claims else ()
    artifacts = Artifacts("a program", (*held, *evidence), earlier=tuple(reports))
    diagnosis = diagnose_artifacts(artifacts, "program")
    staged = {finding.code: finding.stage for report in reports for finding in report.findings}
    found = [(staged.get(f.code, f.stage), f.code, f.severity) for f in diagnosis.findings]
    top = diagnosis.causes[0].code if diagnosis.causes else found[0][1] if found else ""
    return Verdict(tuple(found), top, crash)


def _claims(evaluation: Evaluation, folder: Path) -> object:
    """Read back from a file of predictions, as `tenor diagnose` reads one, with what the program reports beside."""
    claims, _ = read_claims(write_predictions(evaluation, folder))
    return replace(claims, accuracy=evaluation.accuracy, expected_n=evaluation.n_expected)
