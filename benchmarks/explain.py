"""Integrated gradients: Captum on the plain model, and on the function that Tenor gives it, interleaved.

    python benchmarks/explain.py [--rounds 5] [--texts 6]

Prints, for each length, the error of both against a reference of 500 steps, seconds per text, and their ratio with its
spread. Captum gets its best `internal_batch_size` of several, chosen before the measurement.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as Folder
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients

from tenor.config.schema import Data, Model
from tenor.data.sources import read_source
from tenor.data.tokenization import Truncation, cut, special_tokens_around, whole_ids
from tenor.explanations.explainer import CPU_TOKENS
from tenor.explanations.integrated_gradients import EmbeddedModel, Path, attribute, integral
from tenor.explanations.linear_terms import class_weights
from tenor.inference.engines import fast_model
from tenor.model.classifier import load_classifier, load_saved_classifier
from tenor.model.device import plan_device
from tenor.runs.environment import hardware

LENGTHS = (128, 256)
CAPTUM_STEPS = (16, 20, 32, 50)
"""Of Gauss-Legendre, Captum's default rule; 50 are its default."""
BATCH_SIZES = (4, 8, 16, 32)
REFERENCE_STEPS = 500
"""See the module's description."""


@dataclass(frozen=True)
class Case:
    """A text as both libraries get it."""

    path: Path
    reference: np.ndarray
    """Attributions by token, shape (length,)."""


def captum_attributions(model: Any, case: Case, steps: int, batch_size: int) -> np.ndarray:
    """Captum's attributions by token, from the same baseline."""
    path = case.path

    def score(embeddings: torch.Tensor) -> torch.Tensor:
        return model(inputs_embeds=embeddings).logits @ path.weights

    values = IntegratedGradients(score).attribute(
        path.end[None], path.start[None], n_steps=steps, method="gausslegendre", internal_batch_size=batch_size
    )
    return values[0].sum(dim=-1).detach().numpy()


def error(values: np.ndarray, case: Case) -> float:
    """Summed absolute error relative to the summed absolute reference."""
    return float(np.abs(values - case.reference).sum() / np.abs(case.reference).sum())


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cases(model: EmbeddedModel, tokenizer: Any, length: int, count: int) -> list[Case]:
    """Reviews that are long enough, truncated to `length` tokens."""
    texts = read_source(Data()).test.texts
    around = special_tokens_around(tokenizer)
    chosen = []
    for text in texts:
        (ids,) = whole_ids([text], tokenizer)
        if len(ids) >= length:
            row = cut(ids, Truncation(length, "head", 1.0), around)
            fixed = np.zeros(length, dtype=bool)
            fixed[[0, -1]] = True
            path = model.path(
                {"input_ids": row[None].astype(np.int64)}, fixed, tokenizer.pad_token_id, class_weights(1, 2)
            )
            reference = integral(model, path, REFERENCE_STEPS, CPU_TOKENS)
            chosen.append(Case(path, reference))
        if len(chosen) == count:
            return chosen
    raise SystemExit(f"fewer than {count} reviews of {length} tokens")


def loaded(folder: Folder | None) -> tuple[Any, Any]:
    """A trained model and its tokenizer, or MiniLM with a new head."""
    if folder is not None:
        return load_saved_classifier(folder)
    classifier = load_classifier(Model(name="minilm"), ("negative", "positive"), 0, "cpu")
    return classifier.model.eval(), classifier.tokenizer


def compare(folder: Folder | None, length: int, rounds: int, count: int, all_steps: Sequence[int]) -> None:
    model, tokenizer = loaded(folder)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    ours = EmbeddedModel.of(fast_model(model), model.get_input_embeddings(), "cpu")
    rows = cases(ours, tokenizer, length, count)
    batch_size = min(
        BATCH_SIZES,
        key=lambda size: min(seconds(lambda: captum_attributions(model, rows[0], 32, size)) for _ in range(2)),
    )
    print(f"\n{length} tokens, {count} reviews, {rounds} rounds; Captum's internal_batch_size {batch_size}")
    own = partial(_of_all, rows, lambda case: attribute(ours, case.path, CPU_TOKENS).values)
    own_errors = [error(values, case) for values, case in zip(own(), rows, strict=True)]
    print(f"  Tenor, as many steps as a text needs: {_errors(own_errors)}")
    for steps in all_steps:
        captum = partial(_of_all, rows, lambda case, n=steps: captum_attributions(model, case, n, batch_size))
        same = partial(_of_all, rows, lambda case, n=steps: integral(ours, case.path, n, CPU_TOKENS))
        errors = [error(values, case) for values, case in zip(captum(), rows, strict=True)]
        times = [(seconds(captum), seconds(same), seconds(own)) for _ in range(rounds)]
        of_captum, of_same, of_own = (statistics.median(column) / count for column in zip(*times, strict=True))
        print(
            f"  {steps:3} steps: {_errors(errors)}; Captum {of_captum:.3f} s\n"
            f"      Tenor with the same steps {of_same:.3f} s, {_ratios([one[0] / one[1] for one in times])}; "
            f"as it is {of_own:.3f} s, {_ratios([one[0] / one[2] for one in times])}"
        )


def _errors(errors: list[float]) -> str:
    return f"error {statistics.median(errors):.1e} (median), {max(errors):.1e} (worst)"


def _ratios(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x, {min(ratios):.2f} to {max(ratios):.2f}"


def _of_all(rows: list[Case], work: Callable[[Case], np.ndarray]) -> list[np.ndarray]:
    return [work(case) for case in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--steps", type=int, nargs="+", default=CAPTUM_STEPS)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--model", type=Folder, help="a run's model folder (default: MiniLM with a new head)")
    options = parser.parse_args()
    print(f"{hardware()['cpu']}, {plan_device('cpu', 'fp32').threads} threads, PyTorch {torch.__version__}")
    for length in options.lengths:
        compare(options.model, length, options.rounds, options.texts, options.steps)


if __name__ == "__main__":
    main()
