"""A model's logits on the splits of a run → measured results, with the baselines beside them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tenor.config.schema import Config
from tenor.data.dataset import LabelledText
from tenor.data.splits import stratified_rows
from tenor.errors import advice_on_memory
from tenor.evaluation.evaluate import Baselines, SplitResult, accuracy_interval, split_result
from tenor.evaluation.tables import ResultRow
from tenor.inference.logits import softmax
from tenor.measures.intervals import wilson_interval
from tenor.measures.text_baseline import TextBaseline, fit_text_baseline, majority_baseline

BASELINE_CHARACTERS = 50_000_000
"""Half as many again as IMDb's training reviews have; their bigrams take a gigabyte, and more teach it little."""


@dataclass(frozen=True)
class BaselineModels:
    """What a model must beat, trained on the same rows."""

    train_labels: np.ndarray
    text: TextBaseline | str
    """Or the reason why there is none."""

    @property
    def note(self) -> str:
        """What the text baseline could not learn from its rows, or from which of them; empty when all is well."""
        return "" if isinstance(self.text, str) else self.text.note

    def on(self, rows: LabelledText) -> Baselines:
        """Their accuracies on the rows of a split."""
        majority = majority_baseline(self.train_labels, rows.labels, len(rows.class_names))
        if isinstance(self.text, str):
            return Baselines(majority, self.text)
        predicted = self.text.probabilities(rows.texts).argmax(axis=1)
        return Baselines(majority, float((predicted == rows.labels).mean()))


def fit_baselines(train: LabelledText, config: Config, folder: Path) -> BaselineModels:
    """Fit the baselines on the training rows and keep the text baseline in `folder`.

    Of rows with more than `BASELINE_CHARACTERS` the text baseline learns a stratified part, and its note says so.
    """
    if not config.evaluation.text_baseline:
        return BaselineModels(train.labels, "switched off by evaluation.text_baseline")
    with advice_on_memory("in the text baseline", "lower data.subset.size, or set evaluation.text_baseline=false"):
        rows = _within(train, BASELINE_CHARACTERS, config.seed)
        text = fit_text_baseline(rows.texts, rows.labels, len(rows.class_names), config.seed)
    if len(rows) < len(train):
        said = f"learned from {len(rows):,} of {len(train):,} training rows, drawn by class"
        text = replace(text, note=f"{said}; {text.note}" if text.note else said)
    text.save(folder)
    return BaselineModels(train.labels, text)


def _within(rows: LabelledText, characters: int, seed: int) -> LabelledText:
    """As many of the rows, drawn at random from each class, as have about so many characters together."""
    total = sum(map(len, rows.texts))
    if total <= characters:
        return rows
    count = max(len(rows.class_names), len(rows) * characters // total)
    return rows.select(stratified_rows(rows.labels, min(count, len(rows)), seed))


def measure_split(
    rows: LabelledText, logits: np.ndarray, baselines: Baselines, temperature: float = 1.0, folded: float = 1.0
) -> SplitResult:
    """The result of one split; `folded` is the temperature that the classifier's weights hold already."""
    probabilities = softmax(logits, temperature)
    return split_result(rows.labels, probabilities, rows.class_names, baselines, temperature * folded)


def result_rows(model_name: str, split: str, result: SplitResult, confidence: float) -> list[ResultRow]:
    """The lines of the results table for one split: the model, then what it must beat."""
    metrics = result.metrics
    rows = [
        ResultRow(
            model_name,
            split,
            metrics.n,
            metrics.accuracy,
            accuracy_interval(metrics, confidence),
            metrics.macro_f1,
            metrics.loss,
        )
    ]
    named = {"text baseline (NB-weighted bigrams)": result.baselines.text, "majority class": result.baselines.majority}
    for name, accuracy in named.items():
        if isinstance(accuracy, float):
            interval = wilson_interval(round(accuracy * metrics.n), metrics.n, confidence)
            rows.append(ResultRow(name, split, metrics.n, accuracy, interval))
    return rows
