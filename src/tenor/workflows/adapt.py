"""`tenor adapt`: masked-language-model training of an encoder on texts without labels, before it is fine-tuned."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors.torch import load_file

from tenor.config.describe import to_yaml
from tenor.config.schema import Config, Training
from tenor.console.adaptation import show_adaptation, show_adapted
from tenor.console.run import ProgressLine, progress_line
from tenor.data.masking import FIXED, Blocks, MaskedBlocks, Masking, make_blocks, token_counts
from tenor.data.sources import read_source
from tenor.data.splits import Splits, data_fingerprint, make_splits
from tenor.data.tokenization import tokenizer_digest
from tenor.errors import UserError, advice_on_memory, errors_of_run
from tenor.inference.logits import predict
from tenor.measures.masked_tokens import MaskedTokens, unigram_entropy
from tenor.model.classifier import position_count, weights_digest
from tenor.model.device import DevicePlan, Precision, candidate
from tenor.model.freezing import TrainableParameters, anatomy, freeze
from tenor.model.half_attention import use_half_attention
from tenor.model.masked import (
    MaskedModel,
    load_masked_model,
    masked_scores,
    save_masked_model,
    selected_logits,
    start_at_frequencies,
)
from tenor.model.memory import freed_memory_kept
from tenor.model.speed import use_word_dropout
from tenor.runs.adaptation_summary import AdaptationSummary, MaskedLoss, write_adaptation
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, create_run, find_run, locked
from tenor.runs.files import atomic_path, remove_leftovers, sha256_file, write_text
from tenor.runs.manifest import new_manifest, read_manifest, update_manifest
from tenor.runs.missing import missing_because
from tenor.runs.model_notes import WEIGHTS
from tenor.runs.step_records import read_records
from tenor.runs.summary import read_summary
from tenor.training.checkpoint import (
    MODEL,
    TrainState,
    Validation,
    Window,
    checkpoint_path,
    list_checkpoints,
    load_weights,
    verify_checkpoint,
)
from tenor.training.loop import Callbacks, fit
from tenor.training.precision import PrecisionChoice, choose_precision
from tenor.training.processes import ALONE, Processes
from tenor.training.recorder import Recorder
from tenor.training.spread import replicas_for
from tenor.training.task import TrainingTask
from tenor.workflows.corpus import Corpus, read_corpus, without_evaluated
from tenor.workflows.masked_checks import corpus_report, result_report, training_report, with_own_allowances
from tenor.workflows.outcome import Outcome, checkpoint_rows, recorded_outcome
from tenor.workflows.prepare import (
    device_plan,
    make_accelerator,
    record_inputs,
    recorded_config,
    recorded_precision,
    recorded_threads,
    require_available,
)
from tenor.workflows.resuming import require_resumable, require_unchanged, show_differences
from tenor.workflows.run_checks import RunFindings
from tenor.workflows.train import newest_checkpoint, recorded_findings

SUFFIX = "-adapted"
"""Of the folder's name below `runs/`, after the configuration's."""
HELD_OUT_BLOCKS = 512
"""Blocks of the validation rows on which the loss is measured: with 256 tokens each, its standard error is about 0.02
nats."""
NO_TEST = "masked-language-model training has no test result; fine-tune the model and evaluate it"


@dataclass(frozen=True)
class PreparedAdaptation:
    """Everything before the first step."""

    config: Config
    splits: Splits
    corpus: Corpus
    masked: MaskedModel
    blocks: Blocks
    """The corpus."""
    validation: Blocks
    """Of the validation rows, which are not trained on."""
    max_length: int
    unigram_entropy: float
    """Of the corpus' tokens, nats."""
    parameters: TrainableParameters
    plan: DevicePlan
    timings: dict[str, float]
    precision: PrecisionChoice
    processes: Processes = ALONE


@dataclass(frozen=True)
class AdaptationResult:
    """A completed run."""

    run: RunDirectory
    config: Config
    summary: AdaptationSummary


def adapt(config: Config, root: Path = DEFAULT_ROOT, console: Console | None = None) -> AdaptationResult:
    """Start a run below `root` and complete it; its folder is `<name>-adapted/<time>`.

    Raises:
        TenorError: the run failed, was refused or was interrupted, as its folder and the summary record too.
    """
    prepared = prepare_adaptation(config)
    read_summary(root)  # A damaged summary is reported now and not after hours.
    run = create_run(root, f"{config.name}{SUFFIX}")
    with errors_of_run(run.path), locked(run):
        write_text(run.config, to_yaml(config))
        new_manifest(run, config.seed, prepared.plan.accelerators, job="adapt")
        record_inputs(run, prepared, input_fingerprints(prepared))
        return _run(run, root, prepared, console or Console(stderr=True, markup=False), resume=False)


def resume_adaptation(reference: str, root: Path = DEFAULT_ROOT, console: Console | None = None) -> AdaptationResult:
    """Resume an interrupted run from its newest intact checkpoint, with the same result as without the interruption.

    Raises:
        UserError: there is no such run, or it is complete, still running, or not one of `tenor adapt`.
    """
    console = console or Console(stderr=True, markup=False)
    run = find_run(root, reference)
    with errors_of_run(run.path), locked(run):
        manifest = read_manifest(run)
        require_resumable(run, manifest, "adapt")
        config = recorded_config(run, manifest)
        prepared = prepare_adaptation(config, recorded_threads(manifest), recorded_precision(manifest))
        fingerprints = input_fingerprints(prepared)
        require_unchanged(run, manifest, fingerprints)
        show_differences(console, manifest, prepared)
        update_manifest(run, status="running")
        record_inputs(run, prepared, fingerprints)
        remove_leftovers(run.path)
        return _run(run, run.path.parent.parent, prepared, console, resume=True)


def prepare_adaptation(
    config: Config, threads: int | None = None, precision: Precision | None = None
) -> PreparedAdaptation:
    """Read the rows and the corpus, load the encoder with its MLM head, split into blocks, and choose the precision.

    Raises:
        UserError: data, corpus, model or settings cannot be used; names the place and the fix.
    """
    require_available(config)
    settings = config.adaptation
    plan = device_plan(config, threads, precision)
    started = time.perf_counter()
    with advice_on_memory("while the rows were read", f"give data.source={config.data.source} fewer rows"):
        splits = make_splits(read_source(config.data), config.data, config.seed)
        corpus = without_evaluated(read_corpus(settings, splits), settings, splits)
    read = time.perf_counter()
    masked, max_length = _load(config, plan)
    loaded = time.perf_counter()
    embeddings = masked.model.get_input_embeddings().weight.shape[0]
    masking = Masking.of(masked.tokenizer, config.seed, settings.mask_share, embeddings)
    parts = {"the corpus": corpus.rows, "the validation rows": splits.validation}
    with advice_on_memory("during tokenization", "choose a smaller adaptation.corpus"):
        made = {name: make_blocks(rows, masked.tokenizer, masking, max_length) for name, rows in parts.items()}
    if unknown := [name for name, one in made.items() if not len(one)]:
        raise UserError(f"the tokenizer of {masked.origin} knows no word of {unknown[0]}. Choose other texts")
    blocks, validation = made.values()
    counts = token_counts(blocks)
    start_at_frequencies(masked, counts)
    chosen = np.unique(np.linspace(0, len(validation) - 1, HELD_OUT_BLOCKS).astype(int))
    parameters = freeze(masked.model, config.model.model_copy(update={"freeze": "none", "keep_trainable": ()}))
    timings = {"read": read - started, "load_model": loaded - read, "tokenize": time.perf_counter() - loaded}
    prepared = PreparedAdaptation(
        config=config,
        splits=splits,
        corpus=corpus,
        masked=masked,
        blocks=blocks,
        validation=validation.select(chosen),
        max_length=max_length,
        unigram_entropy=unigram_entropy(counts),
        parameters=parameters,
        plan=plan,
        timings=timings,
        precision=PrecisionChoice(plan.precision, plan.why),
    )
    return prepared if precision is not None else _with_fastest_precision(prepared)


def _load(config: Config, plan: DevicePlan) -> tuple[MaskedModel, int]:
    """The masked language model, optimized for this device without a change to its results, and the tokens per block.

    Raises:
        UserError: a model that cannot be used, or with fewer positions than a block has tokens.
    """
    masked = load_masked_model(config.model, config.seed, plan.device)
    key = "data.max_length" if config.adaptation.max_length is None else "adaptation.max_length"
    max_length = config.adaptation.max_length or config.data.max_length
    positions = position_count(masked.model)
    if positions is not None and max_length > positions:
        raise UserError(f"{key}={max_length}, but {masked.origin} has {positions} positions; lower it")
    if plan.device == "cpu":
        use_word_dropout(masked.model)
        use_half_attention(masked.model)
    return masked, max_length


def _with_fastest_precision(prepared: PreparedAdaptation) -> PreparedAdaptation:
    other = candidate(prepared.plan) if prepared.config.training.precision == "auto" else None
    if other is None:
        return prepared
    started = time.perf_counter()
    choice = choose_precision(make_adaptation_task(prepared, Path()), other)
    plan = replace(prepared.plan, precision=choice.precision, why=choice.why)
    timings = {**prepared.timings, "choose_precision": time.perf_counter() - started}
    return replace(prepared, plan=plan, precision=choice, timings=timings)


def loop_settings(config: Config) -> Training:
    """The loop's settings: those of `adaptation`, and of `training` what doesn't depend on the objective."""
    settings = config.adaptation
    changed = {
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "head_learning_rate": None,
        "layer_decay": 1.0,
        "weight_decay": settings.weight_decay,
        "schedule": "linear",
        "warmup": settings.warmup,
        "short_share": 0.0,
        "ema_decay": None,
        "patience": None,
        "select_by": "loss",
    }
    return config.training.model_copy(update=changed)


def make_adaptation_task(prepared: PreparedAdaptation, checkpoints: Path) -> TrainingTask:
    """The training task: batches of masked blocks, other masks in every epoch, the same in every validation."""
    return TrainingTask(
        model=prepared.masked.model,
        parameters=prepared.parameters,
        forward=selected_logits,
        train=MaskedBlocks(prepared.blocks, 0),
        validation=MaskedBlocks(prepared.validation, FIXED),
        objective=MaskedTokens(),
        settings=loop_settings(prepared.config),
        seed=prepared.config.seed,
        plan=prepared.plan,
        checkpoints=checkpoints,
        train_in=partial(MaskedBlocks, prepared.blocks),
        validation_forward=masked_scores,
    )


def input_fingerprints(prepared: PreparedAdaptation) -> dict[str, str]:
    """SHA-256 of data, corpus, encoder weights and tokenizer."""
    model = prepared.masked.model
    body = anatomy(model).body
    return {
        "data": data_fingerprint(prepared.splits),
        "corpus": prepared.corpus.fingerprint,
        "encoder_weights": weights_digest({name: p for name, p in model.named_parameters() if name in body}),
        "tokenizer": tokenizer_digest(prepared.masked.tokenizer),
    }


def _run(
    run: RunDirectory, root: Path, prepared: PreparedAdaptation, console: Console, resume: bool
) -> AdaptationResult:
    config = prepared.config
    with recorded_outcome(run, root, config, "adapt") as outcome:
        console.print(f"run {run.path}", highlight=False, soft_wrap=True)
        findings = RunFindings(run, with_own_allowances(config), console)
        with recorded_findings(outcome, findings):
            task = make_adaptation_task(prepared, run.checkpoints)
            replicas = replicas_for(task.model, task.plan, task.settings.batch_size, task.train, task.forward)
            show_adaptation(console, prepared, replicas)
            findings.add(corpus_report(prepared))
            state = _fit(run, task, config, findings, console, resume)
            findings.add(training_report(run, task, config.checks.allow))
            summary = _finish(run, root, prepared, state, outcome)
            update_manifest(run, timings={"train": state.seconds})
            show_adapted(console, run, summary, config.name)
            findings.add(result_report(config, summary))
    return AdaptationResult(run, config, summary)


def _fit(
    run: RunDirectory, task: TrainingTask, config: Config, findings: RunFindings, console: Console, resume: bool
) -> TrainState:
    """Train, from the start or from the newest intact checkpoint; the loss before the first step is recorded too.

    Raises:
        RefusedError: a rule on the steps so far found an error at a validation, and the policy is to stop.
    """
    checkpoint = newest_checkpoint(run, console) if resume else None
    done = checkpoint.step if checkpoint else 0
    recorder = Recorder(run, task.settings.trackers, done)
    if checkpoint:
        console.print(f"resuming from {checkpoint.path} (step {done:,} of {task.total_steps:,})", highlight=False)
    advice = (
        f"lower training.token_budget (now {task.plan.training_tokens:,} tokens per forward pass) "
        "or adaptation.max_length"
    )

    def check() -> None:
        report = training_report(run, task, config.checks.allow)
        if report.errors and config.checks.policy == "stop":
            findings.add(report)

    try:
        with advice_on_memory("in training", advice), progress_line(console, "step", task.total_steps, done) as line:
            callbacks = make_callbacks(recorder, line, console, check)
            if not any(record["kind"] == "validation" for record in read_records(run.metrics)):
                callbacks.on_validation(Validation(0, 0.0, _before(task)))
            return fit(task, make_accelerator(task.plan), checkpoint, callbacks)
    finally:
        for fault in recorder.close():
            console.print(f"{fault}; metrics.jsonl contains all records", style="red", soft_wrap=True, markup=False)


def _before(task: TrainingTask) -> dict[str, float]:
    """The held-out loss before the first step."""
    task.model.to(task.plan.device)
    with freed_memory_kept():
        outputs = predict(task.model, task.validation, task.plan, masked_scores)
    return task.objective.validation_metrics(task.validation.labels, outputs)[0]


def make_callbacks(recorder: Recorder, line: ProgressLine, console: Console, check: Callable[[], None]) -> Callbacks:
    latest: dict[str, float] = {}

    def on_record(step: int, values: dict[str, float], window: Window) -> None:
        latest.update(values)
        recorder.record("train", step, **values)

    def on_step(state: TrainState) -> None:
        values = latest or {"loss": state.window.mean_loss, "tokens_per_second": state.window.tokens_per_second}
        line.advance(1, f"loss {values['loss']:.3f}  {values['tokens_per_second']:,.0f} tokens/s")

    def on_validation(validation: Validation) -> None:
        recorder.record("validation", validation.step, epoch=validation.epoch, **validation.metrics)
        loss, perplexity = validation.metrics["loss"], validation.metrics["perplexity"]
        console.print(
            f"epoch {validation.epoch:.2f}  held-out loss {loss:.4f}  perplexity {perplexity:,.2f}", highlight=False
        )
        check()

    return Callbacks(on_record=on_record, on_step=on_step, on_validation=on_validation)


def _finish(
    run: RunDirectory,
    root: Path,
    prepared: PreparedAdaptation,
    state: TrainState,
    outcome: Outcome,
) -> AdaptationSummary:
    """Save the best checkpoint as a model, and write the summary."""
    assert state.best is not None  # The last step of every epoch is validated.
    best = verify_checkpoint(checkpoint_path(run.checkpoints, state.best.step))
    load_weights(best, prepared.masked.model)
    with atomic_path(run.model) as temporary:
        temporary.mkdir()
        save_masked_model(temporary, prepared.masked, load_file(best.path / MODEL))
        digest = sha256_file(temporary / WEIGHTS)
    records = read_records(run.metrics)
    before = next(record for record in records if record["kind"] == "validation" and record["step"] == 0)
    names = ("loss", "perplexity", "masked_accuracy")
    summary = AdaptationSummary(
        encoder=prepared.masked.origin,
        head=prepared.masked.head,
        corpus=prepared.corpus.origin,
        texts=len(prepared.corpus.rows),
        tokens=int(prepared.blocks.sizes.sum()),
        blocks=len(prepared.blocks),
        max_length=prepared.max_length,
        mask_share=prepared.config.adaptation.mask_share,
        unigram_entropy=prepared.unigram_entropy,
        held_out_blocks=len(prepared.validation),
        held_out_tokens=int(prepared.validation.selected.sum()),
        before=MaskedLoss(**{name: before[name] for name in names}),
        after=MaskedLoss(**{name: state.best.metrics[name] for name in names}),
        best_step=best.step,
        steps=state.step,
        tokens_seen=state.tokens,
        seconds=state.seconds,
        tokens_per_second=float(np.median([one["tokens_per_second"] for one in records if one["kind"] == "train"])),
        precision=prepared.plan.precision,
        checkpoint_sha256=best.digest,
        weights_sha256=digest,
    )
    write_adaptation(run, summary)
    outcome.best = best
    kept = [verify_checkpoint(path) for path in list_checkpoints(run.checkpoints)]
    outcome.checkpoints = checkpoint_rows(root, kept, state)
    outcome.val_metrics = asdict(summary.after)
    outcome.test_metrics = missing_because(NO_TEST)
    return summary
