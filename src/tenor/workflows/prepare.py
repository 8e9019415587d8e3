"""From a configuration to what the loop takes: rows, token ids, model, and what of it learns."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from tenor.config.schema import Config
from tenor.data.batching import Examples, TokenExamples
from tenor.data.dataset import SourceData
from tenor.data.sources import read_source
from tenor.data.splits import Splits, make_splits, present_splits
from tenor.data.tokenization import TokenizedText, Truncation, tokenize
from tenor.errors import UserError, advice_on_memory
from tenor.inference.logits import Forward, predict, token_logits
from tenor.model.classifier import Classifier, load_classifier, position_count
from tenor.model.device import DevicePlan, plan_device
from tenor.model.dropout import use_word_dropout
from tenor.model.features import cached_features, can_cache_features, first_token_state, head_logits
from tenor.model.first_token import read_first_token_only
from tenor.model.freezing import Learning, freeze
from tenor.training.loss import class_weights
from tenor.training.progress import progress_line
from tenor.workflows.availability import require_available


@dataclass(frozen=True)
class Prepared:
    """Everything before the first step."""

    config: Config
    splits: Splits
    tokens: dict[str, TokenizedText]
    """By split: train, validation and, where the source has one, test."""
    classifier: Classifier
    learning: Learning
    plan: DevicePlan
    timings: dict[str, float]
    """Seconds per phase."""

    @property
    def features_cached(self) -> bool:
        """Whether the encoder runs once and only the head trains."""
        return can_cache_features(self.classifier.model, self.learning)


def prepare(config: Config, given: SourceData | None = None, threads: int | None = None) -> Prepared:
    """Read (unless the rows are `given`), split, tokenize, load and freeze. `threads` goes before the configuration's.

    Raises:
        UserError: whatever in data, model or settings can't be used, with the place and the mend.
        TenorError: memory ran out.
    """
    require_available(config)
    plan = device_plan(config, threads)
    started = time.perf_counter()
    with advice_on_memory("while the rows were read", f"give data.source={config.data.source} fewer rows"):
        splits = make_splits(given or read_source(config.data), config.data, config.seed)
    read = time.perf_counter()
    class_weights(config.training, splits.train.labels, len(splits.train.class_names))  # Refused now, not in the loop.
    classifier = make_classifier(config, splits.train.class_names, plan)
    loaded = time.perf_counter()
    truncation, present = Truncation.of(config.data), present_splits(splits)
    with advice_on_memory("while texts became tokens", "lower data.subset.size or data.test_size"):
        tokens = {name: tokenize(rows, classifier.tokenizer, truncation) for name, rows in present.items()}
    learning = freeze(classifier.model, config.model)
    timings = {"read": read - started, "load_model": loaded - read, "tokenize": time.perf_counter() - loaded}
    return Prepared(config, splits, tokens, classifier, learning, plan, timings)


def make_classifier(config: Config, class_names: tuple[str, ...], plan: DevicePlan) -> Classifier:
    """The encoder with its head, as quick on this device as it can be made without a change to what it computes."""
    classifier = load_classifier(config.model, class_names, config.seed, plan.device)
    check_length(classifier, config.data.max_length)
    read_first_token_only(classifier.model)
    if plan.device == "cpu":
        use_word_dropout(classifier.model)
    return classifier


def device_plan(config: Config, threads: int | None = None) -> DevicePlan:
    """Where and how the run computes. `threads` goes before the configuration's."""
    training, budget = config.training, config.evaluation.token_budget
    return plan_device(training.device, training.precision, threads or training.threads, training.token_budget, budget)


def make_examples(prepared: Prepared, console: Console) -> tuple[dict[str, Examples], Forward]:
    """What the loop batches, by split, and the forward pass that belongs to it.

    Below a frozen base the encoder runs here, once over every split, unless its features are in the cache.
    """
    model, pad_id = prepared.classifier.model, prepared.classifier.tokenizer.pad_token_id
    tokens: dict[str, Examples] = {name: TokenExamples(found, pad_id) for name, found in prepared.tokens.items()}
    if not prepared.features_cached:
        return tokens, token_logits
    model.to(prepared.plan.device)
    features: dict[str, Examples] = {
        name: cached_features(model, prepared.tokens[name], _encoder_pass(prepared, name, examples, console))
        for name, examples in tokens.items()
    }
    return features, head_logits


def check_length(classifier: Classifier, max_length: int) -> None:
    """Refuse texts longer than the model has positions for."""
    positions = position_count(classifier.model)
    if positions is not None and max_length > positions:
        raise UserError(f"data.max_length={max_length}, but {classifier.origin} has {positions} positions; lower it")


def _encoder_pass(prepared: Prepared, name: str, examples: Examples, console: Console) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        with progress_line(console, f"encoding {name} once", len(examples)) as line:
            return predict(prepared.classifier.model, examples, prepared.plan, first_token_state, line.advance)

    return run
