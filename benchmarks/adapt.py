"""`make bench-adapt`: masked-language-model training next to `transformers.Trainer`, on MiniLM and embedded reviews.

Every round runs all peers in turn, each in a process of its own, so that what disturbs the machine disturbs all; ratios
are taken within a round. Speed counts real tokens of the steps after the first three. `Trainer` is given what its own
example does (run_mlm.py): all texts joined and split into full blocks, so that it has no padding.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peak import best_product, machine, types
from training.own_process import in_own_process
from training.peers import WARM_UP

PEAK_SIZE = 2048


@dataclass(frozen=True)
class Peer:
    """One way to train."""

    name: str
    of_tenor: bool
    batch_size: int
    bf16: bool
    attention_dropout: float


def peers() -> list[Peer]:
    """Tenor in the faster type; `Trainer` as it comes, and with larger batches, fused attention and each type."""
    half = "bf16" in types()
    tuned = [Peer(f"Trainer, tuned, {'bf16' if bf16 else 'fp32'}", False, 32, bf16, 0.0) for bf16 in {False, half}]
    return [
        Peer(f"Tenor, {'bf16' if half else 'fp32'}", True, 32, half, 0.0),
        Peer("Trainer, default", False, 8, False, 0.1),
        *sorted(tuned, key=lambda peer: peer.name, reverse=True),
    ]


def main() -> None:
    options = _options()
    print(machine())
    for name, dtype in types().items():
        print(f"{name}: {best_product(PEAK_SIZE, dtype=dtype):.0f} GFLOP/s, products of {PEAK_SIZE}")
    print(f"MiniLM-L6, {options.length} tokens, {options.threads} threads, {options.rounds} rounds, tokens/s")
    speeds: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for peer in peers():
            with tempfile.TemporaryDirectory() as folder:
                arguments = (peer, options.length, options.tokens, options.threads, Path(folder))
                speed = in_own_process(options.threads, run, *arguments)
            speeds.setdefault(peer.name, []).append(speed)
            print(f"  round {number + 1}  {peer.name:24} {speed:8,.0f}", flush=True)
    ours = speeds[peers()[0].name]
    for name, found in speeds.items():
        ratios = [one / other for one, other in zip(ours, found, strict=True)]
        print(
            f"{name:24} median {statistics.median(found):8,.0f}  ({min(found):,.0f} to {max(found):,.0f})"
            f"   Tenor is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def run(peer: Peer, length: int, tokens: int, threads: int, folder: Path) -> float:
    """Real tokens per second of a peer, over about so many tokens."""
    return _tenor(peer, length, tokens, threads, folder) if peer.of_tenor else _trainer(peer, length, tokens, folder)


def _steps(peer: Peer, length: int, tokens: int) -> int:
    return max(2, round(tokens / (peer.batch_size * length)))


class _EnoughError(Exception):
    """As many steps were made as were asked for."""


def _tenor(peer: Peer, length: int, tokens: int, threads: int, folder: Path) -> float:
    """`tenor adapt`'s loop with its records."""
    from rich.console import Console

    from tenor.config.loading import load_config
    from tenor.console.run import progress_line
    from tenor.runs.directory import RunDirectory
    from tenor.training.checkpoint import TrainState
    from tenor.training.loop import Callbacks, fit
    from tenor.training.recorder import Recorder
    from tenor.workflows.adapt import make_adaptation_task, make_callbacks, prepare_adaptation
    from tenor.workflows.prepare import make_accelerator

    config = load_config(
        "demo",
        [
            f"data.max_length={length}",
            f"training.threads={threads}",
            f"training.precision={'bf16' if peer.bf16 else 'fp32'}",
            f"adaptation.batch_size={peer.batch_size}",
        ],
    )
    prepared, run_folder = prepare_adaptation(config), RunDirectory(folder)
    task = make_adaptation_task(prepared, run_folder.checkpoints)
    recorder = Recorder(run_folder, config.training.trackers)
    quiet, steps = Console(quiet=True), _steps(peer, length, tokens)
    seen: list[tuple[float, int]] = []
    with progress_line(quiet, "step", task.total_steps) as line:
        heard = make_callbacks(recorder, line, quiet, lambda: None)

        def on_step(state: TrainState) -> None:
            heard.on_step(state)
            seen.append((time.perf_counter(), state.tokens))
            if len(seen) == WARM_UP + steps:
                raise _EnoughError

        try:
            fit(task, make_accelerator(prepared.plan), None, Callbacks(on_record=heard.on_record, on_step=on_step))
        except _EnoughError:
            pass
        finally:
            recorder.close()
    (started, before), (ended, after) = seen[WARM_UP - 1], seen[-1]
    return (after - before) / (ended - started)


def _trainer(peer: Peer, length: int, tokens: int, folder: Path) -> float:
    """`transformers.Trainer` with its collator for masked language models."""
    import logging

    from transformers import (
        AutoModelForMaskedLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from tenor.data.sources.embedded import embedded_encoder_folder
    from tenor.model.classifier import quiet_transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)
    encoder, steps = embedded_encoder_folder(), _steps(peer, length, tokens)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    with quiet_transformers():
        model = AutoModelForMaskedLM.from_pretrained(encoder, attention_probs_dropout_prob=peer.attention_dropout)
    times: list[float] = []

    class StopWatch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=peer.batch_size,
        max_steps=WARM_UP + steps,
        use_cpu=True,
        bf16=peer.bf16,
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_full_blocks(tokenizer, length),  # type: ignore[arg-type]  # A list serves as a dataset.
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
        callbacks=[StopWatch()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return steps * peer.batch_size * length / (times[-1] - times[WARM_UP - 1])


def _full_blocks(tokenizer: Any, length: int) -> list[dict[str, list[int]]]:
    """The texts that Tenor trains on, joined with their special tokens and split into full blocks."""
    from tenor.config.loading import load_config
    from tenor.data.sources import read_source
    from tenor.data.splits import make_splits

    config = load_config("demo")
    splits = make_splits(read_source(config.data), config.data, config.seed)
    ids = [token for row in tokenizer(list(splits.train.texts), verbose=False)["input_ids"] for token in row]
    return [{"input_ids": ids[start : start + length]} for start in range(0, len(ids) - length + 1, length)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-adapt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=65_536, help="of the timed steps of each peer, about")
    return parser.parse_args()


if __name__ == "__main__":
    main()
