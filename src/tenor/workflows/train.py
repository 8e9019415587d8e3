"""A whole run: configuration → data → training → best checkpoint → evaluation."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from tenor.checks.finding import Finding
from tenor.checks.watchdog import Watchdog
from tenor.config.describe import to_yaml
from tenor.config.schema import Config
from tenor.console.run import ProgressLine, progress_line, show_finish, show_overview
from tenor.data.batching import Examples
from tenor.data.dataset import LabelledText, SourceData, not_labelled
from tenor.data.splits import present_splits
from tenor.errors import TenorError, advice_on_memory, errors_of_run
from tenor.evaluation.confusion_picture import confusion_figure
from tenor.evaluation.results import SplitResult, evaluation_json
from tenor.inference.logits import Forward
from tenor.measures.calibration import choose_temperature
from tenor.measures.objective import metrics_line
from tenor.runs.best_evaluation import write_evaluation
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, create_run, find_run, locked
from tenor.runs.files import remove_leftovers, write_text
from tenor.runs.manifest import new_manifest, read_manifest, update_manifest
from tenor.runs.missing import Missing
from tenor.runs.predictions import write_predictions
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    TrainState,
    Validation,
    Window,
    checkpoint_path,
    list_checkpoints,
    load_weights,
    read_state,
    verify_checkpoint,
)
from tenor.training.loop import Callbacks, fit
from tenor.training.processes import Processes, hint_on_gpus, joined, require_one_process
from tenor.training.recorder import Recorder
from tenor.training.signals import terminations_ignored
from tenor.training.task import TrainingTask
from tenor.workflows.check import run_preflight
from tenor.workflows.measure import choose_hybrid, fit_baselines, keep_text_keys, keep_text_profile, measure_split
from tenor.workflows.outcome import (
    Outcome,
    checkpoint_rows,
    headline,
    recorded_outcome,
    save_model,
)
from tenor.workflows.prepare import (
    Prepared,
    input_fingerprints,
    make_accelerator,
    make_examples,
    make_task,
    prepare,
    record_inputs,
    recorded_config,
    recorded_precision,
    recorded_threads,
    require_same_inputs,
)
from tenor.workflows.report import card_at_exit, report_at_exit
from tenor.workflows.resuming import require_resumable, require_unchanged, show_differences
from tenor.workflows.run_checks import (
    RowChecks,
    RunFindings,
    evaluation_report,
    make_watchdog,
    record_and_check,
    restore_watchdog,
)
from tenor.workflows.run_task import assist, predict_held_out, share_settings


@dataclass(frozen=True)
class RunObserver:
    """Callbacks during a run. An exception in one ends the run; after an InterruptedRunError it can be resumed."""

    on_begin: Callable[[RunDirectory], None] = lambda run: None
    """Called when the run has its folder and its inputs are in the manifest."""
    on_validation: Callable[[Validation], None] = lambda validation: None


NO_OBSERVER = RunObserver()


def fit_with_checks(
    run: RunDirectory,
    prepared: Prepared,
    examples: dict[str, Examples],
    forward: Forward,
    findings: RunFindings,
    console: Console,
    observer: RunObserver,
    resume: bool,
) -> TrainState:
    """Train, from the start or from the newest intact checkpoint.

    Raises:
        RefusedError: the watchdog found an error and the policy is to stop.
        TenorError: memory ran out, or the loss is not finite.
    """
    config, plan = prepared.config, prepared.plan
    task = make_task(prepared, examples, forward, run.checkpoints)
    checkpoint = newest_checkpoint(run, console) if resume else None
    done = checkpoint.step if checkpoint else 0
    accelerator = make_accelerator(plan)
    recorder = Recorder(run, config.training.trackers, done)
    watchdog = make_watchdog(prepared, task, findings, recorder, console)
    if checkpoint:
        console.print(f"resuming from {checkpoint.path} (step {done:,} of {task.total_steps:,})", highlight=False)
        for validation in read_state(checkpoint).validations:  # Pictures after the checkpoint are drawn again.
            _draw_confusion(recorder, validation, task.class_names)
    advice = (
        f"lower training.token_budget (now {plan.training_tokens:,} tokens per forward pass) "
        f"or data.max_length (now {config.data.max_length})"
    )
    try:
        with advice_on_memory("in training", advice), progress_line(console, "step", task.total_steps, done) as line:
            if checkpoint:
                restore_watchdog(run, watchdog, done)
            callbacks = make_callbacks(recorder, line, console, task, watchdog, observer, done)
            return fit(task, accelerator, checkpoint, callbacks)
    finally:
        for fault in recorder.close():
            console.print(f"{fault}; metrics.jsonl contains all records", style="red", soft_wrap=True, markup=False)
        findings.keep(watchdog.report)


def make_callbacks(
    recorder: Recorder,
    line: ProgressLine,
    console: Console,
    task: TrainingTask,
    watchdog: Watchdog,
    observer: RunObserver = NO_OBSERVER,
    done: int = 0,
) -> Callbacks:
    """The callbacks of the loop, which feed recorder, progress line, watchdog and observer; `done` steps were taken
    before a resume."""
    latest: dict[str, float] = {}
    rows = RowChecks(task, watchdog, done)

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        latest.update(values)
        record_and_check(recorder, watchdog, step, values, window)

    def on_step(state: TrainState) -> None:
        line.advance(1, _detail(latest or _window_values(state.window)))
        rows.on_step(state)

    def on_validation(validation: Validation) -> None:
        recorder.record("validation", validation.step, epoch=validation.epoch, **validation.metrics)
        watchdog.check_weights()
        _draw_confusion(recorder, validation, task.class_names)
        console.print(f"epoch {validation.epoch:.2f}  validation {metrics_line(validation.metrics)}", highlight=False)
        observer.on_validation(validation)

    return Callbacks(watchdog.watch, on_record, on_step, on_validation, rows.on_epoch)


def _draw_confusion(recorder: Recorder, validation: Validation, class_names: tuple[str, ...]) -> None:
    if not recorder.shows_pictures:
        return
    title = f"Validation after step {validation.step}"
    figure = confusion_figure(np.array(validation.confusion), class_names, title)
    recorder.figure("validation/confusion", validation.step, figure)


def _window_values(window: Window) -> dict[str, float]:
    """The values to show before the first record. A single step is not recorded, since the rules on records expect
    each of them to cover many steps."""
    return {"loss": window.mean_loss, "tokens_per_second": window.tokens_per_second}


def _detail(values: dict[str, float]) -> str:
    rate = f"  lr {values['learning_rate']:.1e}" if "learning_rate" in values else ""
    return f"loss {values['loss']:.3f}{rate}  {values['tokens_per_second']:,.0f} tokens/s"


def newest_checkpoint(run: RunDirectory, console: Console) -> Checkpoint | None:
    """The newest intact checkpoint; a damaged one is reported, and the previous one is used.

    The best checkpoint up to it must be intact too, since the end of the run loads it; else an earlier one is used.
    """
    for path in reversed(list_checkpoints(run.checkpoints)):
        try:
            checkpoint = verify_checkpoint(path)
            best = read_state(checkpoint).best
            if best is not None and best.step != checkpoint.step:
                verify_checkpoint(run.checkpoint(best.step))
            return checkpoint
        except DamagedCheckpointError as damage:
            console.print(
                f"damaged checkpoint: {damage}; trying the previous one", style="red", soft_wrap=True, markup=False
            )
    console.print("there is no intact checkpoint: training starts again from the first step", style="red")
    return None


@dataclass(frozen=True)
class RunResult:
    """A completed run."""

    run: RunDirectory
    config: Config
    results: dict[str, SplitResult]
    """By split: validation and, if there is one, test."""
    best_step: int
    checkpoint_sha256: str
    """Of the best checkpoint's weights."""
    weights_sha256: str
    """Of the weights below `model/`."""
    findings: tuple[Finding, ...] = ()
    """Of all stages, as in `findings.json`."""


def train(
    config: Config,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
    observer: RunObserver = NO_OBSERVER,
) -> RunResult:
    """Start a run below `root` and complete it.

    `data` replaces the configured source: rows to train on, with or without a test split, for example from
    `tenor.data.from_dataframe`.

    Started by a launcher such as torchrun, all processes must call it; it returns in process 0, and ends the others.

    Raises:
        TenorError: the run failed, was refused or was interrupted, as its folder and the summary record too. The
            error's attribute `run` is that folder; None where the input could not be read, so that no run was started.
    """
    given = as_source(data)
    if given is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": "given"})})
    with joined() as processes:
        if not processes.is_main:
            assist(processes, given)
        prepared = prepare(config, given, processes=processes)
        share_settings(prepared)
        return start(prepared, root, console, observer)


def start(
    prepared: Prepared, root: Path = DEFAULT_ROOT, console: Console | None = None, observer: RunObserver = NO_OBSERVER
) -> RunResult:
    """Start a prepared run. Its folder is created here, so that unreadable input leaves no folder behind.

    Raises:
        TenorError: as `train`.
    """
    if prepared.processes.count == 1:
        require_one_process("this command")
    config = prepared.config
    read_summary(root)  # A damaged summary is reported now and not after hours.
    fingerprints = input_fingerprints(prepared)
    require_same_inputs(prepared.processes, fingerprints)
    run = create_run(root, config.name)
    with errors_of_run(run.path), locked(run):
        write_text(run.config, to_yaml(config))
        new_manifest(run, config.seed, prepared.plan.accelerators)
        record_inputs(run, prepared, fingerprints)
        return _run(run, root, prepared, console or Console(stderr=True, markup=False), observer, resume=False)


def resume(
    reference: str,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
    observer: RunObserver = NO_OBSERVER,
) -> RunResult:
    """Resume an interrupted run from its newest intact checkpoint, with the same result as without the interruption.

    `data` must be given again if it was given to `train`.

    Raises:
        UserError: there is no such run, or it is complete or still running.
        RefusedError: the watchdog stopped it.
    """
    given = as_source(data)
    with joined() as processes:
        if not processes.is_main:
            assist(processes, given)
        return _resume(reference, root, console or Console(stderr=True, markup=False), given, observer, processes)


def _resume(
    reference: str,
    root: Path,
    console: Console,
    given: SourceData | None,
    observer: RunObserver,
    processes: Processes,
) -> RunResult:
    run = find_run(root, reference)
    with errors_of_run(run.path), locked(run):
        manifest = read_manifest(run)
        require_resumable(run, manifest, "train")
        threads = recorded_threads(manifest, processes)
        precision = recorded_precision(manifest)
        prepared = prepare(recorded_config(run, manifest), given, threads, processes, precision)
        share_settings(prepared, threads)
        fingerprints = input_fingerprints(prepared)
        require_same_inputs(processes, fingerprints)
        require_unchanged(run, manifest, fingerprints)
        show_differences(console, manifest, prepared)
        update_manifest(run, status="running")
        record_inputs(run, prepared, fingerprints)
        remove_leftovers(run.path)
        return _run(run, run.path.parent.parent, prepared, console, observer, resume=True)


def as_source(data: LabelledText | SourceData | None) -> SourceData | None:
    """Rows given in Python as a source; None if there are none."""
    if isinstance(data, LabelledText):
        return SourceData(data, Missing("the rows were given without a test split"))
    if data is not None and not isinstance(data, SourceData):
        raise not_labelled(data, "data")
    return data


def _run(
    run: RunDirectory, root: Path, prepared: Prepared, console: Console, observer: RunObserver, resume: bool
) -> RunResult:
    config, processes = prepared.config, prepared.processes
    processes.share(str(run.path.resolve()))
    with (
        terminations_ignored(processes.count > 1),
        report_at_exit(run, console) as rows,
        recorded_outcome(run, root, config) as outcome,
    ):
        rows |= present_splits(prepared.splits)
        console.print(f"run {run.path}", highlight=False, soft_wrap=True)
        findings = RunFindings(run, config, console)
        show_overview(console, prepared)
        if hint := hint_on_gpus(processes, prepared.plan.device, sys.argv[1:]):
            console.print(hint, highlight=False, soft_wrap=True)
        observer.on_begin(run)
        with recorded_findings(outcome, findings):
            times = [time.perf_counter()]
            findings.add(run_preflight(prepared))
            times.append(time.perf_counter())
            with processes.main_first():
                examples, forward = make_examples(prepared, console)
            times.append(time.perf_counter())
            state = fit_with_checks(run, prepared, examples, forward, findings, console, observer, resume)
            times.append(time.perf_counter())
            result = _finish(run, root, prepared, examples, forward, state, outcome, console)
            times.append(time.perf_counter())
            timings = dict(zip(("preflight", "encode", "train", "evaluate"), np.diff(times).tolist(), strict=True))
            timings["train"] = state.seconds  # Also before a resume.
            update_manifest(run, timings=timings)
            show_finish(console, run, config, result.results, prepared.splits.test, timings)
            with card_at_exit(run, prepared.splits):
                findings.add(evaluation_report(config, result.results, state, result.checkpoint_sha256, findings.all))
                findings.close()
    return replace(result, findings=findings.all)


@contextmanager
def recorded_findings(outcome: Outcome, findings: RunFindings) -> Iterator[None]:
    """Put the findings into the summary's row, however the block ends."""
    try:
        yield
    finally:
        outcome.findings = tuple(asdict(finding) for finding in findings.all)


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
    """Load the best checkpoint, calibrate it on the validation rows, save it as a model, and evaluate it."""
    config, splits = prepared.config, prepared.splits
    if state.best is None:
        raise TenorError("there was no validation, so there is no best checkpoint; this is a bug in Tenor")
    best = verify_checkpoint(checkpoint_path(run.checkpoints, state.best.step))
    load_weights(best, prepared.classifier.model)
    held_out = {name: rows for name, rows in present_splits(splits).items() if name != "train"}
    logits = predict_held_out(prepared, examples, forward, console)
    temperature = choose_temperature(logits["validation"], splits.validation.labels)
    baselines = fit_baselines(splits.train, config, run.baseline)
    if baselines.note:
        console.print(f"text baseline: {baselines.note}", style="yellow", highlight=False)
    scores = {name: baselines.text_scores(rows) for name, rows in held_out.items()}
    scaled = logits["validation"] / temperature
    chosen = choose_hybrid(
        config.model.hybrid, baselines.text, scaled, scores["validation"], splits.validation, config.seed
    )
    kind = "encoder alone" if chosen.hybrid is None else "hybrid of encoder and text baseline"
    style = "yellow" if chosen.hybrid is None and config.model.hybrid == "on" else ""
    console.print(f"model: {kind}; {chosen.why}", highlight=False, soft_wrap=True, style=style)
    digest = save_model(run.model, prepared.classifier, config, best, temperature, chosen.hybrid)
    keep_text_keys(run, splits)
    keep_text_profile(run, splits.train)
    results: dict[str, SplitResult] = {}
    for name, rows in held_out.items():
        results[name] = measure_split(
            rows,
            logits[name],
            baselines.on(rows, scores[name]),
            temperature,
            hybrid=chosen.hybrid,
            text_scores=scores[name],
        )
        tokens = prepared.tokens[name]
        write_predictions(
            run.predictions / f"{name}.parquet",
            rows.ids,
            rows.labels,
            results[name].probabilities,
            rows.class_names,
            temperature=results[name].temperature,
            lengths=(tokens.full_lengths, tokens.full_lengths - tokens.lengths),
        )
    test = results.get("test") or (splits.test.reason if isinstance(splits.test, Missing) else "")
    written = evaluation_json(
        results["validation"],
        test,
        best.digest,
        best.step,
        splits.train.class_names,
        config.evaluation.confidence,
        config.seed,
    )
    write_evaluation(run.evaluation, {**written, "hybrid": {"used": chosen.hybrid is not None, "why": chosen.why}})
    outcome.best = best
    outcome.checkpoints = checkpoint_rows(
        root, [verify_checkpoint(path) for path in list_checkpoints(run.checkpoints)], state
    )
    outcome.val_metrics, outcome.test_metrics = headline(written["val"]), headline(written["test"])
    return RunResult(run, config, results, best.step, best.digest, digest)
