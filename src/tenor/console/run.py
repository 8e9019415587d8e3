"""What a run prints before its first step and at its end."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from tenor.checks.finding import findings_view
from tenor.checks.gather.batches import random_states_kept
from tenor.config.describe import unused_settings
from tenor.config.schema import Config
from tenor.console.numbers import ResultRow, confusion_table, number_facts, per_class_table, result_rows, results_table
from tenor.data.batching import Batch, Examples, TokenExamples, epoch_batches, micro_batches
from tenor.data.dataset import LabelledText, Missing
from tenor.data.splits import data_notes, present_splits
from tenor.data.tokenization import TokenizedText
from tenor.errors import advice_on_memory
from tenor.evaluation.numbers import duration
from tenor.evaluation.results import SplitResult, other_rows, overlap_words
from tenor.inference.logits import token_logits
from tenor.measures.intervals import wilson_interval
from tenor.model.device import DevicePlan, full_precision
from tenor.model.freezing import TrainableParameters, set_training_mode
from tenor.model.notes import Threshold
from tenor.runs.directory import REPORT, RunDirectory
from tenor.training.replicas import replicas_for

if TYPE_CHECKING:
    from tenor.workflows.evaluate import Evaluation
    from tenor.workflows.prepare import Prepared


def show_notes(console: Console, notes: Iterable[str]) -> None:
    """A line for each note."""
    for note in notes:
        console.print(note, style="yellow", highlight=False, soft_wrap=True, markup=False)


FIRST_BATCHES = 5
PROBE_TOKENS = 512
"""Padded tokens of the pass that is timed on a CPU: long enough to be typical, short enough to cost little. A GPU is
timed with a whole batch, within its budget: with few tokens it waits for the program."""


@dataclass(frozen=True)
class Lengths:
    """Tokens per text before truncation, and what truncation takes."""

    median: int
    p90: int
    longest: int
    share_truncated: float
    share_tokens_lost: float


@dataclass(frozen=True)
class Cost:
    """An estimate, from one timed forward (and backward) pass and from the sizes of what is kept."""

    seconds: float
    memory_bytes: int
    """Of the GPU where the run computes on one, else of the process."""
    disk_bytes: int


def first_batch_label_counts(examples: Examples, batch_size: int, seed: int, n_classes: int) -> np.ndarray:
    """Labels of the first batches as collated, shape (batches, K): what the model will really see."""
    batches = epoch_batches(examples.lengths, batch_size, seed, epoch=0)[:FIRST_BATCHES]
    return np.stack([np.bincount(examples.collate(rows).labels.numpy(), minlength=n_classes) for rows in batches])


def measure_lengths(tokens: TokenizedText) -> Lengths:
    """Percentiles and what is cut off."""
    full = tokens.full_lengths
    return Lengths(
        median=int(np.median(full)),
        p90=int(np.percentile(full, 90)),
        longest=int(full.max()),
        share_truncated=float(tokens.truncated.mean()),
        share_tokens_lost=float(1 - tokens.lengths.sum() / full.sum()),
    )


def estimate_cost(
    model: nn.Module,
    parameters: TrainableParameters,
    examples: Examples,
    plan: DevicePlan,
    tokens_to_train: int,
    tokens_to_predict: int,
    kept_checkpoints: int,
    batch_size: int,
    replicas: int = 1,
    kept_per_weight: int = 2,
) -> Cost:
    """Estimate a run from a probe; leaves weights, gradients and random state as they were.

    `kept_per_weight` numbers are kept with every weight that learns: AdamW's two moments, and an average.
    """
    model.to(plan.device)
    held = _memory_in_use(plan)  # Before the probe, whose own memory the first step takes again.
    trained, predicted = _seconds_per_token(model, parameters, examples, plan, batch_size, backward=tokens_to_train > 0)
    seconds = tokens_to_train * trained + tokens_to_predict * predicted
    weights = parameters.total_count * 4
    learned = parameters.trainable_count * 4
    memory = held + (kept_per_weight + replicas) * learned  # Every replica has gradients of its own.
    if tokens_to_train:
        largest_pass = tokens_per_pass(examples.lengths, -(-batch_size // replicas), plan.training_tokens)
        memory += round(replicas * largest_pass * activation_bytes_per_token(model, parameters, examples, plan))
    return Cost(seconds, memory, (kept_checkpoints + 1) * (weights + kept_per_weight * learned) + weights)


def tokens_per_pass(lengths: np.ndarray, share_size: int, token_budget: int) -> int:
    """Padded tokens of the largest forward pass in training: a share's, cut to the budget, and a whole row at least."""
    longest = int(lengths.max())
    return max(longest, min(token_budget, share_size * longest))


def activation_bytes_per_token(
    model: nn.Module, parameters: TrainableParameters, examples: Examples, plan: DevicePlan
) -> float:
    """What a forward pass keeps for its backward pass, per padded token, bytes.

    Told by two passes, over the longest row once and twice: what doesn't grow with the tokens (weights, their copies in
    half precision) is the same in both.
    """
    longest = int(examples.lengths.argmax())
    once, twice = (_bytes_kept(model, parameters, examples, plan, np.full(times, longest)) for times in (1, 2))
    return (twice - once) / int(examples.lengths[longest])


def _bytes_kept(
    model: nn.Module, parameters: TrainableParameters, examples: Examples, plan: DevicePlan, rows: np.ndarray
) -> int:
    """Bytes that a forward pass keeps for its backward pass; memory that several tensors share counts once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    inputs = _on_device(examples.collate(rows), plan)
    with random_states_kept(), torch.enable_grad(), plan.autocast(), hooks:
        set_training_mode(model, parameters)
        logits = model(**inputs).logits  # Held until all is counted: a place that is free again would be given twice.
    del logits
    return sum(kept.values())


def _memory_in_use(plan: DevicePlan) -> int:
    """Bytes that this process holds where it computes."""
    return torch.cuda.memory_allocated() if plan.device == "cuda" else psutil.Process().memory_info().rss


def _on_device(batch: Batch, plan: DevicePlan) -> dict[str, torch.Tensor]:
    return {name: tensor.to(plan.device) for name, tensor in batch.inputs.items()}


def _seconds_per_token(
    model: nn.Module,
    parameters: TrainableParameters,
    examples: Examples,
    plan: DevicePlan,
    batch_size: int,
    backward: bool,
) -> tuple[float, float]:
    """Time one typical forward pass, alone and with its backward pass where asked for, after one that warms up.

    Returns seconds per token of training (0 without a backward pass) and of prediction.
    """
    by_length = np.argsort(examples.lengths, kind="stable")
    middle = by_length[len(by_length) // 2 :][:batch_size]
    tokens = PROBE_TOKENS if plan.device == "cpu" else plan.training_tokens
    batch = examples.collate(micro_batches(middle, examples.lengths, tokens)[0])
    inputs = _on_device(batch, plan)
    forward, both = 0.0, 0.0
    with random_states_kept(), torch.set_grad_enabled(backward), plan.autocast():
        set_training_mode(model, parameters) if backward else model.eval()
        for _ in range(2):
            started = time.perf_counter()
            logits = model(**inputs).logits
            logits[0, 0].item()  # Waits for a GPU.
            forward = time.perf_counter() - started
            if backward:
                logits.float().logsumexp(dim=1).sum().backward()
                next(p.grad for p in model.parameters() if p.grad is not None).sum().item()
                both = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    if plan.precision != "fp32":
        forward = _seconds_of_prediction(model, inputs, plan)
    return both / batch.tokens, forward / batch.tokens


def _seconds_of_prediction(model: nn.Module, inputs: dict[str, torch.Tensor], plan: DevicePlan) -> float:
    """Seconds of one pass as predictions are computed: in float32, also where the training is in 16 bits."""
    model.eval()
    with torch.inference_mode(), full_precision(plan.device):
        for _ in range(2):
            started = time.perf_counter()
            model(**inputs).logits[0, 0].item()  # Waits for a GPU.
    return time.perf_counter() - started


def show_overview(console: Console, prepared: "Prepared") -> None:
    """Labels, what learns, lengths and cost: all that would have to be right for training to be worth its time.

    Last comes what was set and plays no part.
    """
    config, plan, classifier = prepared.config, prepared.plan, prepared.classifier
    train = TokenExamples(prepared.tokens["train"], classifier.tokenizer.pad_token_id)
    first = first_batch_label_counts(
        train, config.training.batch_size, config.seed, len(prepared.splits.train.class_names)
    )
    replicas = replicas_for(classifier.model, plan, config.training.batch_size, train, token_logits)
    lengths, cost = measure_lengths(prepared.tokens["train"]), _cost(prepared, train, replicas)
    show_notes(console, data_notes(prepared.splits))
    console.print(_label_table(prepared, first))
    fresh = ", ".join(classifier.new_weights) or "none: the classifier came with the weights"
    facts = {
        "model": f"{classifier.origin}; drawn anew: {fresh}",
        "trainable": prepared.parameters.summary().describe_trainable(),
        "frozen": f"{prepared.parameters.summary().describe_frozen()}{_once(prepared)}",
        "lengths": f"{lengths.median} tokens (median), {lengths.p90} (90th percentile), {lengths.longest:,} (longest); "
        f"{lengths.share_truncated:.1%} of texts are cut to {config.data.max_length} ({config.data.truncation}), "
        f"{lengths.share_tokens_lost:.1%} of tokens lost",
        "device": f"{plan.device}, {plan.threads} threads; {plan.why}; {plan.training_tokens:,} tokens per pass"
        f"{f', {replicas} passes side by side' if replicas > 1 else ''}",
        "dropout": f"on attention {classifier.attention_dropout:g}{_why_attention_dropout(prepared)}",
        "cost": f"about {duration(cost.seconds)}, {cost.memory_bytes / 2**30:.1f} GB of {_memory(plan)} and "
        f"{cost.disk_bytes / 2**30:.2f} GB of disk",
    }
    if config.data.exclude is not None:
        facts["left out"] = f"{prepared.splits.excluded:,} training rows that {config.data.exclude} names"
    console.print(_fact_table(facts))
    show_unused(console, config)


def show_unused(console: Console, config: Config) -> None:
    """A line for each setting that changes nothing."""
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
    """The table of results, and where everything lies."""
    rows = [
        row
        for split, found in results.items()
        for row in result_rows(config.name, split, found, config.evaluation.confidence)
    ]
    console.print()
    console.print(results_table(rows))
    if isinstance(test, Missing):
        console.print(f"no test result: {test.reason}", style="yellow")
    last = results.get("test", results["validation"])
    console.print(per_class_table(last.metrics))
    console.print(confusion_table(last.metrics.confusion, [one.name for one in last.metrics.per_class]))
    split = "test" if "test" in results else "validation"
    numbers = number_facts(split, last, config.evaluation.confidence, config.seed)
    console.print(_fact_table({**numbers, **_places(run, config, split, timings)}))


def show_evaluation(console: Console, found: "Evaluation", kept: Path | None = None) -> None:
    """A saved model's result on one set of rows, which weights gave it, what the rules say, and where it is kept."""
    confidence = found.config.evaluation.confidence
    console.print(f"{found.run.reference} on {found.origin}", highlight=False, soft_wrap=True, markup=False)
    rows = result_rows(found.run.config_name, found.split, found.result, confidence)
    console.print(results_table([*rows, *_without_own_rows(found)]))
    console.print(per_class_table(found.result.metrics))
    console.print(confusion_table(found.result.metrics.confusion, [one.name for one in found.result.metrics.per_class]))
    weights = f"{found.run.model / 'model.safetensors'}, SHA-256 {found.weights_sha256}, step {found.step:,}"
    numbers = number_facts(found.split, found.result, confidence, found.config.seed)
    threshold = {} if found.threshold is None else {"threshold": _threshold_told(found, found.threshold)}
    overlap = {"own rows": overlap_words(found.overlap, found.result, confidence)}
    if not isinstance(found.checks, Missing) and found.checks.findings:
        console.print(findings_view(found.checks.findings))
    console.print(_fact_table({**numbers, **overlap, **threshold, "weights": weights}))
    if kept is not None:
        told = f"report: {kept / REPORT}; numbers and predictions beside it"
        console.print(told, highlight=False, soft_wrap=True, markup=False)


def _without_own_rows(found: "Evaluation") -> list[ResultRow]:
    """The result on the rows that are in none of the run's own splits, where some are and some are not."""
    if isinstance(found.overlap, Missing):
        return []
    n, right = other_rows(found.overlap, found.result)
    if n in (0, len(found.rows)):
        return []
    interval = wilson_interval(right, n, found.config.evaluation.confidence)
    return [ResultRow(found.run.config_name, f"{found.split}, rows that the run did not have", n, right / n, interval)]


def _threshold_told(found: "Evaluation", threshold: Threshold) -> str:
    reached = found.at_threshold(threshold)
    precision, recall = ("none" if share is None else f"{share:.2%}" for share in (reached.precision, reached.recall))
    return (
        f"{threshold}, by which tenor predict decides: on these rows precision {precision}, recall {recall}. "
        "All else here is of the most probable classes"
    )


def _label_table(prepared: "Prepared", first_batches: np.ndarray) -> Table:
    names = prepared.splits.train.class_names
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("labels")
    table.add_column("rows", justify="right")
    shown = names[:4]
    for name in shown:
        table.add_column(Text(name), justify="right")
    if len(names) > len(shown):
        table.add_column(f"+{len(names) - len(shown)} more", justify="right")
    for split, rows in present_splits(prepared.splits).items():
        table.add_row(split, f"{len(rows):,}", *_counts(rows.label_counts(), len(shown)))
    total = first_batches.sum(axis=0)
    table.add_row(f"first {len(first_batches)} batches", f"{total.sum():,}", *_counts(total, len(shown)))
    return table


def _counts(counts: np.ndarray, shown: int) -> list[str]:
    cells = [f"{count:,}" for count in counts[:shown]]
    return [*cells, f"{counts[shown:].sum():,}"] if len(counts) > shown else cells


def _once(prepared: "Prepared") -> str:
    return "; the encoder runs once, the head trains on its features" if prepared.features_cached else ""


def _memory(plan: DevicePlan) -> str:
    return "GPU memory" if plan.device == "cuda" else "memory"


def _why_attention_dropout(prepared: "Prepared") -> str:
    wanted, device = prepared.config.model.attention_dropout, prepared.plan.device
    return " (more takes up to twice the time on a CPU)" if wanted == "auto" and device == "cpu" else ""


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
    mend = f"lower data.max_length (now {prepared.config.data.max_length}), or choose a smaller model.name"
    with advice_on_memory("in the pass that the estimate rests on", mend):
        return estimate_cost(
            model,
            parameters,
            train,
            prepared.plan,
            to_train,
            to_predict,
            kept_checkpoints=training.keep_last + 1,
            batch_size=training.batch_size,
            replicas=replicas,
            kept_per_weight=2 if training.ema_decay is None else 3,
        )


def _places(run: RunDirectory, config: Config, split: str, timings: dict[str, float]) -> dict[str, str]:
    """What lies where, and the commands that go on from here; `split` is the last that was measured."""
    places = {
        "report": str(run.report),
        "model": str(run.model),
        "results": str(run.evaluation),
        "predictions": str(run.predictions),
    }
    if "tensorboard" in config.training.trackers:
        places["curves"] = f"tensorboard --logdir {run.tensorboard}"
    if config.data.source != "given":  # Rows that were handed over are not there any more.
        places["again"] = f"tenor evaluate {run.path}{'' if split == 'test' else f' --split {split}'}"
    seconds = ", ".join(f"{name} {duration(value)}" for name, value in timings.items() if value >= 0.5)
    return {**places, "time": seconds}


def _fact_table(facts: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table
