"""Results of a split from logits and baselines, the hybrid, and overlap with the rows that the run was trained on."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tenor.checks.evidence.data_evidence import OverlapEvidence
from tenor.checks.rules.dat_splits import distinct
from tenor.checks.rules.shared import text_keys
from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.data.splits import Splits, stratified_rows
from tenor.data.tokenization import ROWS_PER_CHUNK, TokenizedText, special_tokens_around
from tenor.data.unlike_texts import UnlikeTexts, profile_of
from tenor.errors import UserError, advice_on_memory
from tenor.evaluation.results import Baselines, SplitResult, split_result
from tenor.inference.texts import content_counts
from tenor.measures.hybrid import FEWEST_ROWS, FoldComparison, Hybrid, compare_by_folds, fit_stacker
from tenor.measures.intervals import wilson_interval
from tenor.measures.objective import class_probabilities
from tenor.measures.text_baseline import TextBaseline, fit_text_baseline, majority_baseline
from tenor.runs.directory import RunDirectory
from tenor.runs.missing import Missing
from tenor.runs.model_notes import TrainingTexts, update_model_notes
from tenor.runs.text_keys import read_text_keys, write_text_keys


def keep_text_keys(run: RunDirectory, splits: Splits) -> None:
    """Write the keys of the run's distinct training and validation texts, 8 bytes per text."""
    rows = {"train": splits.train, "validation": splits.validation}
    write_text_keys(run.text_keys, {name: distinct(text_keys(split.texts)) for name, split in rows.items()})


def keep_text_profile(run: RunDirectory, train: LabelledText) -> None:
    """Add what the training texts are recognized by to the model's notes."""
    update_model_notes(run.model, training_texts=profile_of(train.texts).model_dump(mode="json"))


def find_unlike_texts(
    rows: LabelledText, tokens: TokenizedText, tokenizer: Any, known: TrainingTexts | None
) -> UnlikeTexts:
    """Which of the evaluated rows are unlike the training texts."""
    unlike, around = UnlikeTexts(known), special_tokens_around(tokenizer)
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        texts = rows.texts[start : start + ROWS_PER_CHUNK]
        ids = (tokens.row(start + position) for position in range(len(texts)))
        counts = content_counts(ids, around, tokenizer.unk_token_id)
        unlike.add(texts, *counts, partial(_place, start))
    return unlike


def _place(start: int, position: int) -> str:
    return f"row {start + position + 1:,}"


def find_overlap(run: RunDirectory, rows: LabelledText, split: str) -> OverlapEvidence | Missing:
    """Which of the evaluated rows have a training or a validation text of the run; Missing if its keys cannot
    be read."""
    try:
        known = read_text_keys(run.text_keys)
    except UserError as error:
        return Missing(f"not compared with the run's own rows: {error}")
    keys = text_keys(rows.texts)
    in_train = np.isin(keys, known["train"])
    return OverlapEvidence(split, rows.texts, in_train, np.isin(keys, known["validation"]) & ~in_train)


def count_training_texts(run: RunDirectory, texts: Iterable[str]) -> int:
    """How many of the texts are training texts of the run. Raises UserError if its keys cannot be read."""
    return int(np.isin(text_keys(texts), read_text_keys(run.text_keys)["train"]).sum())


BASELINE_CHARACTERS = 50_000_000
"""1.5 times IMDb's training reviews; their bigrams take a gigabyte, and more rows improve it little."""


@dataclass(frozen=True)
class BaselineModels:
    """The baselines, trained on the same rows as the model."""

    train_labels: np.ndarray
    text: TextBaseline | str
    """A str is the reason why it is missing."""

    @property
    def note(self) -> str:
        """Restrictions of the text baseline's training; empty if there are none."""
        return "" if isinstance(self.text, str) else self.text.note

    def text_scores(self, rows: LabelledText) -> np.ndarray | str:
        """The text baseline's log-probabilities (n, K), or the reason why it is missing."""
        return self.text if isinstance(self.text, str) else self.text.log_probabilities(rows.texts)

    def on(self, rows: LabelledText, text_scores: np.ndarray | str) -> Baselines:
        """The baselines' accuracies on the rows of a split, from the scores of these rows."""
        majority = majority_baseline(self.train_labels, rows.labels, len(rows.class_names))
        return Baselines(majority, text_accuracy(text_scores, rows))


def text_accuracy(scores: np.ndarray | str, rows: LabelledText) -> float | str:
    """The accuracy of scores (n, K) on the rows, or the reason why there are none."""
    return scores if isinstance(scores, str) else float((scores.argmax(axis=1) == rows.labels).mean())


def fit_baselines(train: LabelledText, config: Config, folder: Path) -> BaselineModels:
    """Fit the baselines on the training rows and save the text baseline in `folder`.

    Of rows with more than `BASELINE_CHARACTERS`, the text baseline is trained on a stratified subset, as its note says.
    """
    if not config.evaluation.text_baseline:
        return BaselineModels(train.labels, "switched off by evaluation.text_baseline")
    with advice_on_memory("in the text baseline", "lower data.subset.size, or set evaluation.text_baseline=false"):
        rows = _subset(train, BASELINE_CHARACTERS, config.seed)
        text = fit_text_baseline(rows.texts, rows.labels, len(rows.class_names), config.seed)
    if len(rows) < len(train):
        note = f"trained on a stratified subset of {len(rows):,} of {len(train):,} training rows"
        text = replace(text, note=f"{note}; {text.note}" if text.note else note)
    text.save(folder)
    return BaselineModels(train.labels, text)


def _subset(rows: LabelledText, characters: int, seed: int) -> LabelledText:
    """A random subset, stratified by class, with about `characters` characters in total."""
    total = sum(map(len, rows.texts))
    if total <= characters:
        return rows
    count = max(len(rows.class_names), len(rows) * characters // total)
    return rows.select(stratified_rows(rows.labels, min(count, len(rows)), seed))


@dataclass(frozen=True)
class HybridChoice:
    """Whether the model is a hybrid, and why."""

    hybrid: Hybrid | None
    why: str


def choose_hybrid(
    setting: str,
    baseline: TextBaseline | str,
    encoder: np.ndarray,
    scores: np.ndarray | str,
    rows: LabelledText,
    seed: int,
) -> HybridChoice:
    """Choose by `model.hybrid` and, if it is `auto`, by a paired test on the validation rows.

    `encoder` are the encoder's logits of these rows divided by its temperature, (n, K); `scores` are the baseline's
    log-probabilities, (n, K). A str is the reason why there is no baseline.
    An encoder that has learned nothing gets none: the baseline would hide its failure.
    """
    if setting == "off":
        return HybridChoice(None, "switched off by model.hybrid")
    if isinstance(baseline, str) or isinstance(scores, str):
        return HybridChoice(None, f"there is no text baseline: {baseline if isinstance(baseline, str) else scores}")
    if (reason := _no_hybrid(baseline, encoder, scores, rows)) is not None:
        return HybridChoice(None, reason)
    compared = compare_by_folds(encoder, scores, rows.labels, seed)
    if setting == "auto" and not compared.hybrid_is_better:
        return HybridChoice(None, f"not significantly better than the encoder alone: {_compared(compared)}")
    return HybridChoice(Hybrid(fit_stacker(encoder, scores, rows.labels), baseline), _compared(compared))


def _no_hybrid(baseline: TextBaseline, encoder: np.ndarray, scores: np.ndarray, rows: LabelledText) -> str | None:
    if not baseline.vocabulary:
        return f"the text baseline has no terms: {baseline.note}"
    if not np.isfinite(scores).all():
        return f"the text baseline gives a class the probability 0: {baseline.note}"
    if len(rows) < FEWEST_ROWS:
        return f"{len(rows):,} validation rows are too few to fit it, expected {FEWEST_ROWS} or more"
    right, commonest = int((encoder.argmax(axis=1) == rows.labels).sum()), int(np.bincount(rows.labels).max())
    if wilson_interval(right, len(rows)).low <= commonest / len(rows):
        return (
            f"the encoder's accuracy on the validation rows, {right / len(rows):.2%}, is not significantly above that "
            f"of the majority class, {commonest / len(rows):.2%}"
        )
    return None


def _compared(compared: FoldComparison) -> str:
    return (
        f"validation accuracy {compared.encoder_accuracy:.2%} without and {compared.hybrid_accuracy:.2%} with the text "
        f"baseline (cross-fitted, n = {compared.rows:,}); loss {_lower(compared.loss_difference)}, "
        f"p = {compared.p:.2g}"
    )


def _lower(difference: float) -> str:
    return f"{'lower' if difference >= 0 else 'higher'} by {abs(difference):.4f}"


def measure_split(
    rows: LabelledText,
    logits: np.ndarray,
    baselines: Baselines,
    temperature: float = 1.0,
    folded: float = 1.0,
    hybrid: Hybrid | None = None,
    text_scores: np.ndarray | str = "no text baseline",
) -> SplitResult:
    """The result of one split from the encoder's logits (n, K).

    `folded` is the temperature that is already folded into the weights; `text_scores` (n, K) are required for a hybrid,
    whose logits need no temperature.
    """
    if hybrid is None:
        probabilities = class_probabilities(logits, temperature)
        return split_result(rows.labels, probabilities, rows.class_names, baselines, temperature * folded)
    if isinstance(text_scores, str):
        raise ValueError(f"a hybrid needs the scores of its text baseline: {text_scores}")
    combined = hybrid.stacker.logits(logits / temperature, text_scores)
    with_encoder = replace(baselines, encoder=text_accuracy(logits, rows))
    return split_result(rows.labels, class_probabilities(combined), rows.class_names, with_encoder)
