"""A whole run: configuration → data → training → best checkpoint → evaluation, traced from end to end."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tenor.config.describe import to_yaml
from tenor.config.loading import load_config
from tenor.config.schema import Config
from tenor.data.batching import Examples
from tenor.data.dataset import Absent, LabelledText, SourceData
from tenor.data.tokenization import tokenizer_digest
from tenor.errors import TenorError, UserError
from tenor.evaluation.evaluate import SplitResult, evaluation_json
from tenor.evaluation.plots import confusion_figure
from tenor.evaluation.predictions import write_predictions
from tenor.inference.logits import Forward, predict
from tenor.measures.metrics import Metrics
from tenor.model.classifier import weights_digest
from tenor.model.freezing import anatomy
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, create_run, find_run
from tenor.runs.files import remove_leftovers, write_json, write_text
from tenor.runs.manifest import new_manifest, process_lives, read_manifest, update_manifest
from tenor.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_weights,
    verify_checkpoint,
)
from tenor.training.loop import Listeners, TrainingTask, fit, make_accelerator
from tenor.training.progress import ProgressLine, progress_line
from tenor.training.recorder import Recorder
from tenor.training.state import TrainState, Validation
from tenor.workflows.export_model import save_model
from tenor.workflows.measure import fit_baselines, measure_split, result_rows
from tenor.workflows.outcome import Outcome, checkpoint_rows, recorded_outcome
from tenor.workflows.prepare import Prepared, data_fingerprint, make_examples, prepare, present_splits
from tenor.workflows.show import show_finish, show_overview


@dataclass(frozen=True)
class RunResult:
    """A completed run."""

    run: RunDirectory
    config: Config
    results: dict[str, SplitResult]
    """By split: validation and, where there is one, test."""
    best_step: int
    weights_sha256: str


def train(
    config: Config,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
) -> RunResult:
    """Start a run below `root` and see it to its end.

    `data` takes the place of the configured source: rows to train on, or with them a test split, such as
    `tenor.data.from_dataframe` makes.

    Raises:
        TenorError: how it ended otherwise; the run's folder and the summary tell the same.
    """
    given = _as_source(data)
    if given is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": "given"})})
    run = create_run(root, config.name)
    write_text(run.config, to_yaml(config))
    new_manifest(run, config.seed)
    return _run(run, config, root, console or Console(stderr=True), given, resume=False)


def resume(
    reference: str,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
) -> RunResult:
    """Go on with a run that was cut, from its newest whole checkpoint, as if it never had been.

    `data` must be given again where it was given to `train`.

    Raises:
        UserError: no such run, or one that is complete or still under way.
    """
    run = find_run(root, reference)
    manifest = read_manifest(run)
    if process_lives(manifest):
        raise UserError(
            f"{run.reference} is still running as process {manifest.pid} on {manifest.host}; wait or stop it first"
        )
    if manifest.status == "completed":
        raise UserError(f"{run.reference} is complete; start a new run with `tenor train {run.config}`")
    config = load_config(run.config)
    update_manifest(run, status="running")
    remove_leftovers(run.path)
    return _run(run, config, run.path.parent.parent, console or Console(stderr=True), _as_source(data), resume=True)


def _as_source(data: LabelledText | SourceData | None) -> SourceData | None:
    if isinstance(data, LabelledText):
        return SourceData(data, Absent("the rows were given without a test split"))
    return data


def _run(
    run: RunDirectory, config: Config, root: Path, console: Console, given: SourceData | None, resume: bool
) -> RunResult:
    with recorded_outcome(run, root, config) as outcome:
        console.print(f"run {run.path}", highlight=False, soft_wrap=True)
        prepared = prepare(config, given)
        _trace_inputs(run, prepared)
        show_overview(console, prepared)
        started = time.perf_counter()
        examples, forward = make_examples(prepared, console)
        trained_from = time.perf_counter()
        state = _train(run, prepared, examples, forward, console, resume)
        trained = time.perf_counter()
        result = _finish(run, root, prepared, examples, forward, state, outcome, console)
        timings = {
            "encode": trained_from - started,
            "train": trained - trained_from,
            "evaluate": time.perf_counter() - trained,
        }
        update_manifest(run, timings=timings)
    rows = [
        row
        for split, found in result.results.items()
        for row in result_rows(config.name, split, found, config.evaluation.confidence)
    ]
    show_finish(console, run, rows, result.results, prepared.splits.test, timings)
    return result


def _trace_inputs(run: RunDirectory, prepared: Prepared) -> None:
    model = prepared.classifier.model
    body = anatomy(model).body
    weights = {name: parameter for name, parameter in model.named_parameters() if name in body}
    fingerprints = {
        "data": data_fingerprint(prepared.splits),
        "encoder_weights": weights_digest(weights),
        "tokenizer": tokenizer_digest(prepared.classifier.tokenizer),
    }
    update_manifest(run, fingerprints=fingerprints, threads=prepared.plan.threads, timings=prepared.timings)


def _train(
    run: RunDirectory,
    prepared: Prepared,
    examples: dict[str, Examples],
    forward: Forward,
    console: Console,
    resume: bool,
) -> TrainState:
    config, plan = prepared.config, prepared.plan
    task = TrainingTask(
        model=prepared.classifier.model,
        learning=prepared.learning,
        forward=forward,
        train=examples["train"],
        validation=examples["validation"],
        class_names=prepared.splits.train.class_names,
        settings=config.training,
        seed=config.seed,
        plan=plan,
        checkpoints=run.checkpoints,
    )
    checkpoint = newest_checkpoint(run, console) if resume else None
    done = checkpoint.step if checkpoint else 0
    accelerator = make_accelerator(plan)
    recorder = Recorder(run, config.training.trackers, done)
    if checkpoint:
        console.print(f"going on from {checkpoint.path} (step {done:,} of {task.total_steps:,})", highlight=False)
    try:
        with progress_line(console, "step", task.total_steps, done) as line:
            return fit(task, accelerator, checkpoint, _listeners(recorder, line, console, task))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise TenorError(
            f"memory ran out: lower training.token_budget (now {plan.training_tokens:,} tokens per forward pass) "
            f"or data.max_length (now {config.data.max_length})"
        ) from error
    finally:
        recorder.close()


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch has a class of its own for GPUs only; on a CPU its allocator speaks through a RuntimeError.
    message = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in message or "can't allocate memory" in message


def _listeners(recorder: Recorder, line: ProgressLine, console: Console, task: TrainingTask) -> Listeners:
    latest: dict[str, float] = {}

    def on_record(step: int, values: dict[str, float]) -> None:
        recorder.record("train", step, **values)
        latest.update(values)

    def on_step(state: TrainState) -> None:
        line.advance(1, _detail(latest))

    def on_validation(validation: Validation, metrics: Metrics) -> None:
        recorder.record(
            "validation",
            validation.step,
            epoch=validation.epoch,
            accuracy=validation.accuracy,
            macro_f1=validation.macro_f1,
            loss=validation.loss,
        )
        title = f"Validation after step {validation.step}"
        recorder.figure(
            "validation/confusion", validation.step, confusion_figure(metrics.confusion, task.class_names, title)
        )
        console.print(
            f"epoch {validation.epoch:.2f}  validation accuracy {validation.accuracy:.2%}  "
            f"macro F1 {validation.macro_f1:.4f}  loss {validation.loss:.4f}",
            highlight=False,
        )

    return Listeners(on_record, on_step, on_validation)


def _detail(latest: dict[str, float]) -> str:
    if not latest:
        return ""
    speed = f"{latest['tokens_per_second']:,.0f} tokens/s"
    return f"loss {latest['loss']:.3f}  rate {latest['learning_rate']:.1e}  {speed}"


def newest_checkpoint(run: RunDirectory, console: Console) -> Checkpoint | None:
    """The newest checkpoint whose every byte is as written; a damaged one is told, and the one before it used."""
    for path in reversed(list_checkpoints(run.checkpoints)):
        try:
            return verify_checkpoint(path)
        except DamagedCheckpointError as damage:
            console.print(f"[red]damaged checkpoint[/]: {damage}; trying the one before it", soft_wrap=True)
    return None


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
    """Take the best checkpoint, save it as a model, and measure it on validation and test rows."""
    config, splits = prepared.config, prepared.splits
    if state.best is None:
        raise TenorError("no validation took place, so there is no best checkpoint; this is a defect of Tenor")
    best = verify_checkpoint(checkpoint_path(run.checkpoints, state.best.step))
    load_weights(best, prepared.classifier.model)
    digest = save_model(run.model, prepared.classifier, config, best)
    baselines = fit_baselines(splits.train, config, run.baseline)
    results: dict[str, SplitResult] = {}
    for name, rows in present_splits(splits).items():
        if name == "train":
            continue
        with progress_line(console, f"evaluating on {name}", len(rows)) as line:
            logits = predict(prepared.classifier.model, examples[name], prepared.plan, forward, line.advance)
        results[name] = measure_split(rows, logits, baselines.on(rows))
        write_predictions(
            run.predictions / f"{name}.parquet", rows.ids, rows.labels, results[name].probabilities, rows.class_names
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
    outcome.val_metrics, outcome.test_metrics = _summary(written["val"]), _summary(written["test"])
    return RunResult(run, config, results, best.step, digest)


def _summary(split: dict) -> dict:
    """The headline numbers of a split, for the summary's row."""
    kept = ("absent", "n", "accuracy", "accuracy_interval", "macro_f1", "loss", "baselines", "confusion_matrix")
    return {name: split[name] for name in kept if name in split}
