"""What `tenor watch` costs a program: time per step, memory, and the start of Python.

The program fine-tunes the embedded encoder in a hand-written loop. Differences of whole runs are smaller than their
noise, so the calls into Tenor are profiled after the first step; the profiler slows these calls, and hardly the rest:
the share is an upper bound. Memory is the largest resident size after the preflight, of a run with the hooks and one
without.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import cProfile, pstats, resource, sys, time
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews

steps, length = int(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
folder = embedded_encoder_folder()
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, attention_probs_dropout_prob=0.0)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
reviews = embedded_reviews().train
rows = torch.randperm(len(reviews), generator=torch.Generator().manual_seed(0))[: 16 * (steps + 1)].tolist()
shape = dict(truncation=True, max_length=length, padding=True, return_tensors="pt")

def collate(batch):
    return tokenizer([reviews.texts[i] for i in batch], **shape), torch.tensor([int(reviews.labels[i]) for i in batch])

profile, started = cProfile.Profile(), 0.0
model.train()
for step, (inputs, labels) in enumerate(torch.utils.data.DataLoader(rows, batch_size=16, collate_fn=collate)):
    if step == 1:
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        profile.enable()
    loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
profile.disable()
seconds = time.perf_counter() - started
stats = pstats.Stats(profile).stats
def is_wrapper(function):  # What it calls is the program's own work.
    return "/tenor/watch/" in function[0] and function[2] in ("call", "observed")
def is_ours(function):
    return any(part in function[0] for part in ("/tenor/watch/", "/tenor/checks/")) and not is_wrapper(function)
inside = sum(own for function, (_, _, own, _, _) in stats.items() if is_wrapper(function))
inside += sum(
    timing[3]
    for function, (_, _, _, _, callers) in stats.items() if is_ours(function)
    for caller, timing in callers.items() if not is_ours(caller)
)
print(f"{seconds},{inside},{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "train.py"
        program.write_text(PROGRAM)
        words = [sys.executable, str(program), str(options.steps), str(options.length)]
        seconds, inside, with_hooks = run(["tenor", "watch", "--output", str(Path(folder) / "w"), "--", *words])
        _, _, without = run(words)
        print(f"{options.steps} steps of 16 reviews at up to {options.length} tokens: {seconds:.1f} s")
        print(f"inside the hooks, at most: {inside:.3f} s = {inside / seconds:.2%} of the time of the steps")
        print(f"largest memory: {with_hooks / 1024:.0f} MiB with the hooks, {without / 1024:.0f} MiB without")
        plain, watched = (median_start(environment) for environment in ({}, hooks(Path(folder))))
        print(f"python -c 'import torch': {plain:.2f} s, with the hooks {watched:.2f} s (medians of 7)")


def run(words: list[str]) -> tuple[float, float, float]:
    """Seconds of the steps, seconds inside Tenor, largest resident size in KiB."""
    if words[0] == "tenor":
        words = [str(Path(sys.executable).with_name("tenor")), *words[1:]]
    done = subprocess.run(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True)
    line = next(line for line in done.stderr.splitlines() if line.count(",") == 2 and line[0].isdigit())
    seconds, inside, largest = map(float, line.split(","))
    return seconds, inside, largest


def hooks(folder: Path) -> dict[str, str]:
    from tenor.watch.settings import WatchSettings

    return WatchSettings(folder / "start").environment()


def median_start(environment: dict[str, str]) -> float:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], env={**os.environ, **environment}, check=True)
        times.append(time.perf_counter() - started)
    return sorted(times)[3]


if __name__ == "__main__":
    main()
