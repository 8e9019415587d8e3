"""Injected label errors found again: 3% of 2,000 embedded reviews, by features and by method, over three seeds.

What is suspected but was not injected counts as a false alarm here, though some of it is wrong in the data itself.
"""

import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from cleanlab.filter import find_label_issues
from rich.console import Console

from tenor.config.schema import Config, Data
from tenor.data.dataset import LabelledText
from tenor.data.sources import read_source
from tenor.data.splits import stratified_rows
from tenor.measures.calibration import fit_temperature, log_probabilities, with_temperature
from tenor.measures.label_noise import (
    combined,
    features_probabilities,
    suspected_errors,
    words_probabilities,
)
from tenor.workflows.audit import EXCLUDE_BELOW, encoder_features

ROWS, SHARE, SEEDS = 2_000, 0.03, (0, 1, 2)


def main() -> None:
    config = Config(data=Data(max_length=256))
    rows = _reviews(config)
    started = time.perf_counter()
    features = encoder_features(rows, config, Console(stderr=True))
    print(f"{len(rows):,} reviews, {SHARE:.0%} of labels inverted; encoded in {time.perf_counter() - started:.0f} s")
    found: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for seed in SEEDS:
        wrong = np.sort(np.random.default_rng(seed).permutation(len(rows))[: round(SHARE * len(rows))])
        labels = rows.labels.copy()
        labels[wrong] = 1 - labels[wrong]
        words = words_probabilities(rows.texts, labels, 2, seed)
        encoder = features_probabilities(features, labels, 2, seed)
        rights = [(one.argmax(axis=1) == rows.labels).mean() for one in (words, encoder, combined(words, encoder))]
        print(f"draw {seed}: right on {', '.join(f'{share:.1%}' for share in rights)} of the true labels")
        for name, probabilities in {"words": words, "encoder": encoder, "both": combined(words, encoder)}.items():
            suspects = suspected_errors(labels, probabilities)
            by_loss = _by_loss(labels, probabilities)
            calibrated = with_temperature(probabilities, 1.0, fit_temperature(log_probabilities(probabilities), labels))
            for method, chosen in {
                "confident learning": suspects,
                "highest loss, as many": by_loss[: len(suspects)],
                "highest loss, as many as injected": by_loss[: len(wrong)],
                "cleanlab's default (noise rates)": np.flatnonzero(find_label_issues(labels, probabilities, n_jobs=1)),
                f"suspected, label below {EXCLUDE_BELOW}": suspects[
                    calibrated[suspects, labels[suspects]] < EXCLUDE_BELOW
                ],
            }.items():
                hits = len(np.intersect1d(chosen, wrong))
                found.setdefault((name, method), []).append((len(chosen), hits / len(wrong), hits / len(chosen)))
    print(f"{'features':8}  {'method':34} {'suspected':>9}  {'recall':>14}  {'precision':>14}")
    for (name, method), results in found.items():
        counts, recalls, precisions = np.array(results).T
        print(f"{name:8}  {method:34} {counts.mean():9.0f}  {_spread(recalls):>14}  {_spread(precisions):>14}")
    print(f"means and standard deviations over {len(SEEDS)} draws of the wrong labels")


def _reviews(config: Config) -> LabelledText:
    train = read_source(config.data).train
    assert isinstance(train, LabelledText)
    return train.select(stratified_rows(train.labels, ROWS, seed=0))


def _by_loss(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """All rows, those whose label is the least probable first."""
    return np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")


def _spread(values: np.ndarray) -> str:
    return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}%"


if __name__ == "__main__":
    main()
