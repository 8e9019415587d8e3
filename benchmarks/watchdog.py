"""What the watchdog costs: its share of the time of steps of the embedded encoder, in a hand-written loop.

On embedded reviews. It is too little to see by timing loops with and without it; so every call into `tenor.checks` is
timed. The profiler itself slows these calls, and hardly the rest: the share is an upper bound.
"""

import argparse
import cProfile
import pstats
import time

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tenor.checks import Watchdog
from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews

BATCH, RATE, CLIP = 16, 1e-4, 1.0


def main() -> None:
    options = _options()
    folder = embedded_encoder_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # No dropout on attention, as Tenor trains on a CPU: the shorter the step, the larger the share.
    model = AutoModelForSequenceClassification.from_pretrained(folder, attention_probs_dropout_prob=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    rows = embedded_reviews().train
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: BATCH * options.steps].tolist()
    shape = {"truncation": True, "max_length": options.length, "padding": True, "return_tensors": "pt"}

    started = time.perf_counter()
    watchdog = Watchdog(model, optimizer, total_steps=options.steps, clip_at=CLIP, policy="warn")
    made = time.perf_counter() - started

    profile = cProfile.Profile()
    model.train()
    started = time.perf_counter()
    profile.enable()
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        loss = torch.nn.functional.cross_entropy(
            model(**tokenizer([rows.texts[i] for i in batch], **shape)).logits,
            torch.tensor([int(rows.labels[i]) for i in batch]),
        )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        watchdog.step(loss, grad_norm=norm)
    profile.disable()
    seconds = time.perf_counter() - started

    inside = seconds_inside(pstats.Stats(profile), "/tenor/checks/")
    print(f"{options.steps} steps of {BATCH} reviews at up to {options.length} tokens: {seconds:.1f} s")
    print(f"inside the watchdog, at most: {inside:.3f} s = {inside / seconds:.2%} of the time of the steps")
    print(f"once, before the first step: {made:.2f} s (digests of all weights)")


def seconds_inside(stats: pstats.Stats, folder: str) -> float:
    """Seconds of all calls into files below `folder` from files elsewhere, with all that they called."""
    return sum(
        seconds
        for (file, _, _), (*_, callers) in stats.stats.items()  # type: ignore[attr-defined]
        if folder in file
        for (caller, _, _), (*_, seconds) in callers.items()
        if folder not in caller
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-watchdog")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--length", type=int, default=128)
    return parser.parse_args()


if __name__ == "__main__":
    main()
