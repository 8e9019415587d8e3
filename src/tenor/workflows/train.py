"""A whole run: configuration → data → training → best checkpoint → evaluation, traced from end to end."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from tenor.config.describe import to_yaml
from tenor.config.schema import Config
from tenor.data.batching import Examples
from tenor.data.dataset import Absent, LabelledText, SourceData, not_labelled
from tenor.data.splits import present_splits
from tenor.errors import TenorError, UserError
from tenor.evaluation.evaluate import SplitResult, evaluation_json
from tenor.evaluation.predictions import write_predictions
from tenor.inference.logits import Forward, predict
from tenor.measures.calibration import choose_temperature
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, create_run, find_run
from tenor.runs.files import remove_leftovers, write_json, write_text
from tenor.runs.hold import held
from tenor.runs.manifest import new_manifest, process_lives, read_manifest, update_manifest
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import checkpoint_path, list_checkpoints, load_weights, verify_checkpoint
from tenor.training.progress import progress_line
from tenor.training.state import TrainState
from tenor.workflows.export_model import save_model
from tenor.workflows.findings import RunFindings, evaluation_report, refuse_to_pass_by
from tenor.workflows.follower import NO_ONE, Follower
from tenor.workflows.inputs import (
    changed_device,
    changed_inputs,
    changed_versions,
    input_fingerprints,
    record_inputs,
    recorded_config,
    recorded_threads,
)
from tenor.workflows.measure import fit_baselines, measure_split
from tenor.workflows.outcome import Outcome, checkpoint_rows, headline, recorded_outcome
from tenor.workflows.overlap import keep_text_keys
from tenor.workflows.preflight import run_preflight
from tenor.workflows.prepare import Prepared, make_examples, prepare
from tenor.workflows.report import carded, reported
from tenor.workflows.show import show_finish, show_overview
from tenor.workflows.watched_fit import watched_fit


@dataclass(frozen=True)
class RunResult:
    """A completed run."""

    run: RunDirectory
    config: Config
    results: dict[str, SplitResult]
    """By split: validation and, where there is one, test."""
    best_step: int
    checkpoint_sha256: str
    """Of the best checkpoint's weights."""
    weights_sha256: str
    """Of the weights below `model/`."""


def train(
    config: Config,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
    follower: Follower = NO_ONE,
) -> RunResult:
    """Start a run below `root` and see it to its end.

    `data` takes the place of the configured source: rows to train on, or with them a test split, such as
    `tenor.data.from_dataframe` makes.

    Raises:
        TenorError: how it ended otherwise; the run's folder and the summary tell the same.
    """
    given = as_source(data)
    if given is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": "given"})})
    return start(prepare(config, given), root, console, follower)


def start(
    prepared: Prepared, root: Path = DEFAULT_ROOT, console: Console | None = None, follower: Follower = NO_ONE
) -> RunResult:
    """Begin a run of what was prepared. It has a folder only from here on: unreadable input leaves nothing behind.

    Raises:
        TenorError: as `train`.
    """
    config = prepared.config
    read_summary(root)  # Refused now where it is broken, not after hours.
    fingerprints = input_fingerprints(prepared)
    run = create_run(root, config.name)
    with held(run):
        write_text(run.config, to_yaml(config))
        new_manifest(run, config.seed, prepared.plan.accelerators)
        record_inputs(run, prepared, fingerprints)
        return _run(run, root, prepared, console or Console(stderr=True, markup=False), follower, resume=False)


def resume(
    reference: str,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
    follower: Follower = NO_ONE,
) -> RunResult:
    """Go on with a run that was cut, from its newest whole checkpoint, as if it never had been.

    `data` must be given again where it was given to `train`.

    Raises:
        UserError: no such run, or one that is complete or still under way.
        RefusedError: the watchdog stopped it.
    """
    console = console or Console(stderr=True, markup=False)
    run = find_run(root, reference)
    with held(run):
        manifest = read_manifest(run)
        # This process holds the run, so whatever of it is recorded as going on here is over.
        if manifest.pid != os.getpid() and process_lives(manifest):
            raise UserError(
                f"{run.reference} is still running as process {manifest.pid} on {manifest.host}; wait or stop it first"
            )
        if manifest.status == "completed":
            raise UserError(f"{run.reference} is complete; start a new run with `tenor train {run.config}`")
        if manifest.status == "refused":
            refuse_to_pass_by(run)
        prepared = prepare(recorded_config(run, manifest), as_source(data), recorded_threads(manifest))
        fingerprints = input_fingerprints(prepared)
        if changed := changed_inputs(manifest, fingerprints):
            what = " and ".join(changed)
            raise UserError(
                f"{run.reference} can't go on: {what} changed since it began; restore that, or start a new run"
            )
        for difference in (*changed_versions(manifest), *changed_device(manifest, prepared)):
            console.print(f"{difference}: the run goes on, but not to the same bits", style="yellow", highlight=False)
        update_manifest(run, status="running")
        record_inputs(run, prepared, fingerprints)
        remove_leftovers(run.path)
        return _run(run, run.path.parent.parent, prepared, console, follower, resume=True)


def as_source(data: LabelledText | SourceData | None) -> SourceData | None:
    """Rows handed over in Python, as a source; None where there are none."""
    if isinstance(data, LabelledText):
        return SourceData(data, Absent("the rows were given without a test split"))
    if data is not None and not isinstance(data, SourceData):
        raise not_labelled(data, "data")
    return data


def _run(
    run: RunDirectory, root: Path, prepared: Prepared, console: Console, follower: Follower, resume: bool
) -> RunResult:
    config = prepared.config
    with reported(run, console) as rows, recorded_outcome(run, root, config) as outcome:
        rows |= present_splits(prepared.splits)
        console.print(f"run {run.path}", highlight=False, soft_wrap=True)
        findings = RunFindings(run, config, console)
        show_overview(console, prepared)
        follower.on_begin(run)
        with _recorded(outcome, findings):
            times = [time.perf_counter()]
            findings.add(run_preflight(prepared))
            times.append(time.perf_counter())
            examples, forward = make_examples(prepared, console)
            times.append(time.perf_counter())
            state = watched_fit(run, prepared, examples, forward, findings, console, follower, resume)
            times.append(time.perf_counter())
            result = _finish(run, root, prepared, examples, forward, state, outcome, console)
            times.append(time.perf_counter())
            timings = dict(zip(("preflight", "encode", "train", "evaluate"), np.diff(times).tolist(), strict=True))
            update_manifest(run, timings=timings)
            show_finish(console, run, config, result.results, prepared.splits.test, timings)
            with carded(run, prepared.splits):
                findings.add(evaluation_report(config, result.results, state, result.checkpoint_sha256, findings.found))
                findings.close()
    return result


@contextmanager
def _recorded(outcome: Outcome, findings: RunFindings) -> Iterator[None]:
    """Put what was found into the summary's row, however the block ends."""
    try:
        yield
    finally:
        outcome.findings = tuple(asdict(finding) for finding in findings.found)


def _finish(
    run: RunDirectory,
    root: Path,
    prepared: Prepared,
    examples: dict[str, Examples],
    forward: Forward,
    state: TrainState,
    outcome: Outcome,
    console: Console,
) -> RunResult:
    """Take the best checkpoint, calibrate it on the validation rows, save it as a model, and measure it."""
    config, splits = prepared.config, prepared.splits
    if state.best is None:
        raise TenorError("no validation took place, so there is no best checkpoint; this is a defect of Tenor")
    best = verify_checkpoint(checkpoint_path(run.checkpoints, state.best.step))
    load_weights(best, prepared.classifier.model)
    held_out = {name: rows for name, rows in present_splits(splits).items() if name != "train"}
    logits: dict[str, np.ndarray] = {}
    for name, rows in held_out.items():
        with progress_line(console, f"evaluating on {name}", len(rows)) as line:
            logits[name] = predict(prepared.classifier.model, examples[name], prepared.plan, forward, line.advance)
    temperature = choose_temperature(logits["validation"], splits.validation.labels)
    digest = save_model(run.model, prepared.classifier, config, best, temperature)
    keep_text_keys(run, splits)
    baselines = fit_baselines(splits.train, config, run.baseline)
    if baselines.note:
        console.print(f"text baseline: {baselines.note}", style="yellow", highlight=False)
    results: dict[str, SplitResult] = {}
    for name, rows in held_out.items():
        results[name] = measure_split(rows, logits[name], baselines.on(rows), temperature)
        tokens = prepared.tokens[name]
        write_predictions(
            run.predictions / f"{name}.parquet",
            rows.ids,
            rows.labels,
            results[name].probabilities,
            rows.class_names,
            temperature=temperature,
            lengths=(tokens.full_lengths, tokens.full_lengths - tokens.lengths),
        )
    test = results.get("test") or (splits.test.reason if isinstance(splits.test, Absent) else "")
    written = evaluation_json(
        results["validation"],
        test,
        best.digest,
        best.step,
        splits.train.class_names,
        config.evaluation.confidence,
        config.seed,
    )
    write_json(run.evaluation, written)
    outcome.best = best
    outcome.checkpoints = checkpoint_rows(
        root, [verify_checkpoint(path) for path in list_checkpoints(run.checkpoints)], state
    )
    outcome.val_metrics, outcome.test_metrics = headline(written["val"]), headline(written["test"])
    return RunResult(run, config, results, best.step, best.digest, digest)
