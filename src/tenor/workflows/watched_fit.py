"""The loop with all who listen to it: recorder, progress line, watchdog."""

from dataclasses import replace

import numpy as np
from rich.console import Console

from tenor.checks.watchdog import Watchdog
from tenor.data.batching import Examples, TokenExamples
from tenor.data.tokenization import Shortened, Truncation, special_tokens_around
from tenor.errors import advice_on_memory
from tenor.evaluation.plots import confusion_figure
from tenor.inference.logits import Forward
from tenor.measures.metrics import Metrics
from tenor.runs.directory import RunDirectory
from tenor.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    list_checkpoints,
    read_state,
    verify_checkpoint,
)
from tenor.training.loop import Listeners, TrainingTask, fit, make_accelerator
from tenor.training.progress import ProgressLine, progress_line
from tenor.training.recorder import Recorder
from tenor.training.state import TrainState, Validation, Window
from tenor.workflows.findings import RunFindings
from tenor.workflows.follower import NO_ONE, Follower
from tenor.workflows.prepare import Prepared
from tenor.workflows.run_watchdog import make_watchdog, recall, record_and_judge


def watched_fit(
    run: RunDirectory,
    prepared: Prepared,
    examples: dict[str, Examples],
    forward: Forward,
    findings: RunFindings,
    console: Console,
    follower: Follower,
    resume: bool,
) -> TrainState:
    """Train, from the start or from the newest whole checkpoint.

    Raises:
        RefusedError: the watchdog found an error and the policy is to stop.
        TenorError: memory ran out, or the loss is no number.
    """
    config, plan = prepared.config, prepared.plan
    task = make_task(run, prepared, examples, forward)
    checkpoint = newest_checkpoint(run, console) if resume else None
    done = checkpoint.step if checkpoint else 0
    accelerator = make_accelerator(plan)
    recorder = Recorder(run, config.training.trackers, done)
    watchdog = make_watchdog(prepared, task, findings, recorder, console)
    if checkpoint:
        console.print(f"going on from {checkpoint.path} (step {done:,} of {task.total_steps:,})", highlight=False)
        for validation in read_state(checkpoint).validations:  # What was drawn after the checkpoint is drawn again.
            _draw_confusion(recorder, validation, task.class_names)
    mend = (
        f"lower training.token_budget (now {plan.training_tokens:,} tokens per forward pass) "
        f"or data.max_length (now {config.data.max_length})"
    )
    try:
        with advice_on_memory("in training", mend), progress_line(console, "step", task.total_steps, done) as line:
            if checkpoint:
                recall(run, watchdog, done)
            listeners = make_listeners(recorder, line, console, task, watchdog, follower)
            return fit(task, accelerator, checkpoint, listeners)
    finally:
        for fault in recorder.close():
            console.print(
                f"{fault}; metrics.jsonl holds all that it was told", style="red", soft_wrap=True, markup=False
            )
        findings.keep(watchdog.report)


def make_task(run: RunDirectory, prepared: Prepared, examples: dict[str, Examples], forward: Forward) -> TrainingTask:
    """What the loop is to train, of a run that was prepared."""
    return TrainingTask(
        model=prepared.classifier.model,
        learning=prepared.learning,
        forward=forward,
        train=examples["train"],
        validation=examples["validation"],
        class_names=prepared.splits.train.class_names,
        settings=prepared.config.training,
        seed=prepared.config.seed,
        plan=prepared.plan,
        checkpoints=run.checkpoints,
        short_train=shortened(prepared, examples["train"]),
    )


def shortened(prepared: Prepared, train: Examples) -> Examples | None:
    """The training rows cut to half of `data.max_length`; None where no step is to see them so."""
    if prepared.config.training.short_share == 0.0 or not isinstance(train, TokenExamples):
        return None
    data, around = prepared.config.data, special_tokens_around(prepared.classifier.tokenizer)
    truncation = Truncation(max(data.max_length // 2, sum(around) + 1), data.truncation, data.head_share)
    return replace(train, tokens=Shortened(prepared.tokens["train"], truncation, around))


def make_listeners(
    recorder: Recorder,
    line: ProgressLine,
    console: Console,
    task: TrainingTask,
    watchdog: Watchdog,
    follower: Follower = NO_ONE,
) -> Listeners:
    """Recorder, progress line and watchdog, each told what it is to hear."""
    latest: dict[str, float] = {}

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        latest.update(values)
        record_and_judge(recorder, watchdog, step, values, window)

    def on_step(state: TrainState) -> None:
        line.advance(1, _detail(latest or _so_far(state.window)))

    def on_validation(validation: Validation, metrics: Metrics) -> None:
        recorder.record(
            "validation",
            validation.step,
            epoch=validation.epoch,
            accuracy=validation.accuracy,
            macro_f1=validation.macro_f1,
            loss=validation.loss,
        )
        watchdog.check_weights()
        _draw_confusion(recorder, validation, task.class_names)
        console.print(
            f"epoch {validation.epoch:.2f}  validation accuracy {validation.accuracy:.2%}  "
            f"macro F1 {validation.macro_f1:.4f}  loss {validation.loss:.4f}",
            highlight=False,
        )
        follower.on_validation(validation)

    return Listeners(on_start=watchdog.watch, on_record=on_record, on_step=on_step, on_validation=on_validation)


def _draw_confusion(recorder: Recorder, validation: Validation, class_names: tuple[str, ...]) -> None:
    if not recorder.shows_pictures:
        return
    title = f"Validation after step {validation.step}"
    figure = confusion_figure(np.array(validation.confusion), class_names, title)
    recorder.figure("validation/confusion", validation.step, figure)


def _so_far(window: Window) -> dict[str, float]:
    """What is known before the first record: whoever waits sees at once that it learns. One step is no record, since
    the rules that judge the records expect each to rest on many."""
    return {"loss": window.mean_loss, "tokens_per_second": window.tokens_per_second}


def _detail(known: dict[str, float]) -> str:
    rate = f"  rate {known['learning_rate']:.1e}" if "learning_rate" in known else ""
    return f"loss {known['loss']:.3f}{rate}  {known['tokens_per_second']:,.0f} tokens/s"


def newest_checkpoint(run: RunDirectory, console: Console) -> Checkpoint | None:
    """The newest checkpoint whose every byte is as written; a damaged one is told, and the one before it used.

    So must be the best one up to it, which the end of the run takes; where it is not, the run goes back before it.
    """
    for path in reversed(list_checkpoints(run.checkpoints)):
        try:
            found = verify_checkpoint(path)
            best = read_state(found).best
            if best is not None and best.step != found.step:
                verify_checkpoint(run.checkpoint(best.step))
            return found
        except DamagedCheckpointError as damage:
            console.print(
                f"damaged checkpoint: {damage}; trying the one before it", style="red", soft_wrap=True, markup=False
            )
    console.print("no whole checkpoint is there: starting over", style="red")
    return None
