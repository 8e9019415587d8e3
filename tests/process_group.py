"""Training tasks in several connected processes, for tests: `python process_group.py FOLDER MODEL` with a launcher's
variables trains every case, and the main process writes what came of it below FOLDER.

One launch trains all cases, since the imports take longer than they do.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, Any]] = {
    # 44 rows make five batches of eight and one of four; a budget of 40 tokens makes unequal numbers of passes.
    "plain": {"token_budget": 40},
    "one row in the last batch": {"rows": 41, "token_budget": 40},
    "frozen layers": {"model": {"freeze": 1}},
    "averaged weights": {"ema_decay": 0.9},
    "class weights": {"rows": 45, "classes": 3, "class_weights": "balanced"},
    "early stopping": {"learning_rate": 0.0, "patience": 2, "epochs": 4},
    "five validation rows": {"validation_rows": 5},
    "one validation row": {"validation_rows": 1},
    "replicas": {"threads": 2},
}
"""Settings of `training_tasks.make_task`, and of `case_task`; all without dropout."""


@dataclass(frozen=True)
class Trained:
    """What a case left behind."""

    weights: dict[str, Any]
    notes: dict[str, Any]


def train_cases(folder: Path, model: Path, count: int) -> dict[str, Trained]:
    """Every case, trained by `count` processes."""
    from safetensors.torch import load_file

    run_group(Path(__file__), str(folder), str(model), count=count)
    return {
        file.stem: Trained(load_file(file), json.loads(file.with_suffix(".json").read_text()))
        for file in folder.glob("*.safetensors")
    }


def run_group(program: Path, *arguments: str, count: int = 2) -> None:
    """Run a program in `count` processes, with what a launcher sets for each."""
    from forked import free_port, launched

    port = free_port()
    paths = os.pathsep.join([str(Path(__file__).parent), *(path for path in sys.path if path)])
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env={**os.environ, **launched(rank, count, port), "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count, "\n".join(out[-3000:] for out in outputs)


def case_task(case: str, folder: Path, model: Path, processes: Any = None, dropout: float = 0.0, **changed: Any) -> Any:
    """The task of a case."""
    from tenor.data.batching import TokenExamples
    from training_tasks import make_task, token_rows

    usual = {"epochs": 2, "evaluate_every": 0.5, "checkpoint_every": 2, "learning_rate": 1e-4}
    settings = {**usual, **CASES[case], **changed}
    rows, threads = settings.pop("validation_rows", 16), settings.pop("threads", 1)
    settings["model"] = {"dropout": dropout, **settings.get("model", {})}
    task = make_task(model, folder / case, **settings)
    validation = TokenExamples(token_rows(rows, 1, len(task.class_names)), 0)
    task = replace(task, validation=validation, plan=replace(task.plan, threads=threads))
    return task if processes is None else replace(task, processes=processes)


def trained(task: Any, resume_from: Any = None, stop_after: int | None = None) -> Trained:
    """Train a task; note the losses of every record and validation, and the rows of every epoch by rank."""
    from training_tasks import cut_after, run_task, weights

    notes: dict[str, list[Any]] = {"losses": [], "validations": [], "rows": [], "digests": []}

    def on_record(step: int, values: dict[str, float], window: Any) -> None:
        notes["losses"].append(
            [step, values["loss"], window.predicted_counts, window.label_counts, values["grad_norm"]]
        )

    def on_validation(validation: Any) -> None:
        notes["validations"].append([validation.step, validation.metrics["loss"], validation.confusion])

    def on_epoch(rows: Any) -> None:
        notes["rows"].append([rows.epoch, rows.first_batch, [one.tolist() for one in rows.by_rank]])

    from tenor.training.loop import Callbacks

    on_step: Callable[[Any], None] = (lambda state: None) if stop_after is None else cut_after(stop_after).on_step
    calls = Callbacks(on_record=on_record, on_step=on_step, on_validation=on_validation, on_epoch=on_epoch)
    state = run_task(task, resume_from, calls)
    return Trained(weights(task), {**notes, "steps": state.step, "best": state.best.step if state.best else 0})


def write(folder: Path, name: str, result: Trained) -> None:
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous() for key, tensor in result.weights.items()}, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(result.notes))


def resumed(folder: Path, name: str, task: Callable[[str], Any], stop_after: int = 7) -> Trained:
    """Trained up to a step, cut off, and resumed by the same processes from the newest checkpoint."""
    from tenor.training.checkpoint import list_checkpoints, verify_checkpoint
    from training_tasks import Cut

    first = task(name)
    with suppress(Cut):
        trained(first, stop_after=stop_after)
    again = task(name)
    newest = verify_checkpoint(list_checkpoints(first.checkpoints)[-1]) if again.processes.is_main else None
    return trained(again, newest)


def broken(task: Any) -> Trained:
    """Trained with weights that become NaN in the last process alone; notes what ended each process."""
    import torch

    from tenor.errors import TenorError
    from tenor.training.loop import Callbacks
    from training_tasks import run_task

    def on_step(state: Any) -> None:
        if state.step == 2 and task.processes.rank == task.processes.count - 1:
            with torch.no_grad():
                next(p for p in task.model.parameters() if p.requires_grad).fill_(torch.nan)

    try:
        run_task(task, callbacks=Callbacks(on_step=on_step))
    except TenorError as error:
        return Trained({}, {"errors": task.processes.gather(str(error))})
    raise AssertionError("the loss was finite")


def main(arguments: Sequence[str]) -> None:
    """One of the processes: all cases, one after the other."""
    import torch

    from tenor.training import spread
    from tenor.training.processes import joined

    folder, model = (Path(argument) for argument in arguments)
    torch.set_num_threads(1)
    with joined() as processes:
        for case in CASES:
            # Replicas need more work than these rows give; there they are wanted all the same.
            spread.LEAST_TOKENS = 4 if case == "replicas" else 256
            result = trained(case_task(case, folder, model, processes))
            if processes.is_main:
                write(folder, case, result)
        ended = broken(case_task("plain", folder / "broken", model, processes))
        if processes.is_main:
            write(folder, "broken", ended)
        for name, dropout, threads in (("exact", 0.0, 1), ("dropout", 0.3, 1), ("replicas with dropout", 0.3, 2)):
            spread.LEAST_TOKENS = 4 if threads == 2 else 256

            def task(end: str, name: str = name, dropout: float = dropout, threads: int = threads) -> Any:
                # Checkpoints of the cut run stay apart from those of the whole one.
                return case_task("plain", folder / name / end, model, processes, dropout, threads=threads)

            whole, cut = trained(task("whole")), resumed(folder / name, "cut", task)
            if processes.is_main:
                write(folder, f"{name}, whole", whole)
                write(folder, f"{name}, resumed", cut)


if __name__ == "__main__":
    main(sys.argv[1:])
