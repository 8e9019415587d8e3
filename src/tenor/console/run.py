"""What a run prints: before its first step, its progress, and at its end."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tenor.checks.finding import findings_view
from tenor.config.describe import unused_settings
from tenor.config.schema import Config
from tenor.console.numbers import ResultRow, confusion_table, detail_facts, per_class_table, result_rows, results_table
from tenor.data.batching import Examples, TokenExamples, epoch_batches
from tenor.data.dataset import LabelledText
from tenor.data.splits import Splits, data_notes, present_splits
from tenor.errors import advice_on_memory
from tenor.evaluation.formatting import duration
from tenor.evaluation.results import SplitResult, other_rows, overlap_text
from tenor.inference.logits import token_logits
from tenor.measures.intervals import wilson_interval
from tenor.model.device import DevicePlan
from tenor.runs.directory import REPORT, RunDirectory
from tenor.runs.missing import Missing
from tenor.runs.model_notes import Threshold
from tenor.training.cost import Cost, estimate_cost, measure_lengths
from tenor.training.spread import replicas_for

if TYPE_CHECKING:
    from tenor.workflows.evaluate import EvaluationResult
    from tenor.workflows.prepare import Prepared


def show_notes(console: Console, notes: Iterable[str]) -> None:
    """Print one line per note."""
    for note in notes:
        console.print(note, style="yellow", highlight=False, soft_wrap=True, markup=False)


FIRST_BATCHES = 5


def first_batch_label_counts(examples: Examples, batch_size: int, seed: int, n_classes: int) -> np.ndarray:
    """Label counts of the first batches as the model receives them, shape (batches, K)."""
    batches = epoch_batches(examples.lengths, batch_size, seed, epoch=0)[:FIRST_BATCHES]
    return np.stack([np.bincount(examples.collate(rows).labels.numpy(), minlength=n_classes) for rows in batches])


def show_overview(console: Console, prepared: "Prepared") -> None:
    """Print what should be checked before training starts: labels, trainable parameters, lengths, device and cost.

    Settings without effect come last.
    """
    config, plan, classifier = prepared.config, prepared.plan, prepared.classifier
    train = TokenExamples(prepared.tokens["train"], classifier.tokenizer.pad_token_id)
    first = first_batch_label_counts(
        train, config.training.batch_size, config.seed, len(prepared.splits.train.class_names)
    )
    share_size = -(-config.training.batch_size // prepared.processes.count)
    replicas = replicas_for(classifier.model, plan, share_size, train, token_logits)
    lengths, cost = measure_lengths(prepared.tokens["train"]), _cost(prepared, train, replicas)
    show_notes(console, data_notes(prepared.splits))
    console.print(_label_table(prepared.splits, first))
    new = ", ".join(classifier.new_weights) or "nothing; the checkpoint contains a classifier"
    facts = {
        "model": f"{classifier.origin}; newly initialized: {new}",
        "trainable": prepared.parameters.summary().describe_trainable(),
        "frozen": f"{prepared.parameters.summary().describe_frozen()}{_once(prepared)}",
        "lengths": f"{lengths.median} tokens (median), {lengths.p90} (90th percentile), {lengths.longest:,} (longest); "
        f"{lengths.share_truncated:.1%} of texts are truncated to {config.data.max_length} tokens "
        f"({config.data.truncation}), {lengths.share_tokens_lost:.1%} of tokens are lost",
        "device": f"{_processes(prepared)}{plan.device}, {plan.threads} threads; {plan.why}; "
        f"{plan.training_tokens:,} tokens per forward pass"
        f"{f', {replicas} passes in parallel' if replicas > 1 else ''}",
        "dropout": f"attention {classifier.attention_dropout:g}{_why_attention_dropout(prepared)}",
        "cost": f"about {duration(cost.seconds)}, {cost.memory_bytes / 2**30:.1f} GB of {_memory(plan)} and "
        f"{cost.disk_bytes / 2**30:.2f} GB of disk",
    }
    if config.data.exclude is not None:
        facts["excluded"] = f"{prepared.splits.excluded:,} training rows listed in {config.data.exclude}"
    console.print(fact_table(facts))
    show_unused(console, config)


def show_unused(console: Console, config: Config) -> None:
    """Print one line per setting that has no effect."""
    for line in unused_settings(config):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)


def show_finish(
    console: Console,
    run: RunDirectory,
    config: Config,
    results: dict[str, SplitResult],
    test: LabelledText | Missing,
    timings: dict[str, float],
) -> None:
    """Print the results, and the paths of the run's files."""
    rows = [
        row
        for split, result in results.items()
        for row in result_rows(config.name, split, result, config.evaluation.confidence)
    ]
    console.print()
    console.print(results_table(rows))
    if isinstance(test, Missing):
        console.print(f"no test result: {test.reason}", style="yellow")
    last = results.get("test", results["validation"])
    console.print(per_class_table(last.metrics))
    console.print(confusion_table(last.metrics.confusion, [one.name for one in last.metrics.per_class]))
    split = "test" if "test" in results else "validation"
    numbers = detail_facts(split, last, config.evaluation.confidence, config.seed)
    console.print(fact_table({**numbers, **_places(run, config, split, timings)}))


def show_evaluation(console: Console, evaluation: "EvaluationResult", kept: Path | None = None) -> None:
    """Print a saved model's result on one set of rows, its weights, the findings, and the written files."""
    confidence = evaluation.config.evaluation.confidence
    console.print(f"{evaluation.run.reference} on {evaluation.origin}", highlight=False, soft_wrap=True, markup=False)
    rows = result_rows(evaluation.run.config_name, _rows_label(evaluation), evaluation.result, confidence)
    console.print(results_table([*rows, *_without_own_rows(evaluation)]))
    console.print(per_class_table(evaluation.result.metrics))
    console.print(
        confusion_table(evaluation.result.metrics.confusion, [one.name for one in evaluation.result.metrics.per_class])
    )
    weights = (
        f"{evaluation.run.model / 'model.safetensors'}, SHA-256 {evaluation.weights_sha256}, step {evaluation.step:,}"
    )
    numbers = detail_facts(evaluation.split, evaluation.result, confidence, evaluation.config.seed)
    threshold = {} if evaluation.threshold is None else {"threshold": _threshold_text(evaluation, evaluation.threshold)}
    overlap = {"overlap": overlap_text(evaluation.overlap, evaluation.result, confidence)}
    if not isinstance(evaluation.checks, Missing) and evaluation.checks.findings:
        console.print(findings_view(evaluation.checks.findings))
    console.print(fact_table({**numbers, **overlap, **threshold, "weights": weights}))
    show_notes(console, evaluation.unlike.notes)
    if kept is not None:
        message = f"report: {kept / REPORT}; numbers and predictions are in the same folder"
        console.print(message, highlight=False, soft_wrap=True, markup=False)


def _rows_label(evaluation: "EvaluationResult") -> str:
    """The split, and how many of its rows are no test of the model: a figure on training rows never stands alone."""
    if isinstance(evaluation.overlap, Missing) or evaluation.split == "train":
        return evaluation.split
    n, in_train = len(evaluation.rows), int(evaluation.overlap.in_train.sum())
    return f"{evaluation.split}, {in_train:,} of {n:,} rows trained on" if in_train else evaluation.split


def _without_own_rows(evaluation: "EvaluationResult") -> list[ResultRow]:
    """The result on the rows that are in neither the training nor the validation split, if only some rows are."""
    if isinstance(evaluation.overlap, Missing):
        return []
    n, right = other_rows(evaluation.overlap, evaluation.result)
    if n in (0, len(evaluation.rows)):
        return []
    interval = wilson_interval(right, n, evaluation.config.evaluation.confidence)
    return [ResultRow(evaluation.run.config_name, f"{evaluation.split}, rows new to the run", n, right / n, interval)]


def _threshold_text(evaluation: "EvaluationResult", threshold: Threshold) -> str:
    reached = evaluation.at_threshold(threshold)
    precision, recall = ("none" if share is None else f"{share:.2%}" for share in (reached.precision, reached.recall))
    return (
        f"{threshold}, used by tenor predict: on these rows precision {precision}, recall {recall}. "
        "All other numbers here use the most probable class"
    )


def show_labels(console: Console, splits: Splits) -> None:
    """Print the rows and the classes of each split."""
    console.print(_label_table(splits))


MOST_CLASSES = 6
"""Columns of the table of classes; one more is shown as well, in the place of `+1 more`."""


def _label_table(splits: Splits, first_batches: np.ndarray | None = None) -> Table:
    names = splits.train.class_names
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("labels")
    table.add_column("rows", justify="right")
    shown = names if len(names) <= MOST_CLASSES + 1 else names[:MOST_CLASSES]
    for name in shown:
        table.add_column(Text(name), justify="right")
    if len(names) > len(shown):
        table.add_column(f"+{len(names) - len(shown)} more", justify="right")
    for split, rows in present_splits(splits).items():
        table.add_row(split, f"{len(rows):,}", *_counts(rows.label_counts(), len(shown)))
    if first_batches is None:
        return table
    total = first_batches.sum(axis=0)
    table.add_row(f"first {len(first_batches)} batches", f"{total.sum():,}", *_counts(total, len(shown)))
    return table


def _counts(counts: np.ndarray, shown: int) -> list[str]:
    cells = [f"{count:,}" for count in counts[:shown]]
    return [*cells, f"{counts[shown:].sum():,}"] if len(counts) > shown else cells


def _once(prepared: "Prepared") -> str:
    return "; the encoder runs once and the head trains on its features" if prepared.features_cached else ""


def _processes(prepared: "Prepared") -> str:
    count = prepared.processes.count
    return f"{count} processes, each with " if count > 1 else ""


def _memory(plan: DevicePlan) -> str:
    return "GPU memory" if plan.device == "cuda" else "memory"


def _why_attention_dropout(prepared: "Prepared") -> str:
    wanted, device = prepared.config.model.attention_dropout, prepared.plan.device
    return " (more than 0 takes up to twice the time on a CPU)" if wanted == "auto" and device == "cpu" else ""


def _cost(prepared: "Prepared", train: TokenExamples, replicas: int) -> Cost:
    training = prepared.config.training
    tokens = {name: int(split.lengths.sum()) for name, split in prepared.tokens.items()}
    validations = training.epochs / training.evaluate_every
    if prepared.features_cached:
        to_train, to_predict = 0, sum(tokens.values())
    else:
        short = int(np.minimum(train.lengths, prepared.config.data.max_length // 2).sum())
        to_train = training.epochs * round(training.short_share * short + (1 - training.short_share) * tokens["train"])
        to_predict = round((validations + 1) * tokens["validation"]) + tokens.get("test", 0)
    model, parameters = prepared.classifier.model, prepared.parameters
    fix = f"lower data.max_length (now {prepared.config.data.max_length}), or choose a smaller model.name"
    with advice_on_memory("in the timed pass of the cost estimate", fix):
        return estimate_cost(
            model,
            parameters,
            train,
            prepared.plan,
            to_train // prepared.processes.count,
            to_predict // prepared.processes.count,
            kept_checkpoints=training.keep_last + 1,
            batch_size=-(-training.batch_size // prepared.processes.count),
            replicas=replicas,
            kept_per_weight=2 if training.ema_decay is None else 3,
            tokens_per_second=prepared.precision.tokens_per_second.get(prepared.plan.precision),
        )


def _places(run: RunDirectory, config: Config, split: str, timings: dict[str, float]) -> dict[str, str]:
    """Paths of the run's files, and the commands to continue with; `split` is the last that was evaluated."""
    places = {
        "report": str(run.report),
        "model": str(run.model),
        "results": str(run.evaluation),
        "predictions": str(run.predictions),
    }
    if "tensorboard" in config.training.trackers:
        places["curves"] = f"tensorboard --logdir {run.tensorboard}"
    if config.data.source != "given":  # Rows that were passed in Python are not stored.
        places["evaluate"] = f"tenor evaluate {run.path}{'' if split == 'test' else f' --split {split}'}"
    seconds = ", ".join(f"{name} {duration(value)}" for name, value in timings.items() if value >= 0.5)
    return {**places, "time": seconds}


def fact_table(facts: dict[str, str]) -> Table:
    """A line per fact, after its name."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table


PLAIN_INTERVAL_SECONDS = 15.0


@dataclass
class ProgressLine:
    """One job with a known number of units, shown live or as a plain line every 15 seconds."""

    console: Console
    title: str
    total: int
    live: Progress | None
    task: TaskID | None
    done: int = 0
    started_at: int = 0
    """Units that were done before this process started."""
    started: float = field(default_factory=time.monotonic)
    printed: float = 0.0

    def advance(self, units: int, detail: str = "") -> None:
        self.done += units
        if self.live is not None and self.task is not None:
            self.live.update(self.task, completed=self.done, detail=detail)
        elif time.monotonic() - self.printed >= PLAIN_INTERVAL_SECONDS or self.done == self.total:
            self.printed = time.monotonic()
            self.console.print(
                f"{self.title} {self.done:,}/{self.total:,}  {detail}  {_clock(self._seconds_left())} left",
                highlight=False,
                soft_wrap=True,
            )

    def _seconds_left(self) -> float:
        rate = (self.done - self.started_at) / max(time.monotonic() - self.started, 1e-9)
        return (self.total - self.done) / rate if rate else 0.0


@contextmanager
def progress_line(console: Console, title: str, total: int, done: int = 0) -> Iterator[ProgressLine]:
    """Show a job of `total` units, of which `done` are finished already."""
    if not console.is_terminal:
        yield ProgressLine(console, title, total, None, None, done, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(title, total=total, completed=done, detail="")
        yield ProgressLine(console, title, total, live, task, done, done)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
