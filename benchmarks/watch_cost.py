"""What `tenor watch` costs a program: time per step, memory, and the start of Python.

The program fine-tunes the embedded encoder in a hand-written loop. Differences of whole runs are smaller than their
noise, so the calls into Tenor are profiled after the first step; the profiler slows these calls, and hardly the rest:
the share is an upper bound. The first half of the steps has what happens once, such as imports for the first judgement;
the second half has what every step costs. Memory is the largest resident size of a run with the hooks and of one
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

def is_wrapper(function):  # What it calls is the program's own work.
    return "/tenor/watch/" in function[0] and function[2] in ("call", "observed")

def is_ours(function):
    return any(part in function[0] for part in ("/tenor/watch/", "/tenor/checks/")) and not is_wrapper(function)

def inside(profile):
    stats = pstats.Stats(profile).stats
    entered = sum(
        timing[3]
        for function, (_, _, _, _, callers) in stats.items() if is_ours(function)
        for caller, timing in callers.items() if not is_ours(caller)
    )
    return entered + sum(own for function, (_, _, own, _, _) in stats.items() if is_wrapper(function))

profile, halves = None, []

def end_of_half():
    profile.disable()
    halves.append((time.perf_counter() - started, inside(profile)))

model.train()
for step, (inputs, labels) in enumerate(torch.utils.data.DataLoader(rows, batch_size=16, collate_fn=collate)):
    if step in (1, 1 + steps // 2):
        if profile is not None:
            end_of_half()
        profile, started = cProfile.Profile(), time.perf_counter()
        profile.enable()
    loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
end_of_half()
numbers = [number for half in halves for number in half] + [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
print("costs", *numbers, file=sys.stderr)
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
        first, first_inside, later, later_inside, with_hooks = run(
            ["tenor", "watch", "--output", str(Path(folder) / "w"), "--", *words]
        )
        *_, without = run(words)
        print(f"{processor()}; {options.steps} steps of 16 reviews at up to {options.length} tokens, in two halves")
        for name, seconds, inside in (("first", first, first_inside), ("second", later, later_inside)):
            print(f"{name} half: {inside:.3f} s in the hooks, at most, of {seconds:.1f} s: {inside / seconds:.2%}")
        print(f"largest memory: {with_hooks / 1024:.0f} MiB with the hooks, {without / 1024:.0f} MiB without")
        plain, watched = (median_start(environment) for environment in ({}, hooks(Path(folder))))
        print(f"python -c 'import torch': {plain:.2f} s, with the hooks {watched:.2f} s (medians of 7)")


def run(words: list[str]) -> tuple[float, ...]:
    """Seconds of the steps, and those inside Tenor, of each half; the largest resident size in KiB."""
    if words[0] == "tenor":
        words = [sys.executable, "-m", "tenor.cli.main", *words[1:]]
    done = subprocess.run(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True)
    line = next(line for line in done.stderr.splitlines() if line.startswith("costs "))
    return tuple(map(float, line.split()[1:]))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


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
