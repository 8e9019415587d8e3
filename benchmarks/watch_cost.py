"""What `tenor watch` costs a program: time per step, memory, and the start of Python.

The program fine-tunes the embedded encoder in a hand-written loop. Differences of whole runs are smaller than their
noise, so the time is taken inside: everything that the hooks of `tenor watch` do happens in `own_work`, and everything
that the watchdog does in callbacks that it gives to PyTorch; both are timed from their outermost entry to its exit,
after the first step. What the replaced functions cost besides is measured on functions and layers that do nothing, and
added for each call. The first half of the steps has what happens once, such as imports for the first judgement; the
second half has what every step costs. Memory is the largest resident size of a run with the hooks and of one without.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import contextlib, resource, sys, threading, time, types
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

inside, entries = 0.0, 0  # Seconds in Tenor, and how often it was entered.
own = threading.local()

@contextlib.contextmanager
def timed():
    global inside, entries
    is_outermost = not getattr(own, "busy", False)
    own.busy, begun = True, time.perf_counter()
    try:
        yield
    finally:
        if is_outermost:
            own.busy = False
            inside += time.perf_counter() - begun
            entries += 1

def time_callbacks(owner, name):
    register = getattr(owner, name)

    def registered(self, callback, *args, **kwargs):
        def called(*inputs, **named):
            with timed():
                return callback(*inputs, **named)
        return register(self, called, *args, **kwargs)
    setattr(owner, name, registered)

def per_call(function):
    begun = time.perf_counter()
    for _ in range(5000):
        function()
    return (time.perf_counter() - begun) / 5000

def nothing(*args):
    return None

is_watched = "tenor.watch.observer" in sys.modules
per_entry = per_module = 0.0  # Seconds of a hook that does nothing, and of a layer's call that is looked at.
if is_watched:
    from tenor.watch import patches
    hooked = types.SimpleNamespace(plain=nothing, watched=nothing)
    patches.observe(hooked, "watched", nothing)
    per_entry = per_call(hooked.watched) - per_call(hooked.plain)
    layer, module_call = torch.nn.Identity(), torch.nn.Module.__call__
    with patches.own_work():
        per_module = per_call(lambda: module_call(layer, None)) - per_call(
            lambda: module_call.__wrapped__(layer, None)
        )
    original = patches.own_work

    @contextlib.contextmanager
    def timed_work():
        with timed(), original():
            yield

    patches.own_work = timed_work
    # The watchdog has hooks of its own.
    for owner, name in (
        (torch.nn.Module, "register_forward_hook"), (torch.Tensor, "register_hook"),
        (torch.Tensor, "register_post_accumulate_grad_hook"),
        (torch.optim.Optimizer, "register_step_pre_hook"), (torch.optim.Optimizer, "register_step_post_hook"),
    ):
        time_callbacks(owner, name)

halves, layers = [], sum(1 for _ in model.modules())

def end_of_half(steps):
    seconds = time.perf_counter() - started
    halves.append((seconds, inside + entries * per_entry + steps * layers * per_module))

model.train()
for step, (inputs, labels) in enumerate(torch.utils.data.DataLoader(rows, batch_size=16, collate_fn=collate)):
    if step in (1, 1 + steps // 2):
        if step > 1:
            end_of_half(steps // 2)
        inside, entries, started = 0.0, 0, time.perf_counter()
    loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
end_of_half(steps - steps // 2)
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
            print(f"{name} half: {inside:.3f} s in the hooks of {seconds:.1f} s: {inside / seconds:.2%}")
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
