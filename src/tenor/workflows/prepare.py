"""From a configuration to the inputs of the loop; and whether a run's inputs are still the same."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from rich.console import Console

from tenor.checks.catalogue import BY_CODE
from tenor.config.loading import Problem, config_error, load_config, nearest
from tenor.config.schema import Config
from tenor.console.run import progress_line
from tenor.data.batching import Examples, TokenExamples
from tenor.data.dataset import SourceData
from tenor.data.sources import read_source
from tenor.data.splits import Splits, data_fingerprint, data_notes, make_splits, present_splits
from tenor.data.tokenization import (
    Shortened,
    TokenizedText,
    Truncation,
    special_tokens_around,
    tokenize,
    tokenizer_digest,
)
from tenor.errors import UserError, advice_on_memory
from tenor.inference.logits import Forward, predict, token_logits
from tenor.measures.objective import make_objective
from tenor.model.classifier import Classifier, load_classifier, position_count, weights_digest
from tenor.model.device import DTYPES, DevicePlan, Precision, candidate, plan_device
from tenor.model.features import cached_features, can_cache_features, first_token_state, head_logits
from tenor.model.freezing import TrainableParameters, anatomy, freeze
from tenor.model.half_attention import use_half_attention
from tenor.model.speed import read_first_token_only, use_word_dropout
from tenor.runs.directory import RunDirectory
from tenor.runs.environment import package_versions
from tenor.runs.files import sha256_file
from tenor.runs.manifest import Manifest, read_manifest, update_manifest
from tenor.runs.missing import is_missing
from tenor.training.precision import PrecisionChoice, choose_precision
from tenor.training.processes import ALONE, Processes
from tenor.training.recorder import missing_trackers
from tenor.training.task import TrainingTask

HINT = "`tenor rule` lists every rule; a tracker is a package of its name."


def require_available(config: Config) -> None:
    """Raises UserError for unknown rules in `checks.allow` and trackers that are not installed, all at once."""
    if problems := [*_unknown_rules(config), *_missing_trackers(config)]:
        raise config_error(config.name, problems, {}, HINT)


def require_known_rules(config: Config) -> None:
    """Raises UserError for rules in `checks.allow` that do not exist."""
    if problems := list(_unknown_rules(config)):
        raise config_error(config.name, problems, {}, HINT)


def _unknown_rules(config: Config) -> Iterator[Problem]:
    for code in config.checks.allow:
        if code not in BY_CODE:
            near = nearest(code, tuple(BY_CODE))
            advice = f"did you mean {near}?" if near else "expected a rule's code, such as DAT001"
            yield Problem(("checks", "allow", code), f"checks.allow.{code}: there is no such rule; {advice}")


def _missing_trackers(config: Config) -> Iterator[Problem]:
    for name in missing_trackers(config.training.trackers):
        text = f"training.trackers: {name} is not installed; install it or leave it out"
        yield Problem(("training", "trackers"), text)


class RunInputs(Protocol):
    """What the manifest records of any run before its first step."""

    @property
    def splits(self) -> Splits: ...

    @property
    def parameters(self) -> TrainableParameters: ...

    @property
    def plan(self) -> DevicePlan: ...

    @property
    def timings(self) -> dict[str, float]: ...

    @property
    def precision(self) -> PrecisionChoice: ...

    @property
    def processes(self) -> Processes: ...


@dataclass(frozen=True)
class Prepared:
    """Everything before the first step."""

    config: Config
    splits: Splits
    tokens: dict[str, TokenizedText]
    """By split: train, validation and, if the source has one, test."""
    classifier: Classifier
    parameters: TrainableParameters
    plan: DevicePlan
    timings: dict[str, float]
    """Seconds per phase."""
    precision: PrecisionChoice
    """The plan's precision, and why."""
    processes: Processes = ALONE

    @property
    def features_cached(self) -> bool:
        """Whether the encoder runs once and only the head is trained."""
        return can_cache_features(self.classifier.model, self.parameters)


def prepare(
    config: Config,
    given: SourceData | Splits | None = None,
    threads: int | None = None,
    processes: Processes = ALONE,
    precision: Precision | None = None,
) -> Prepared:
    """Read (unless the rows are `given`), split (unless they are split already), tokenize, load and freeze, and choose
    the precision.

    `threads` and `precision`, as an earlier run recorded them, override the configuration's.

    Raises:
        UserError: data, model or settings cannot be used; names the place and the fix.
        TenorError: memory ran out.
    """
    require_available(config)
    plan = plan_of_process(device_plan(config, threads, precision), config, threads, processes)
    started = time.perf_counter()
    with advice_on_memory("while the rows were read", f"give data.source={config.data.source} fewer rows"):
        if isinstance(given, Splits):
            splits = given
        else:
            splits = make_splits(given or read_source(config.data), config.data, config.seed)
    read = time.perf_counter()
    make_objective(config.training, splits.train.labels, splits.train.class_names)  # Refused now, not in the loop.
    classifier = make_classifier(config, splits.train.class_names, plan)
    loaded = time.perf_counter()
    truncation, present = Truncation.of(config.data), present_splits(splits)
    with advice_on_memory("during tokenization", "lower data.subset.size or data.test_size"):
        tokens = {name: tokenize(rows, classifier.tokenizer, truncation) for name, rows in present.items()}
    parameters = freeze(classifier.model, config.model)
    timings = {"read": read - started, "load_model": loaded - read, "tokenize": time.perf_counter() - loaded}
    choice = PrecisionChoice(plan.precision, plan.why)
    prepared = Prepared(config, splits, tokens, classifier, parameters, plan, timings, choice, processes)
    return with_fastest_precision(prepared) if precision is None else prepared


def with_fastest_precision(prepared: Prepared) -> Prepared:
    """With `training.precision=auto` on a processor with 16-bit products, the type that is faster on the run's batches.

    Of several processes the main one measures and tells the others.
    """
    other = candidate(prepared.plan) if prepared.config.training.precision == "auto" else None
    if other is None or prepared.features_cached:  # The head alone is trained.
        return prepared
    started = time.perf_counter()
    task = make_task(prepared, *make_examples(prepared, Console(quiet=True)), Path())
    choice = choose_precision(task, other)
    plan = replace(prepared.plan, precision=choice.precision, why=choice.why)
    timings = {**prepared.timings, "choose_precision": time.perf_counter() - started}
    return replace(prepared, plan=plan, precision=choice, timings=timings)


def make_classifier(config: Config, class_names: tuple[str, ...], plan: DevicePlan) -> Classifier:
    """The encoder with its head, optimized for this device without a change to its results."""
    classifier = load_classifier(config.model, class_names, config.seed, plan.device)
    check_length(classifier, config.data.max_length)
    read_first_token_only(classifier.model)
    if plan.device == "cpu":
        use_word_dropout(classifier.model)
        use_half_attention(classifier.model)
    return classifier


def device_plan(config: Config, threads: int | None = None, precision: Precision | None = None) -> DevicePlan:
    """The device and precision of the run. `threads` and `precision` override the configuration's."""
    training, budget = config.training, config.evaluation.token_budget
    kind, count = precision or training.precision, threads or training.threads
    plan = plan_device(training.device, kind, count, training.token_budget, budget)
    return replace(plan, why=f"{precision}, which the run was started with") if precision is not None else plan


def plan_of_process(plan: DevicePlan, config: Config, threads: int | None, processes: Processes) -> DevicePlan:
    """The plan of one of several processes on a host: its part of the cores, unless a number of threads is given.

    Raises:
        UserError: there are more processes than GPUs, or the device cannot be used by several processes.
    """
    if processes.count == 1:
        return plan
    if plan.device == "mps":
        raise UserError("several processes cannot train on MPS; set training.device=cpu, or start one process")
    if plan.device == "cuda" and processes.on_this_host > torch.cuda.device_count():
        raise UserError(
            f"{processes.on_this_host} processes were started on a machine with {torch.cuda.device_count()} GPUs, "
            f"expected one for each: --nproc-per-node {torch.cuda.device_count()}"
        )
    if threads is None and config.training.threads is None:
        plan = replace(plan, threads=max(1, plan.threads // processes.on_this_host))
        torch.set_num_threads(plan.threads)
    return plan


def make_examples(prepared: Prepared, console: Console) -> tuple[dict[str, Examples], Forward]:
    """The loop's examples by split, and the forward pass for them.

    With a frozen base the encoder runs here, once over every split, unless its features are in the cache.
    """
    model, pad_id = prepared.classifier.model, prepared.classifier.tokenizer.pad_token_id
    tokens: dict[str, Examples] = {
        name: TokenExamples(tokenized, pad_id) for name, tokenized in prepared.tokens.items()
    }
    if not prepared.features_cached:
        return tokens, token_logits
    model.to(prepared.plan.device)
    features: dict[str, Examples] = {
        name: cached_features(model, prepared.tokens[name], _encoder_pass(prepared, name, examples, console))
        for name, examples in tokens.items()
    }
    return features, head_logits


def make_task(prepared: Prepared, examples: dict[str, Examples], forward: Forward, checkpoints: Path) -> TrainingTask:
    """The training task of a prepared run."""
    return TrainingTask(
        model=prepared.classifier.model,
        parameters=prepared.parameters,
        forward=forward,
        train=examples["train"],
        validation=examples["validation"],
        objective=make_objective(
            prepared.config.training, prepared.splits.train.labels, prepared.splits.train.class_names
        ),
        settings=prepared.config.training,
        seed=prepared.config.seed,
        plan=prepared.plan,
        checkpoints=checkpoints,
        short_train=shortened(prepared, examples["train"]),
        processes=prepared.processes,
    )


def shortened(prepared: Prepared, train: Examples) -> Examples | None:
    """The training rows truncated to half of `data.max_length`; None if no step uses them."""
    if prepared.config.training.short_share == 0.0 or not isinstance(train, TokenExamples):
        return None
    data, around = prepared.config.data, special_tokens_around(prepared.classifier.tokenizer)
    truncation = Truncation(max(data.max_length // 2, sum(around) + 1), data.truncation, data.head_share)
    return replace(train, tokens=Shortened(prepared.tokens["train"], truncation, around))


def check_length(classifier: Classifier, max_length: int) -> None:
    """Raises UserError if `max_length` is above the model's number of positions."""
    positions = position_count(classifier.model)
    if positions is not None and max_length > positions:
        raise UserError(f"data.max_length={max_length}, but {classifier.origin} has {positions} positions; lower it")


def _encoder_pass(prepared: Prepared, name: str, examples: Examples, console: Console) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        with progress_line(console, f"encoding {name} once", len(examples)) as line:
            return predict(prepared.classifier.model, examples, prepared.plan, first_token_state, line.advance)

    return run


def record_inputs(run: RunDirectory, prepared: RunInputs, fingerprints: dict[str, str]) -> None:
    """Write fingerprints of the inputs, trainable parameters, device and versions into the manifest."""
    plan, before = prepared.plan, read_manifest(run)
    # A resumed run keeps what was measured when it started.
    choice = asdict(prepared.precision) if is_missing(before.precision_choice) else before.precision_choice
    update_manifest(
        run,
        fingerprints={"config": sha256_file(run.config), **fingerprints},
        threads=plan.threads,
        device=plan.device,
        precision=plan.precision,
        precision_choice=choice,
        processes=prepared.processes.count,
        timings=prepared.timings,
        data_notes=list(data_notes(prepared.splits)),
        trainable=asdict(prepared.parameters.summary()),
        hardware={**before.hardware, "accelerators": list(plan.accelerators)},
    )


def input_fingerprints(prepared: Prepared) -> dict[str, str]:
    """SHA-256 of data, encoder weights and tokenizer."""
    model = prepared.classifier.model
    body = anatomy(model).body
    return {
        "data": data_fingerprint(prepared.splits),
        "encoder_weights": weights_digest({name: p for name, p in model.named_parameters() if name in body}),
        "tokenizer": tokenizer_digest(prepared.classifier.tokenizer),
    }


def recorded_config(run: RunDirectory, manifest: Manifest) -> Config:
    """The configuration in the run's folder. Raises UserError if the file was changed since the run wrote it."""
    config = load_config(run.config)
    written = manifest.fingerprints.get("config")
    if isinstance(written, str) and sha256_file(run.config) != written:
        raise UserError(
            f"{run.config} was changed since the run started; restore it, or start a new run with it: "
            f"tenor train {run.config}"
        )
    return config


def recorded_threads(manifest: Manifest, processes: Processes = ALONE) -> int | None:
    """The CPU threads of each process of a run, if it had as many processes: another number gives other rounding
    errors."""
    is_known = isinstance(manifest.threads, int) and manifest.processes == processes.count
    return manifest.threads if is_known else None  # type: ignore[return-value]


def recorded_precision(manifest: Manifest) -> Precision | None:
    """The precision of a run, which is not chosen again."""
    return manifest.precision if manifest.precision in DTYPES else None  # type: ignore[return-value]


def changed_inputs(manifest: Manifest, fingerprints: Mapping[str, str]) -> list[str]:
    """Which of data, encoder_weights and tokenizer differ from the run's."""
    known = {name: digest for name, digest in manifest.fingerprints.items() if isinstance(digest, str)}
    return [name for name, digest in fingerprints.items() if known.get(name, digest) != digest]


def changed_versions(manifest: Manifest) -> list[str]:
    """A message for every package whose version here differs from the run's."""
    here, then = package_versions(), manifest.versions
    changed = [name for name in then if _known(then[name]) != _known(here.get(name))]
    return [f"{name} was {_known(then[name])}, here it is {_known(here.get(name))}" for name in changed]


def changed_device(manifest: Manifest, prepared: RunInputs) -> list[str]:
    """A message for each difference in device, precision or number of threads."""
    plan = prepared.plan
    here = {
        "device": plan.device,
        "precision": plan.precision,
        "processes": prepared.processes.count,
        "threads": plan.threads,
    }
    then: dict[str, Any] = {name: getattr(manifest, name) for name in here}
    if isinstance(named := manifest.hardware.get("accelerators"), list):
        here["GPU"], then["GPU"] = (", ".join(map(str, names)) or "none" for names in (plan.accelerators, named))
    return [
        f"{name} was {then[name]}, here it is {here[name]}"
        for name in here
        if not is_missing(then[name]) and then[name] != here[name]
    ]


def _known(version: Any) -> str:
    return str(version)[:12] if isinstance(version, str) else "not installed"


def require_same_inputs(processes: Processes, fingerprints: Mapping[str, str]) -> None:
    """Raises UserError in every process if the inputs of one differ from those of process 0."""
    main, *others = processes.gather(dict(fingerprints))
    for rank, other in enumerate(others, 1):
        if differing := [name for name in main if other[name] != main[name]]:
            raise UserError(
                f"process {rank} has other inputs than process 0: {' and '.join(differing)}. Give every machine the "
                "same files, or a shared folder"
            )


def make_accelerator(plan: DevicePlan) -> Accelerator:
    """An accelerator with the plan's device and precision.

    Raises:
        UserError: Accelerate's environment variables choose another device.
    """
    precision = "no" if plan.precision == "fp32" else plan.precision
    # Accelerate keeps one state per process, and an earlier run in it may have set another precision or device.
    current_precision = AcceleratorState().mixed_precision if AcceleratorState._shared_state else precision
    current_device = PartialState().device.type if PartialState._shared_state else plan.device
    if (current_precision, current_device) != (precision, plan.device):
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=plan.device == "cpu", mixed_precision=precision)
    if plan.device == "cpu":
        torch.set_num_threads(plan.threads)  # Among several processes, Accelerate sets a number of its own.
    if accelerator.device.type != plan.device:  # For example because ACCELERATE_USE_CPU is set.
        raise UserError(
            f"Accelerate would train on {accelerator.device}, expected {plan.device}: remove the ACCELERATE_… "
            "variables from the environment, and choose the device with training.device"
        )
    return accelerator
