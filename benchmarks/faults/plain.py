"""One program of the bench as a plain program: nothing in it calls Tenor's checks.

python -m faults.plain KIND NAME SEED FOLDER   (KIND: fault, control)

It trains, evaluates with scikit-learn's metrics, prints the results, and saves the weights below FOLDER.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from faults.catalogue import BY_NAME, CONTROLS_BY_NAME
from faults.in_trainer import TrainerProgram, healthy_trainer
from faults.jobs import make_encoders
from faults.judge_trainer import run
from faults.program import Program, build, evaluate, healthy, train, write_predictions


class Silent:
    """Takes what the loop would tell a watchdog."""

    def step(self, loss: float, *, grad_norm: float | None = None) -> None:
        """Nothing."""

    def validation(self) -> None:
        """Nothing."""


def program_of(kind: str, name: str, seed: int) -> Any:
    """The program of a fault or of a control."""
    program: Any = (healthy_trainer if name.startswith("trainer_") else healthy)(make_encoders(), seed)
    return CONTROLS_BY_NAME[name].change(program) if kind == "control" else BY_NAME[name].inject(program)


def in_float16(program: Program) -> Program:
    """The program with every forward pass under autocast to float16."""
    plain = program.logits_of

    def logits(model: Any, inputs: Any) -> Any:
        with torch.autocast("cpu", torch.float16):
            return plain(model, inputs)

    return replace(program, logits_of=logits)


def run_loop(program: Program, folder: Path) -> Any:
    """Train and evaluate; returns the model."""
    program = in_float16(program) if program.precision == "fp16" else program
    objects = build(program)
    train(program, objects, Silent())
    for split in ("validation", "test"):
        evaluation = evaluate(program, objects, split, Silent())
        print(split, "reported accuracy", evaluation.accuracy)
        print(split, "accuracy", accuracy_score(evaluation.labels, evaluation.predicted))
        print(confusion_matrix(evaluation.labels, evaluation.predicted))
        try:
            print("loss", log_loss(evaluation.labels, evaluation.probabilities))
        except ValueError as error:
            print("loss", error)
        write_predictions(evaluation, folder)
    return objects.model


def run_trainer(program: TrainerProgram, folder: Path) -> Any:
    run(program, folder / "output", [])
    program.afterwards(folder / "output")
    return None


def main() -> None:
    kind, name, seed, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    program = program_of(kind, name, seed)
    model = (run_trainer if isinstance(program, TrainerProgram) else run_loop)(program, folder)
    if model is not None:
        weights = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
